"""The history while databases and workers are killed: two real samplers, whose minutes have three seconds."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise

import pytest

from tests.live import ROOT, Database, Program, manage, own_database, wait_until

MINUTE = 3.0  # longer than a look at a server that hangs
LOOK_EVERY = 0.2
SEEN_WITHIN = timedelta(seconds=LOOK_EVERY + 1.5 + 1.0)  # a look, its questions, a loaded machine
SAMPLER = f"""
import signal, sys, django
django.setup()
from config import lifeline
from healthcheck.sampler import Sampler
lifeline.hold()
sampler = Sampler(look_every={LOOK_EVERY}, minute={MINUTE})
signal.signal(signal.SIGTERM, lambda *details: sampler._stopped.set())
sampler.run()
"""


@pytest.fixture(scope="module")
def shared_database() -> Iterator[Database]:
    with own_database() as made:
        made.be_durable()  # or a kill takes back what was written
        yield made


@pytest.fixture
def database(shared_database: Database) -> Database:
    shared_database.cluster.ensure_running()
    for table in ("sample", "connectionsample", "incident", "reading"):
        shared_database.rows(f"TRUNCATE healthcheck_{table}")
    return shared_database


@contextmanager
def sampling(database: Database, host: str) -> Iterator[Program]:
    environment = database.environment | {"DJANGO_SETTINGS_MODULE": "config.settings", "HEALTH_HOST": host}
    with Program("-c", SAMPLER, environment=environment) as program:
        yield program


def holders(database: Database) -> list[int]:
    """The sessions that hold a lock of the session, of all that samplers have."""
    return [
        pid
        for (pid,) in database.rows(
            "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)"
            " WHERE locktype = 'advisory' AND granted AND application_name = 'gatehouse-sampler'"
        )
    ]


def samples(database: Database, status: str = "%") -> list[datetime]:
    return [at for (at,) in database.rows("SELECT at FROM healthcheck_sample WHERE status LIKE %s ORDER BY at", status)]


def goes_on(database: Database, since: datetime) -> bool:
    return samples(database)[-1] > since + timedelta(seconds=MINUTE / 2)


def readings_of_hosts(database: Database) -> set[str]:
    return {host for (host,) in database.rows("SELECT host FROM healthcheck_reading WHERE check_name = 'disk'")}


def check_samples(database: Database, since: datetime) -> None:
    """Exactly one a minute, from `since` until now: on a whole minute, no minute missing."""
    found = samples(database)
    assert all(at.timestamp() % MINUTE == 0 for at in found)
    assert {later - earlier for earlier, later in pairwise(found)} == {timedelta(seconds=MINUTE)}
    assert found[0] <= since
    assert found[-1] >= datetime.now(UTC) - timedelta(seconds=2 * MINUTE)


def outages(database: Database) -> list[tuple[datetime, datetime | None]]:
    return database.rows(
        "SELECT began_at, ended_at FROM healthcheck_incident WHERE check_name = 'database' ORDER BY began_at"
    )


def test_an_outage_is_filled_in_and_a_killed_worker_is_replaced(database: Database) -> None:
    with sampling(database, "one") as one, sampling(database, "two"):
        wait_until(lambda: readings_of_hosts(database) == {"one", "two"} and samples(database), "both are at work")
        begun = samples(database)[0]

        killed = datetime.now(UTC)
        database.kill()
        time.sleep(1.5 * MINUTE)
        database.cluster.ensure_running()
        back = datetime.now(UTC)
        wait_until(lambda: any(ended for _began, ended in outages(database)), "the outage is written")
        ((began, ended),) = outages(database)
        assert killed - timedelta(seconds=1) <= began <= killed + SEEN_WITHIN
        assert ended is not None and back - timedelta(seconds=1) <= ended <= back + SEEN_WITHIN
        failed = samples(database, "fail")
        assert abs(len(failed) - (ended - began).total_seconds() / MINUTE) <= 1.5

        wait_until(lambda: len(holders(database)) == 1, "one of them holds the lock")
        one.process.send_signal(signal.SIGKILL)
        one.process.wait()
        alone = datetime.now(UTC)
        wait_until(partial(goes_on, database, alone), "the other goes on")
        check_samples(database, begun)
        assert database.value("SELECT count(*) FROM healthcheck_incident WHERE check_name = 'database'") == 1


def test_a_frozen_database_and_a_frozen_worker_cost_no_sample(database: Database) -> None:
    with sampling(database, "one") as one, sampling(database, "two") as two:
        wait_until(lambda: readings_of_hosts(database) == {"one", "two"} and samples(database), "both are at work")
        begun = samples(database)[0]
        with database.frozen():
            frozen = datetime.now(UTC)
            time.sleep(1.5 * MINUTE)
        thawed = datetime.now(UTC)
        wait_until(lambda: any(ended for _began, ended in outages(database)), "the outage is written")
        ((began, ended),) = outages(database)
        assert frozen - timedelta(seconds=1) <= began <= frozen + SEEN_WITHIN
        assert ended is not None and thawed - timedelta(seconds=1) <= ended <= thawed + SEEN_WITHIN

        # A worker that hangs keeps the lock for a moment only. One of the two has it.
        for hung in (one, two):
            hung.process.send_signal(signal.SIGSTOP)
            try:
                stopped = datetime.now(UTC)
                wait_until(partial(goes_on, database, stopped), "the other goes on")
            finally:
                hung.process.send_signal(signal.SIGCONT)
        check_samples(database, begun)
        assert one.end(patience=5) == two.end(patience=5) == 0
    assert holders(database) == []


def test_a_worker_runs_the_checks_and_ends_at_once_also_when_the_database_hangs(database: Database) -> None:
    arguments = [f"{ROOT}/manage.py", "worker", "--interval=0.1"]
    looked_at = {"audit", "worker", "cache", "response", "connections"}

    def readings() -> dict[str, str]:
        return dict(database.rows("SELECT check_name, status || ' ' || code FROM healthcheck_reading"))

    with Program(*arguments, environment=database.environment) as worker:
        wait_until(lambda: looked_at <= readings().keys(), "all checks have run")
        assert len(samples(database)) >= 1
        found = readings()
        assert {found[name] for name in looked_at} == {"pass ok"}, found
        with database.frozen():
            began = time.monotonic()
            told = manage("health", "--run", environment=database.environment)
            assert time.monotonic() - began < 15  # with the start of Python; what waits longest gives up after five
            assert (told.returncode, "Traceback" in told.stdout + told.stderr) == (1, False)
            assert re.search(r"^database +fail +no_answer", told.stdout, re.M)
            assert worker.end(patience=10) == 0
        assert "Traceback" not in worker.says()
