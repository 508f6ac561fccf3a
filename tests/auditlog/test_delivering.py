"""The signal `recorded`: after commit, for every record, once, whoever wrote it and whoever listens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from auditlog import delivering
from auditlog.delivering import deliver
from auditlog.models import Record
from auditlog.signals import recorded

pytestmark = pytest.mark.django_db(transaction=True)


class Listener:
    """Remembers the names of the tags that it was told of; its `job` may do more, or fail."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.job: Any = None
        self.__qualname__ = "Listener"  # by which Django logs a failed one

    def __call__(self, sender: Any, record: Record, **kwargs: Any) -> None:
        if "name" not in record.after:
            return
        self.told.append(record.after["name"])
        if self.job:
            self.job(record)


@pytest.fixture
def listener() -> Iterator[Listener]:
    while deliver():  # from now on
        pass
    listener = Listener()
    recorded.connect(listener, sender=Record)
    yield listener
    recorded.disconnect(listener, sender=Record)


def test_listeners_hear_of_what_is_committed_once_and_in_order(listener: Listener) -> None:
    Group.objects.create(name="one")
    with transaction.atomic():
        Group.objects.create(name="two")
        Group.objects.create(name="three")
    with transaction.atomic():
        Group.objects.create(name="undone")
        transaction.set_rollback(True)
    assert listener.told == []
    assert deliver() == 3
    assert listener.told == ["one", "two", "three"]
    assert deliver() == 0


def test_they_hear_of_what_sql_has_written_too(listener: Listener) -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO auth_group (name) VALUES ('by hand')")
    deliver()
    assert listener.told == ["by hand"]


def test_a_listener_that_fails_stops_no_other_and_is_logged(
    listener: Listener, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(record: Record) -> None:
        raise LookupError("a listener's own mistake")

    listener.job = fail
    second = Listener()
    recorded.connect(second, sender=Record)
    try:
        Group.objects.create(name="one")
        Group.objects.create(name="two")
        deliver()
    finally:
        recorded.disconnect(second, sender=Record)
    assert (listener.told, second.told) == (["one", "two"], ["one", "two"])
    assert "a listener's own mistake" in caplog.text
    assert deliver() == 0


def test_a_listeners_failed_statement_does_not_make_it_stumble_for_ever(listener: Listener) -> None:
    def fail(record: Record) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 / 0")

    listener.job = fail
    Group.objects.create(name="one")
    Group.objects.create(name="two")
    with capture_logs() as lines:
        deliver()
    assert listener.told == ["one", "two"]
    assert [line["event"] for line in lines].count("audit.listener_failed") == 2
    assert deliver() == 0


def test_what_a_listener_writes_is_committed_with_the_cursor_and_told_in_turn(listener: Listener) -> None:
    def answer(record: Record) -> None:
        if record.after["name"] == "question":
            Group.objects.create(name="answer")

    listener.job = answer
    Group.objects.create(name="question")
    assert deliver() == 2
    assert listener.told == ["question", "answer"]


def test_a_process_that_dies_in_the_middle_leaves_the_batch_for_the_next(listener: Listener) -> None:
    class Killed(BaseException):
        pass

    def die(record: Record) -> None:
        if record.after["name"] == "two":
            raise Killed

    listener.job = die
    for name in ("one", "two"):
        Group.objects.create(name=name)
    with pytest.raises(Killed):
        deliver()
    listener.job = None
    assert deliver() == 2
    assert listener.told == ["one", "two", "one", "two"]


def test_while_one_delivers_the_others_have_nothing_to_do(listener: Listener) -> None:
    elsewhere: list[int] = []

    def deliver_elsewhere() -> None:
        try:
            elsewhere.append(deliver())
        finally:
            connection.close()

    def try_another(record: Record) -> None:
        thread = threading.Thread(target=deliver_elsewhere)
        thread.start()
        thread.join(60)

    listener.job = try_another
    Group.objects.create(name="one")
    assert deliver() == 1
    assert (listener.told, elsewhere) == (["one"], [0])


def test_more_than_a_batch_is_told_in_one_turn(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "MOST", 3)
    Group.objects.bulk_create(Group(name=f"tag-{number}") for number in range(10))
    assert deliver() == 10
    assert listener.told == [f"tag-{number}" for number in range(10)]


def test_a_long_backlog_is_told_in_several_turns(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivering, "MOST", 2)
    monkeypatch.setattr(delivering, "MOST_IN_A_TURN", 4)
    Group.objects.bulk_create(Group(name=f"tag-{number}") for number in range(5))
    assert [deliver(), deliver(), deliver()] == [4, 1, 0]


def test_a_cursor_that_nobody_can_read_begins_anew_and_says_so(listener: Listener) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT auditlog_move_cursor(%s, 'nonsense')", [delivering.CURSOR])
    with capture_logs() as lines:
        deliver()
    assert [line["event"] for line in lines] == ["audit.cursor_unreadable"]
    Group.objects.create(name="one")
    deliver()
    assert listener.told == ["one"]


def test_an_idle_turn_writes_nothing(listener: Listener) -> None:
    with CaptureQueriesContext(connection) as queries:
        deliver()
    statements = [query["sql"] for query in queries.captured_queries]
    assert not any("auditlog_move_cursor" in statement for statement in statements)


def test_what_comes_after_a_full_batch_is_told_too(listener: Listener) -> None:
    Group.objects.bulk_create(Group(name=f"group {number}") for number in range(delivering.MOST))
    assert deliver() == delivering.MOST
    Group.objects.create(name="the next")
    assert deliver() + deliver() == 1  # the first may only find that the batch was all there was
    assert listener.told[-1] == "the next"
