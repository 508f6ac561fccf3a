"""The worker when mail servers refuse, workers die and the database restarts: a real one, real SMTP."""

from __future__ import annotations

import json
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import pytest
from django_tasks_db.models import DBTaskResult

from config.worker import DATABASE_DELAY, MOST_ATTEMPTS
from tests.live import PATIENCE, ROOT, Database, Program, free_port, manage, own_database, wait_until

JOBS = DBTaskResult._meta.db_table
ENQUEUE = """
from accounts import services
from accounts.models import User
for number in range({count}):
    services.add_user(User(username=f"{name}-{{number}}", email=f"{name}-{{number}}@example.com"), acting_user=None)
"""


class MailServer(socketserver.ThreadingTCPServer):
    """Takes every mail, once `open` is set; until then it lets the `waiting` senders wait for its answer."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        self.recipients: list[str] = []
        self.open = Event()
        self.open.set()
        self.waiting: list[str] = []
        super().__init__(("127.0.0.1", port), _MailSession)


class _MailSession(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._say("220 ready")
        recipients: list[str] = []
        while line := self.rfile.readline().decode().strip():
            word = line.split()[0].upper()
            if word == "RCPT":
                recipients.append(line.partition("<")[2].partition(">")[0])
            if word == "DATA":
                self._say("354 go on")
                self._take(recipients)
            self._say("221 bye" if word == "QUIT" else "250 done")

    def _take(self, recipients: list[str]) -> None:
        while self.rfile.readline() not in (b".\r\n", b""):
            pass
        self.server.waiting += recipients
        assert self.server.open.wait(PATIENCE)
        self.server.recipients += recipients

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


@contextmanager
def mail_server(port: int) -> Iterator[MailServer]:
    with MailServer(port) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server
        finally:
            server.open.set()
            server.shutdown()


@pytest.fixture(scope="module")
def shared_database() -> Iterator[Database]:
    with own_database() as made:
        made.be_durable()  # or a kill takes back that a job was begun
        yield made


@pytest.fixture
def database(shared_database: Database) -> Database:
    on_jobs(shared_database, "TRUNCATE {jobs}")
    shared_database.rows("TRUNCATE accounts_user CASCADE")
    return shared_database


@pytest.fixture
def port() -> int:
    """Where the worker looks for the mail server; nobody is there unless a test puts one."""
    return free_port()


def environment(database: Database, port: int) -> dict[str, str]:
    return database.environment | {"EMAIL_URL": f"smtp://127.0.0.1:{port}"}


def add_people(database: Database, name: str, count: int = 1) -> None:
    """Add users without a password: each is owed one mail."""
    done = manage("shell", "-c", ENQUEUE.format(name=name, count=count), environment=database.environment)
    assert done.returncode == 0, done.stderr


def work_once(database: Database, port: int) -> str:
    """Let a worker do what is ready; returns what it said."""
    done = manage("worker", "--once", environment=environment(database, port))
    assert done.returncode == 0, done.stderr
    return done.stderr


def worker(database: Database, port: int) -> Program:
    arguments = [f"{ROOT}/manage.py", "worker", "--interval=0.1"]
    return Program(*arguments, environment=environment(database, port))


def on_jobs(database: Database, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    return database.rows(statement.replace("{jobs}", JOBS), *parameters)


def states(database: Database) -> list[str]:
    return [state for (state,) in on_jobs(database, "SELECT status FROM {jobs} ORDER BY enqueued_at")]


def seconds_to_next_try(database: Database) -> float:
    return float(on_jobs(database, "SELECT extract(epoch FROM run_after - finished_at) FROM {jobs}")[0][0])


def be_due(database: Database) -> None:
    on_jobs(database, "UPDATE {jobs} SET run_after = now()")


def test_a_refused_mail_is_tried_again_after_growing_pauses_until_it_is_taken(database: Database, port: int) -> None:
    add_people(database, "patient")
    for shortest, longest in ((8, 12), (24, 36), (72, 108)):
        assert '"event": "job.failed"' in work_once(database, port)
        assert states(database) == ["READY"]
        assert shortest - 1 < seconds_to_next_try(database) < longest + 1
        assert "job.failed" not in work_once(database, port)  # not due
        be_due(database)
    with mail_server(port) as server:
        assert '"event": "mail.sent"' in work_once(database, port)
        assert server.recipients == ["patient-0@example.com"]
    assert states(database) == ["SUCCESSFUL"]


def test_a_job_is_given_up_aloud_after_its_last_attempt(database: Database, port: int) -> None:
    add_people(database, "hopeless")
    earlier = json.dumps([f"worker {number}" for number in range(1, MOST_ATTEMPTS)])
    on_jobs(database, "UPDATE {jobs} SET worker_ids = %s", earlier)
    said = work_once(database, port)
    assert states(database) == ["FAILED"]
    assert said.count('"event": "job.given_up"') == 1
    assert "ConnectionRefusedError" in said
    be_due(database)
    assert "job" not in work_once(database, port)
    assert states(database) == ["FAILED"]


def test_what_a_killed_worker_had_begun_is_done_by_another(database: Database, port: int) -> None:
    add_people(database, "orphan")
    with mail_server(port) as server:
        server.open.clear()
        with worker(database, port) as doomed:
            wait_until(lambda: server.waiting, "the mail is on its way")
            doomed.process.kill()
            doomed.process.wait()
        assert states(database) == ["RUNNING"]
        work_once(database, port)
        assert states(database) == ["RUNNING"]  # for all that anybody knows it is still being done
        on_jobs(database, "UPDATE {jobs} SET started_at = started_at - interval '10 minutes'")
        server.open.set()
        wait_until(lambda: server.recipients, "the first sending has ended")
        server.recipients.clear()
        assert '"event": "jobs.requeued"' in work_once(database, port)
        assert server.recipients == ["orphan-0@example.com"]
    assert states(database) == ["SUCCESSFUL"]


def test_two_workers_send_each_mail_once(database: Database, port: int) -> None:
    add_people(database, "crowd", count=40)
    with mail_server(port) as server:
        server.open.clear()
        with worker(database, port) as first, worker(database, port) as second:
            wait_until(lambda: len(server.waiting) == 2, "both are at work")
            server.open.set()
            wait_until(lambda: states(database) == ["SUCCESSFUL"] * 40, "all mails are sent")
            assert first.end() == second.end() == 0
        assert sorted(server.recipients) == sorted(f"crowd-{number}@example.com" for number in range(40))
    assert on_jobs(database, "SELECT max(jsonb_array_length(worker_ids)) FROM {jobs}")[0][0] == 1


def test_a_worker_outlives_a_restart_of_the_database(database: Database, port: int) -> None:
    with mail_server(port) as server, worker(database, port) as survivor:
        add_people(database, "before")
        wait_until(lambda: states(database) == ["SUCCESSFUL"], "the first mail is sent")
        database.kill()
        survivor.wait_for('"event": "worker.database_away"', seconds=10 * DATABASE_DELAY)
        database.cluster.ensure_running()
        add_people(database, "after")
        wait_until(lambda: states(database) == ["SUCCESSFUL"] * 2, "the second mail is sent")
        assert survivor.end() == 0
    assert server.recipients == ["before-0@example.com", "after-0@example.com"]


def test_sigterm_lets_the_job_in_hand_finish_and_begins_no_other(database: Database, port: int) -> None:
    add_people(database, "last", count=2)
    with mail_server(port) as server, worker(database, port) as leaving:
        server.open.clear()
        wait_until(lambda: server.waiting, "a mail is on its way")
        leaving.process.terminate()
        server.open.set()
        assert leaving.process.wait(30) == 0
        assert server.recipients == ["last-0@example.com"]
    assert states(database) == ["SUCCESSFUL", "READY"]


def test_sigterm_ends_an_idle_worker_at_once(database: Database, port: int) -> None:
    with worker(database, port) as idle:
        add_people(database, "idle")
        wait_until(lambda: states(database) == ["READY"] and "job.failed" in idle.says(), "it has worked")
        assert idle.end(patience=5) == 0
