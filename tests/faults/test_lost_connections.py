"""Sessions are killed, and answers lost, in the middle of what people and commands do: nobody sees it, nothing is
done twice."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import psycopg2
import pytest

from config.embedded_postgres import SOCKET_NAME
from tests.live import (
    LOGIN,
    Answer,
    Database,
    Site,
    half_accounts,
    manage,
    open_signup,
    open_signups,
    own_database,
    running_site,
    wait_until,
)

PEOPLE = 120
PAUSE = 0.5  # seconds between two kills, in which a transaction has to get through
# All of them, in a moment in which one is at work: between two transactions nobody would notice.
SESSIONS = """
WITH ours AS MATERIALIZED (SELECT pid, state FROM pg_stat_activity WHERE application_name = 'gatehouse')
SELECT pg_terminate_backend(pid) FROM ours WHERE EXISTS (SELECT FROM ours WHERE state <> 'idle')
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


@pytest.fixture(scope="module")
def site(database: Database) -> Iterator[Site]:
    with running_site(database.environment) as running:
        yield running


def is_welcome(answer: Answer) -> bool:
    return (answer.status, answer.location) == (303, LOGIN)


def accounts(database: Database, name: str) -> int:
    return int(database.value("SELECT count(*) FROM accounts_user WHERE username LIKE %s", name))


def test_a_signup_whose_session_is_killed_as_it_writes_makes_one_account(site: Site, database: Database) -> None:
    form = open_signup(site, "midway", "midway@lost.example")
    blocker = psycopg2.connect(host=str(database.cluster.socket_directory()), dbname=database.name, user="postgres")
    with ThreadPoolExecutor(1) as threads, contextlib.closing(blocker):
        blocker.cursor().execute("LOCK TABLE accounts_user IN EXCLUSIVE MODE")
        sending = threads.submit(form.send)
        waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s"
        wait_until(lambda: database.rows(waiting, "%INSERT INTO %accounts_user%"), "the signup writes")
        database.rows("SELECT pg_terminate_backend(%s)", database.value(waiting, "%INSERT INTO %accounts_user%"))
        blocker.rollback()
        assert is_welcome(sending.result(60))
    assert accounts(database, "midway") == 1
    records = "SELECT actor_kind, reason FROM auditlog_record WHERE action = 'create' AND object_label = 'midway'"
    assert database.rows(records) == [("anonymous", "signup")]
    assert half_accounts(database) == []


def test_while_all_sessions_are_killed_again_and_again_every_signup_gets_through(
    site: Site, database: Database
) -> None:
    forms = open_signups(site, [(f"storm{number}", f"storm{number}@lost.example") for number in range(PEOPLE)])
    over, before = Event(), site.program.says().count("database.retried")

    def kill() -> None:
        while not over.wait(PAUSE):
            while not (database.rows(SESSIONS) or over.is_set()):
                pass

    killer = Thread(target=kill)
    killer.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda form: form.send(), forms))
    finally:
        over.set()
        killer.join()
    assert all(is_welcome(answer) for answer in answers), [answer.status for answer in answers]
    assert site.program.says().count("database.retried") > before, "there was no storm"
    assert accounts(database, "storm%") == PEOPLE
    assert half_accounts(database) == []


class Losing:
    """Stands between a program and the database; when armed, it cuts the line in place of the answer to a COMMIT."""

    def __init__(self, database: Database) -> None:
        self._server = f"{database.cluster.socket_directory()}/{SOCKET_NAME}"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.environment = {
            name: address.replace(
                f"?host={database.cluster.socket_directory()}", "?sslmode=disable&gssencmode=disable"
            ).replace("@/", f"@127.0.0.1:{self._listener.getsockname()[1]}/")
            for name, address in database.environment.items()
        }
        self.armed, self.lost = False, 0
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                program, _address = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._server)
                Thread(target=self._forward, args=[program, server], daemon=True).start()
                Thread(target=self._forward, args=[server, program, b"COMMIT\0"], daemon=True).start()

    def _forward(self, here: socket.socket, there: socket.socket, word: bytes | None = None) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                if self.armed and word and word in data:
                    self.armed, self.lost = False, self.lost + 1
                    break
                there.sendall(data)
        for end in (here, there):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def line(database: Database) -> Iterator[Losing]:
    with contextlib.closing(Losing(database)) as losing:
        yield losing


def test_a_signup_that_was_committed_and_never_told_is_welcomed_once(database: Database, line: Losing) -> None:
    with running_site(line.environment, processes=1) as site:
        form = open_signup(site, "untold", "untold@lost.example")
        line.armed = True
        assert is_welcome(form.send())
    assert (line.lost, accounts(database, "untold")) == (1, 1)
    assert half_accounts(database) == []


def test_a_command_whose_user_was_committed_and_never_told_prints_that_user(database: Database, line: Losing) -> None:
    line.armed = True
    done = manage("create_user", "silent", "silent@lost.example", "--json", environment=line.environment)
    assert done.returncode == 0, done.stderr
    (user_id,) = database.rows("SELECT id::text FROM accounts_user WHERE username = 'silent'")[0]
    assert (json.loads(done.stdout)["id"], line.lost) == (user_id, 1)
