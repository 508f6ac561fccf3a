"""Counters equal the truth: with several web processes that are recycled and killed, and a worker that dies midway."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import psycopg2
import pytest

from config.embedded_postgres import SUPERUSER
from healthcheck.metrics.tallies import Tallies
from tests.live import LOGIN, ROOT, Database, Program, Site, in_parallel, manage, own_database, running_site, wait_until

PROCESSES = 4
WAVE = 200
RECYCLED_AFTER = 40  # requests
GROUPS = 150  # more than one batch of records
LOOP = """
import time
from healthcheck.metrics import prometheus
for turn in range(400):
    begun = time.monotonic()
    lines = prometheus.exposition().decode().splitlines()
    up = next(line for line in lines if line.startswith("gatehouse_up "))[-3]
    known = any(line.startswith("gatehouse_database_lock_waits ") for line in lines)
    print(f"turn up={up} known={known} took={time.monotonic() - begun:.3f}", flush=True)
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


def answered(counted: Tallies) -> float:
    found = counted.of_host().get(("request", "accounts/login/", "GET", "2xx"), [])
    return sum(count for count, _seconds in found)


def test_requests_over_four_processes_that_are_recycled_and_killed_add_up(database: Database, tmp_path: Path) -> None:
    environment = database.environment | {
        "HEALTH_METRICS_DIRECTORY": str(tmp_path),
        "GUNICORN_CMD_ARGS": f"--max-requests {RECYCLED_AFTER} --max-requests-jitter 10",
    }
    with running_site(environment, processes=PROCESSES) as site:
        before = site.processes()
        wave(site)
        killed = site.processes()
        for process in killed:
            os.kill(process, signal.SIGKILL)
        wait_until(lambda: len(site.processes() - killed) == PROCESSES, "others take their place")
        wave(site)
        after = site.processes()
        counted = Tallies()
        counted.share(tmp_path)
        assert answered(counted) == 2 * WAVE
        counted.keep_to_oneself()
    assert not before & after  # every one was recycled or killed
    assert len(list(tmp_path.glob("slot-*.db"))) <= 2 * PROCESSES + 2


def wave(site: Site) -> None:
    answers = in_parallel([partial(some, site, WAVE // 8) for _thread in range(8)])
    assert [status for statuses in answers for status in statuses] == [200] * WAVE


def some(site: Site, count: int) -> list[int]:
    return [site.browser().get(LOGIN).status for _time in range(count)]


def records(database: Database) -> float:
    statement = "SELECT value FROM healthcheck_figure WHERE name = 'audit_records' AND labels = %s"
    rows = database.rows(statement, '{"resource": "auth.group", "action": "create"}')
    return float(rows[0][0]) if rows else 0.0


def test_records_are_counted_once_though_the_worker_is_killed_in_the_middle(database: Database) -> None:
    work_once(database)  # from now on
    before = database.value("SELECT count(*) FROM auditlog_record WHERE action = 'create' AND resource = 'auth.group'")
    add_groups(database, "first", 1)
    work_once(database)
    assert records(database) == 1
    with holding_figures(database) as release:
        add_groups(database, "more", GROUPS)
        with worker(database) as running:
            wait_until(lambda: waits(database), "the worker is in the middle of it")
            os.killpg(running.pid, signal.SIGKILL)
            running.process.wait()
        release()
    wait_until(lambda: not sessions(database), "what the dead worker had begun is undone")
    assert records(database) == 1
    work_once(database)
    assert records(database) == 1 + GROUPS
    total = database.value("SELECT count(*) FROM auditlog_record WHERE action = 'create' AND resource = 'auth.group'")
    assert total - before == 1 + GROUPS


def add_groups(database: Database, name: str, count: int) -> None:
    database.rows("INSERT INTO auth_group (name) SELECT %s || n FROM generate_series(1, %s) n", name, count)


def work_once(database: Database) -> None:
    done = manage("worker", "--once", environment=database.environment)
    assert done.returncode == 0, done.stderr


def worker(database: Database) -> Program:
    return Program(f"{ROOT}/manage.py", "worker", "--interval=0.1", environment=database.environment)


def waits(database: Database) -> bool:
    return bool(database.value("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def sessions(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gatehouse'"))


@contextmanager
def holding_figures(database: Database) -> Iterator[Callable[[], None]]:
    """Keep others from changing the figures of records; yields what lets them."""
    host = str(database.cluster.socket_directory())
    with closing(psycopg2.connect(host=host, dbname=database.name, user=SUPERUSER)) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM healthcheck_figure WHERE name = 'audit_records' FOR UPDATE")
        yield connection.rollback


def test_the_text_for_prometheus_comes_within_its_second_while_the_database_hangs(database: Database) -> None:
    def turns() -> list[str]:
        return [line for line in loop.says().splitlines() if line.startswith("turn ")]

    with Program(f"{ROOT}/manage.py", "shell", "-c", LOOP, environment=database.environment) as loop:
        wait_until(lambda: any("up=1 known=True" in turn for turn in turns()), "it is well")
        with database.frozen():
            wait_until(lambda: "up=0 known=False" in turns()[-1], "it is seen")
            seen = len(turns())
            wait_until(lambda: len(turns()) >= seen + 4, "it is asked again")
        wait_until(lambda: "up=1 known=True" in turns()[-1], "it is well again")
        took = [float(turn.rpartition("=")[2]) for turn in turns()]
        loop.end(signal.SIGKILL)
    assert max(took[1:]) < 1.3, took  # the first makes the process ready, too
