"""Whoever follows the trail gets every record once, whatever commits late, out of order, or across a restart."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from auditlog.following import Cursor, NoCursor, drain, from_now, from_start, read
from auditlog.models import Record
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


def names(records: list[Record]) -> list[str]:
    return [record.after["name"] for record in records if record.resource == "auth.group" and "name" in record.after]


def all_of(cursor: Cursor, most: int = 500, where: Q | None = None) -> tuple[list[str], Cursor]:
    found: list[str] = []
    for records, reached in drain(cursor, most, where):
        found += names(records)
        cursor = reached
    return found, cursor


@contextmanager
def open_transaction(*tags: str) -> Iterator[Callable[[], None]]:
    """A transaction of another connection that has made these tags; call what it yields to commit."""
    made, may_end = threading.Event(), threading.Event()
    kept: list[bool] = []

    def work() -> None:
        try:
            with transaction.atomic():
                for tag in tags:
                    Group.objects.create(name=tag)
                made.set()
                assert may_end.wait(60)
                if not kept:
                    transaction.set_rollback(True)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()

    def commit() -> None:
        kept.append(True)
        may_end.set()
        thread.join(60)

    try:
        assert made.wait(60)
        yield commit
    finally:
        may_end.set()
        thread.join(60)


def test_from_now_is_what_is_committed_from_now_on() -> None:
    Group.objects.create(name="before")
    cursor = from_now()
    Group.objects.create(name="after")
    found, cursor = all_of(cursor)
    assert found == ["after"]
    assert all_of(cursor)[0] == []


def test_a_transaction_that_commits_later_than_one_with_higher_ids_is_not_missed() -> None:
    cursor = from_now()
    with open_transaction("early") as commit:
        Group.objects.create(name="late")
        found, cursor = all_of(cursor)
        assert found == ["late"]
        assert all_of(cursor)[0] == []
        commit()
    found, cursor = all_of(cursor)
    assert found == ["early"]
    assert all_of(cursor)[0] == []


def test_it_is_not_missed_either_when_more_has_happened_than_ids_are_looked_back() -> None:
    cursor = from_now()
    with open_transaction("early") as commit:
        Group.objects.bulk_create(Group(name=f"many-{number}") for number in range(300))
        found, cursor = all_of(cursor)
        assert len(found) == 300
        commit()
    assert all_of(cursor)[0] == ["early"]


def test_one_that_was_open_when_somebody_began_to_follow_is_not_missed() -> None:
    with open_transaction("early") as commit:
        Group.objects.bulk_create(Group(name=f"many-{number}") for number in range(300))
        cursor = from_now()
        commit()
    assert all_of(cursor)[0] == ["early"]


def test_what_is_rolled_back_never_appears() -> None:
    cursor = from_now()
    with open_transaction("never"):
        pass
    assert all_of(cursor)[0] == []


def test_a_batch_loses_nothing_that_commits_between_its_parts() -> None:
    cursor = from_now()
    with open_transaction("early") as commit:
        Group.objects.bulk_create(Group(name=f"many-{number}") for number in range(5))
        records, cursor = read(cursor, most=2)
        assert names(records) == ["many-0", "many-1"]
        commit()
        Group.objects.create(name="late")
        found, cursor = all_of(cursor, most=2)
    assert found == ["many-2", "many-3", "many-4"]  # what was settled when the batch began
    assert all_of(cursor, most=2)[0] == ["early", "late"]


def test_a_filter_chooses_and_the_cursor_goes_on_over_the_rest() -> None:
    cursor = from_now()
    for number in range(6):
        Group.objects.create(name=f"tag-{number}")
    found, cursor = all_of(cursor, most=2, where=Q(new__name__in=["tag-1", "tag-4", "tag-5"]))
    assert found == ["tag-1", "tag-4", "tag-5"]
    assert all_of(cursor)[0] == []


def test_from_the_start_is_all_there_is_and_since_is_from_a_time_on() -> None:
    Group.objects.create(name="old")
    found, _cursor = all_of(from_start(), most=100)
    assert found[-1] == "old"
    total = sum(len(records) for records, _cursor in drain(from_start(), most=100))
    assert total == Record.objects.count()
    few = max(7, total // 30)  # the trail holds what the tests before have left in it
    everything = [record.id for records, _cursor in drain(from_start(), most=few) for record in records]
    assert len(everything) == total
    assert everything == sorted(set(everything))
    soon = timezone.now() + timedelta(days=2)
    assert all_of(from_start(soon))[0] == []


def test_a_cursor_is_a_text_and_back_at_every_step() -> None:
    cursor = from_now()
    with open_transaction("early") as commit:
        Group.objects.bulk_create(Group(name=f"many-{number}") for number in range(5))
        found: list[str] = []
        for _step in range(4):
            cursor = Cursor.from_text(str(cursor))
            assert Cursor.from_text(str(cursor)) == cursor
            records, cursor = read(cursor, most=2)
            found += names(records)
        commit()
    assert found == [f"many-{number}" for number in range(5)]
    assert all_of(Cursor.from_text(str(cursor)))[0] == ["early"]


@pytest.mark.parametrize("text", ["", "{}", "[]", "7", "null", '{"seen":{},"begins":{},"until":null,"after":0}', "\0"])
def test_what_is_no_cursor_says_so(text: str) -> None:
    with pytest.raises(NoCursor):
        Cursor.from_text(text)


def test_what_is_older_than_the_restore_is_not_read_again_and_nothing_after_it_is_missed() -> None:
    """A dump keeps the epoch of its records; the database that loads it has a new one and counts anew."""
    cursor = from_now()
    with open_transaction("unread") as commit:
        Group.objects.create(name="read")
        found, cursor = all_of(cursor)
        assert found == ["read"]
        commit()
    with _epoch(cursor.seen.epoch + 1):
        Group.objects.create(name="new")
        found, cursor = all_of(cursor)
        assert found == ["unread", "new"]
        assert all_of(cursor)[0] == []


def test_a_restored_database_that_counts_from_lower_numbers_has_news_all_the_same() -> None:
    cursor = from_now()
    high = int(cursor.seen.snapshot.split(":")[1]) + 1_000_000
    elsewhere = replace(cursor, seen=replace(cursor.seen, snapshot=f"{high}:{high}:", last=cursor.seen.last + 1000))
    Group.objects.create(name="brought along")  # settled there, by its number
    with _epoch(cursor.seen.epoch + 1):
        Group.objects.create(name="by a low number")
        found, elsewhere = all_of(elsewhere)
        assert (found.count("by a low number"), found.count("brought along")) == (1, 0)
        assert all_of(elsewhere)[0] == []


@contextmanager
def _epoch(number: int) -> Iterator[None]:
    """Let this connection be one to a database of another epoch."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('auditlog.epoch', %s, false)", [str(number)])
        try:
            yield
        finally:
            cursor.execute("RESET auditlog.epoch")


@pytest.mark.parametrize("ahead", [0, 1, 30])
def test_numbers_that_a_crash_gave_away_twice_are_not_taken_for_settled(ahead: int) -> None:
    """After a crash transactions get the numbers again of those that had been about to commit; so do ids."""
    cursor = from_now()
    Group.objects.create(name="after the crash")
    connection.close()  # as it is by a crash
    now = from_now().seen
    number = int(now.snapshot.split(":")[1]) + ahead
    lost = replace(cursor.seen, snapshot=f"{number}:{number}:", last=now.last + ahead)
    found, cursor = all_of(replace(cursor, seen=lost))
    assert found == ["after the crash"]
    assert all_of(cursor)[0] == []


def test_it_refuses_a_transaction_with_a_frozen_view() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with pytest.raises(DatabaseError, match="READ COMMITTED"):
            from_now()
        transaction.set_rollback(True)


def test_a_transaction_newer_than_all_that_ended_is_followed_from_its_beginning() -> None:
    """No snapshot lists it, and it has drawn more ids than any margin forgives."""
    early = [f"early {number:03}" for number in range(100)]
    before = from_now()
    with open_transaction("older") as commit_older, open_transaction(*early) as commit_newer:
        commit_older()
        found, cursor = all_of(before)
        assert found == ["older"]
        commit_newer()
        found, _cursor = all_of(Cursor.from_text(str(cursor)))
    assert found == early


class Writer(threading.Thread):
    """Commits and rolls back groups as chance has it."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number, self.committed = number, list[str]()

    def run(self) -> None:
        chance = random.Random(self.number)  # noqa: S311 - no secret
        try:
            for turn in range(25):
                made = [f"w{self.number}-{turn}-{number}" for number in range(chance.randint(1, 4))]
                kept = chance.random() > 0.2
                with transaction.atomic():
                    for name in made:
                        Group.objects.create(name=name)
                        time.sleep(chance.random() * 0.004)
                    transaction.set_rollback(not kept)
                self.committed += made if kept else []
        finally:
            connection.close()


class Follower(threading.Thread):
    """Follows at its own pace, in batches of its own size, until `last_look` is set."""

    def __init__(self, most: int, pause: float) -> None:
        super().__init__()
        self.cursor, self.most, self.pause = from_now(), most, pause
        self.last_look = threading.Event()
        self.found: list[str] = []

    def run(self) -> None:
        try:
            last = False
            while not last:
                last = self.last_look.wait(self.pause)
                found, self.cursor = all_of(Cursor.from_text(str(self.cursor)), self.most)
                self.found += found
        finally:
            connection.close()


def test_many_writers_with_random_pauses_are_followed_exactly_once() -> None:
    writers = [Writer(number) for number in range(8)]
    followers = [Follower(3, 0.001), Follower(500, 0.02)]
    for thread in (*followers, *writers):
        thread.start()
    for writer in writers:
        writer.join()
    for follower in followers:
        follower.last_look.set()
        follower.join()
    committed = sorted(name for writer in writers for name in writer.committed)
    assert [sorted(follower.found) for follower in followers] == [committed, committed]


def test_an_idle_poll_is_one_statement() -> None:
    def polls() -> bool:
        cursor = from_now()
        with CaptureQueriesContext(connection) as queries:
            read(cursor)
        return len(queries) == 1

    wait_until(polls, "nobody else on this server commits anything between two statements of ours")
