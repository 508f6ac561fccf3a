"""The client-side deadline: charged per unit of work, on a real server."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic, sleep

import pytest
from django.db import InterfaceError, OperationalError, close_old_connections, connection, transaction

from config.database import deadline
from config.database.deadline import blocking_copy, database_budget, remaining_seconds

pytestmark = pytest.mark.django_db(transaction=True)


def run(query: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(query)


def test_a_slow_answer_ends_with_the_budget() -> None:
    close_old_connections()
    started = monotonic()
    with pytest.raises(OperationalError, match="deadline"), database_budget(0.2):
        run("SELECT pg_sleep(5)")
    assert 0.2 <= monotonic() - started < 2


def test_the_budget_is_spent_over_all_queries_together() -> None:
    with database_budget(0.5):
        run("SELECT pg_sleep(0.3)")
        with pytest.raises(OperationalError, match="deadline"):
            run("SELECT pg_sleep(0.3)")


def test_a_budget_that_is_spent_when_an_iteration_ends_is_told_as_in_every_other_query() -> None:
    """Django lets the driver's own error out there, which no page knows."""
    with pytest.raises(OperationalError, match="deadline"):
        read_too_slowly()


def read_too_slowly() -> None:
    with transaction.atomic(), database_budget(1):
        cursor = connection.chunked_cursor()
        cursor.execute("SELECT 1")
        cursor.fetchall()
        sleep_of_the_database(1.1)
        cursor.close()


def sleep_of_the_database(seconds: float) -> None:
    """Wait at the expense of the budget, as for an answer."""
    with deadline.charged():
        sleep(seconds)


def test_a_spent_budget_fails_the_next_query_at_once() -> None:
    with database_budget(0.1):
        with pytest.raises(OperationalError):
            run("SELECT pg_sleep(5)")
        started = monotonic()
        with pytest.raises((OperationalError, InterfaceError)):
            run("SELECT 1")
        assert monotonic() - started < 0.1


def test_time_spent_elsewhere_costs_nothing() -> None:
    with database_budget(0.5):
        run("SELECT 1")
        sleep(0.6)
        run("SELECT 1")
        assert (remaining_seconds() or 0) > 0.3


def test_without_a_budget_nothing_is_bounded() -> None:
    assert remaining_seconds() is None
    run("SELECT pg_sleep(0.1)")


def test_the_connection_works_again_after_a_deadline() -> None:
    with pytest.raises(OperationalError), database_budget(0.05):
        run("SELECT pg_sleep(5)")
    close_old_connections()  # as every request does when it begins
    run("SELECT 1")


def test_after_a_greeting_without_an_answer_every_other_try_is_brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadline, "AWAY_SECONDS", 0.1)
    monkeypatch.setattr(deadline, "DOUBT_SECONDS", 0.2)
    monkeypatch.setattr(deadline, "_is_doubted", False)

    def seconds_of_a_try() -> float:
        close_old_connections()
        connection.ensure_connection()
        sleep(0.1)
        started = monotonic()
        with pytest.raises((OperationalError, InterfaceError)), database_budget(0.6), deadline.greeting():
            run("SELECT pg_sleep(5)")
        return monotonic() - started

    assert [seconds_of_a_try() for _ in range(4)] == pytest.approx([0.6, 0.2, 0.6, 0.2], abs=0.15)
    assert seconds_of_a_try() == pytest.approx(0.6, abs=0.15)  # from now on in doubt
    close_old_connections()
    sleep(0.1)
    with database_budget(0.6):
        with deadline.greeting():
            run("SELECT 1")
        assert (remaining_seconds() or 0) > 0.5  # nothing is withheld from whom the server has answered
    assert seconds_of_a_try() == pytest.approx(0.6, abs=0.15)


def test_a_budget_that_was_nearly_spent_makes_no_server_pass_for_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A health page has tenths of a second left; other requests of the process have two seconds."""
    monkeypatch.setattr(deadline, "DOUBT_SECONDS", 0.4)
    connection.ensure_connection()
    with pytest.raises((OperationalError, InterfaceError)), database_budget(0.1), deadline.greeting():
        run("SELECT pg_sleep(5)")
    close_old_connections()
    with database_budget(2.0):
        run("SELECT 1")


def test_copy_works_with_the_deadline_taken_off() -> None:
    import io

    with blocking_copy(), connection.cursor() as cursor:
        out = io.StringIO()
        cursor.cursor.copy_expert("COPY (SELECT 1) TO STDOUT", out)
    assert out.getvalue() == "1\n"


# Ends that are no fault of the database


@contextmanager
def told_to_end(how: type[BaseException], after: float) -> Iterator[None]:
    """Raise `how` in this thread after so many seconds, as the handler of a signal does."""

    def handle(*_: object) -> None:
        raise how

    before = signal.signal(signal.SIGUSR1, handle)
    timer = threading.Timer(after, os.kill, [os.getpid(), signal.SIGUSR1])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_who_is_told_to_end_within_a_transaction_ends_and_does_not_connect_again(how: type[BaseException]) -> None:
    with pytest.raises(how), told_to_end(how, 0.2), transaction.atomic():
        run("SELECT pg_sleep(5)")
    assert connection.connection is None
    run("SELECT 1")


SLOW_COMMIT = """
CREATE TEMP TABLE slow (number int);
CREATE FUNCTION pg_temp.wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(5); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION pg_temp.wait();
"""


@pytest.mark.parametrize("how", [KeyboardInterrupt, SystemExit])
def test_who_is_told_to_end_while_a_commit_waits_ends_and_it_is_no_lost_connection(how: type[BaseException]) -> None:
    run(SLOW_COMMIT)
    committed: list[str] = []

    @transaction.atomic
    def work() -> None:
        run("INSERT INTO slow VALUES (1)")
        transaction.on_commit(lambda: committed.append("told"))

    with pytest.raises(how), told_to_end(how, 0.2):
        work()
    assert connection.connection is None
    with transaction.atomic():
        run("SELECT 1")
    assert committed == []
