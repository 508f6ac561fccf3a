"""A transaction that met a fault which passes is run again: real deadlocks, conflicts, killed sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from threading import Barrier, Thread

import pytest
from django.contrib.auth.hashers import make_password
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from structlog.testing import capture_logs

from accounts import services
from accounts.models import RequestedMail, User
from config.database import retry
from config.database.deadline import database_budget
from config.database.retry import Patience
from healthcheck.metrics import prometheus

pytestmark = pytest.mark.django_db(transaction=True)

FEW = Patience(attempts=3, first_pause=0.01, longest_pause=0.02)


@pytest.fixture
def retried() -> Iterator[list[str]]:
    """The faults that listeners heard of."""
    heard: list[str] = []
    retry.on_retry.append(heard.append)
    yield heard
    retry.on_retry.remove(heard.append)


@pytest.fixture
def two_rows() -> list[int]:
    return [RequestedMail.objects.create(email_canonical=name).pk for name in ("one", "two")]


def side_by_side(*works: Callable[[], object]) -> None:
    """Run each in a thread of its own with a connection of its own; raises what one of them raised."""
    errors: list[BaseException] = []

    def run(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [Thread(target=run, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if errors:
        raise errors[0]


def session() -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def kill_own_session() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def write(name: str) -> None:
    RequestedMail.objects.create(email_canonical=name)


def names() -> list[str]:
    return sorted(RequestedMail.objects.values_list("email_canonical", flat=True))


def test_of_two_transactions_that_deadlock_both_get_through(two_rows: list[int], retried: list[str]) -> None:
    both_hold_one = Barrier(2)
    attempts: list[list[int]] = []

    def cross(order: list[int]) -> None:
        attempts.append(order)
        with transaction.atomic():
            RequestedMail.objects.select_for_update().get(pk=order[0])
            if len(attempts) <= 2:
                both_hold_one.wait(10)
            RequestedMail.objects.select_for_update().get(pk=order[1])
            write(f"by {order}")

    orders = [two_rows, two_rows[::-1]]
    side_by_side(*(lambda order=order: retry.run(lambda: cross(order), idempotent=False) for order in orders))
    assert retried == ["deadlock"]
    assert len(attempts) == 3
    assert names() == sorted(["one", "two", *(f"by {order}" for order in orders)])


def test_of_two_serializable_transactions_that_conflict_both_get_through(retried: list[str]) -> None:
    both_have_read = Barrier(2)
    attempts: list[str] = []

    def count_and_write(name: str) -> None:
        attempts.append(name)
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            seen = RequestedMail.objects.count()
            if len(attempts) <= 2:
                both_have_read.wait(10)
            write(f"{seen} before {name}")

    side_by_side(*(lambda name=name: retry.run(lambda: count_and_write(name), idempotent=False) for name in ("a", "b")))
    assert retried == ["serialization"]
    assert sorted(name[0] for name in names()) == ["0", "1"], "as if one after the other"


def test_a_lock_that_is_not_had_in_time_is_tried_for_again(two_rows: list[int], retried: list[str]) -> None:
    def hold_impatiently() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET LOCAL lock_timeout = '50ms'")
            RequestedMail.objects.select_for_update().get(pk=two_rows[0])

    def hold(released: Callable[[], bool]) -> None:
        with transaction.atomic():
            RequestedMail.objects.select_for_update().get(pk=two_rows[0])
            held.wait(10)
            patience = time.monotonic() + 5
            while not released() and time.monotonic() < patience:
                time.sleep(0.005)

    def try_it() -> None:
        held.wait(10)
        retry.run(hold_impatiently, idempotent=False)

    held = Barrier(2)
    side_by_side(lambda: hold(lambda: bool(retried)), try_it)
    assert set(retried) == {"lock"}


def test_a_transaction_whose_session_is_killed_is_run_whole_on_another_one(retried: list[str]) -> None:
    sessions: list[int] = []

    def work() -> str:
        with transaction.atomic():
            write("begun")
            sessions.append(session())
            if len(sessions) == 1:
                kill_own_session()
            write("ended")
            return "done"

    with capture_logs() as lines:
        assert retry.run(work, idempotent=True) == "done"
    assert names() == ["begun", "ended"]
    assert len(set(sessions)) == 2
    assert retried == ["connection"]
    (line,) = [line for line in lines if line["event"] == "database.retried"]
    assert (line["fault"], line["attempt"]) == ("connection", 1)


def test_what_only_looks_is_asked_again_on_another_session_too() -> None:
    turns: list[int] = []

    def look() -> list[str]:
        turns.append(1)
        if len(turns) == 1:
            kill_own_session()  # outside a transaction, whose end would have put the connection away
        return names()

    assert (retry.run(look, idempotent=True), len(turns)) == ([], 2)


def test_what_must_not_be_done_twice_is_not_repeated_after_a_lost_connection(retried: list[str]) -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        with transaction.atomic():
            write("begun")
            kill_own_session()

    with pytest.raises(OperationalError):
        retry.run(work, idempotent=False)
    assert (len(attempts), retried, names()) == (1, [], [])


def test_a_fault_that_does_not_pass_is_raised_at_once(retried: list[str]) -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        with transaction.atomic():
            RequestedMail.objects.create(pk=1)
            RequestedMail.objects.create(pk=1)

    with pytest.raises(IntegrityError):
        retry.run(work, idempotent=True)
    assert (len(attempts), retried) == (1, [])


def test_after_the_last_attempt_its_fault_is_raised(retried: list[str]) -> None:
    with pytest.raises(OperationalError):
        retry.run(kill_own_session, idempotent=True, patience=FEW)
    assert retried == ["connection"] * (FEW.attempts - 1)


def test_a_part_of_an_open_transaction_is_refused() -> None:
    with transaction.atomic(), pytest.raises(RuntimeError, match="whole"):
        retry.run(names, idempotent=True)


def test_no_pause_goes_beyond_the_budget_of_a_request(retried: list[str]) -> None:
    attempts: list[int] = []

    def work() -> None:
        attempts.append(1)
        kill_own_session()

    slow = Patience(attempts=50, first_pause=0.1, longest_pause=0.2)
    started = time.monotonic()
    with database_budget(retry.CONNECTING + 0.4), pytest.raises(DatabaseError):
        retry.run(work, idempotent=True, patience=slow)
    assert time.monotonic() - started < retry.CONNECTING + 0.4
    assert 1 < len(attempts) < slow.attempts, "the pauses are charged too"


def test_pauses_are_drawn_from_a_range_that_doubles_up_to_a_bound() -> None:
    patience = Patience(attempts=9, first_pause=1, longest_pause=5)
    for attempt, bound in ((1, 1), (2, 2), (3, 4), (4, 5), (8, 5)):
        pauses = [patience.pause_after(attempt) for _ in range(200)]
        assert 0 <= min(pauses) < 0.2 * bound
        assert 0.8 * bound < max(pauses) <= bound


def test_a_signup_that_an_earlier_attempt_has_committed_counts_as_made_by_this_one() -> None:
    signup = services.SignUp(username="twice", email="twice@example.com", password="", browser="b")
    user = User(username=signup.username, email=signup.email, signup_key=signup.key)
    user.password = make_password(None)
    assert [services._sign_up(user, signup) for _ in range(2)] == [services.SignUpOutcome.CREATED] * 2
    again = User(username=signup.username, email=signup.email, signup_key=signup.key, password=user.password)
    assert services._sign_up(again, signup) == services.SignUpOutcome.REPEATED
    assert User.objects.count() == 1


def test_prometheus_is_told_of_every_fault_by_the_name_that_it_knows() -> None:
    assert prometheus.count_retry in retry.on_retry
    assert {*retry._ROLLED_BACK.values(), retry.LOST} == set(prometheus.RETRIES)
