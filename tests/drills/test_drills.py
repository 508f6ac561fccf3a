"""Drills: what breaks under load, while people sign up and an administrator edits, and what is left afterwards.

Everything that was acknowledged is there; no account, invitation or record is half or double; whoever was not served
got the page for it; and the site goes on without a restart of ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from config.embedded_postgres import SUPERUSER
from tests.drills.clock import LIBRARY, new_clock
from tests.drills.conftest import House, new_worker
from tests.live import LOGIN, Database, Site, manage, running_site, wait_until

WRITERS = 5  # who write users; the sixth may be between two forms
AHEAD = 160  # hours: another week of the audit trail, nearly always, and less than what ends everybody's session
AWAY = {"database": "no_answer", "migrations": "unknown"}  # what the health page says of a database that serves nobody


def tells_of_an_outage(house: House) -> bool:
    """Whatever else it says: on a busy machine answers are slow besides."""
    status, codes = house.health()
    return status == 503 and AWAY.items() <= codes.items()


def test_kill_9_of_postgresql(house: House) -> None:
    with house.drill("killed") as load:
        house.database.kill()
        house.database.cluster.ensure_running()  # as systemd would
        load.recovers(time.monotonic())


def test_kill_9_of_a_web_process_in_the_middle_of_its_transactions(house: House) -> None:
    with house.drill("web") as load:
        before = house.site.processes()
        with locked_users(house.database):
            wait_until(lambda: waiting(house.database) >= WRITERS, "they wait in their transactions")
            doomed = max(before, key=lambda pid: clients(pid, house.site))
            os.kill(doomed, signal.SIGKILL)
            wait_until(lambda: load.notes.cut_while_sending, "somebody has lost the answer")
        load.recovers(time.monotonic())
        wait_until(lambda: len(house.site.processes()) == len(before), "another takes its place")
        assert before - house.site.processes() == {doomed}


@contextlib.contextmanager
def locked_users(database: Database) -> Iterator[None]:
    """Keep everybody from writing a user; all else goes on."""
    host = str(database.cluster.socket_directory())
    with contextlib.closing(psycopg2.connect(host=host, dbname=database.name, user=SUPERUSER)) as connection:
        connection.cursor().execute("LOCK TABLE accounts_user IN EXCLUSIVE MODE")
        yield


def waiting(database: Database) -> int:
    return int(database.value("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted"))


def clients(pid: int, site: Site) -> int:
    """How many connections from browsers the process holds."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ours = {f"socket:[{line[9]}]" for line in lines if line[1].endswith(f":{site.port:04X}") and line[3] == "01"}
    held = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed just now
            held += os.readlink(descriptor) in ours
    return held


def test_kill_9_of_the_worker_with_its_sampler(house: House) -> None:
    with house.drill("worker") as load:
        dead = house.workers.pop()
        dead.process.kill()
        dead.process.wait()
        house.database.rows("UPDATE healthcheck_reading SET at = at - interval '10 minutes'")
        wait_until(lambda: house.health()[1].get("worker") == "not_run", "the health page says that nobody looks")
        assert house.health()[0] == 200  # it is a warning: the site itself is well
        house.start_worker()
        wait_until(lambda: not house.health()[1], "everything is looked at again")
        load.recovers(time.monotonic())
    wait_until(lambda: not unsent(house.database), "all mails go out")


def unsent(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'READY'"))


def test_a_full_disk(house: House) -> None:
    """First tables cannot grow, then the log cannot: PostgreSQL itself may end of that, and is started again."""
    if house.disk is None:
        pytest.skip("a small disk cannot be mounted here")
    filler = house.disk / "filler"
    with house.drill("full") as load:
        try:
            fill(filler)
            wait_until(lambda: load.notes.busy, "somebody is told")
            told = json.loads(manage("health", "--run", "--json", environment=house.environment).stdout)
            assert {each["check"]: each["code"] for each in told["checks"]}["disk"] == "filling"
            wait_until(lambda: is_out_of_log(house.database), "the log is full")
            wait_until(lambda: tells_of_an_outage(house), "the health page tells")
        finally:
            filler.unlink(missing_ok=True)
        house.database.cluster.ensure_running()
        load.recovers(time.monotonic())


def fill(path: Path) -> None:
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65536))


def is_out_of_log(database: Database) -> bool:
    """Begin another file of the log; whether there is no room for it."""
    try:
        database.rows("SELECT pg_switch_wal()")
    except psycopg2.Error:
        return True
    return False


def test_exhausted_connections(house: House) -> None:
    with house.drill("crowded") as load:
        with house.database.no_connection_left():
            served = len(load.notes.done["signup"])
            told = len(load.notes.busy)
            wait_until(lambda: tells_of_an_outage(house), "the health page tells")
            wait_until(lambda: len(load.notes.busy) > told + WRITERS, "everybody is told")
            assert house.site.probe("ready").status == 503
            assert load.notes.slowest < 3
            assert len(load.notes.done["signup"]) == served
        load.recovers(time.monotonic())


def test_a_clock_that_jumps(house: House) -> None:
    """That of PostgreSQL, of a web process and of a worker: days ahead, and back to before it began."""
    if LIBRARY is None:
        pytest.skip("there is no libfaketime here")
    with new_clock() as clock:
        clock.restart(house.database)
        environment = house.environment | clock.environment
        with running_site(environment, processes=1) as site, new_worker(environment) as worker:
            processes = site.processes()
            with house.drill("clock", site) as load:
                wait_until(lambda: try_to_sign_in(site, "mona") == 429, "sign-in is locked")
                load.sessions_end = True
                for hours in (AHEAD, -1):
                    clock.jump(hours)
                    wait_until(lambda hours=hours: abs(hours_ahead(house.database) - hours) < 0.1, "it has jumped")  # type: ignore[misc]
                    load.recovers(time.monotonic())
                assert load.notes.signed_out  # nobody of the staff stays signed in for a day without a request
                assert try_to_sign_in(site, "mona") == 429
                wait_until(lambda: not house.health()[1], "everything is looked at")
            assert site.processes() == processes
            assert worker.process.poll() is None
        house.database.kill()
        house.database.cluster.ensure_running()
    outside = "SELECT count(*) FROM auditlog_record_default"
    assert house.database.value(outside) == 0  # the later week had its partition


def hours_ahead(database: Database) -> float:
    return (float(database.value("SELECT extract(epoch FROM clock_timestamp())")) - time.time()) / 3600


def try_to_sign_in(site: Site, name: str) -> int:
    browser = site.browser()
    return browser.post(LOGIN, browser.open_form(LOGIN) | {"username": name, "password": "Wrong-1-Password"}).status


def test_a_dead_replica_and_one_that_hangs(house: House) -> None:
    with house.database.standby() as standby:
        environment = house.environment | {"DATABASE_REPLICA_URLS": standby.url}
        with running_site(environment, processes=1) as site:
            processes = site.processes()
            with house.drill("replica", site) as load:
                standby.kill()
                wait_until(lambda: noted(site, "left_out") == 1, "it is left out")
                load.flows()
                standby.start()
                wait_until(lambda: noted(site, "taken_back") == 1, "it is taken back")
                with standby.frozen():
                    wait_until(lambda: noted(site, "left_out") == 2, "it is left out")
                    load.flows()
                wait_until(lambda: noted(site, "taken_back") == 2, "it is taken back")
                load.flows()
            assert load.notes.busy == load.notes.cut == []
            assert site.processes() == processes


def noted(site: Site, event: str) -> int:
    return site.program.says().count(f'"event": "replica.{event}"')
