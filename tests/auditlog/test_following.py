"""Whoever follows the trail gets every record once, whatever commits late, out of order, or across a restart."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from auditlog import following
from auditlog.following import Cursor, NoCursor, drain, from_now, from_start, read
from auditlog.models import Record
from tests.hostapp.models import Tag

pytestmark = pytest.mark.django_db(transaction=True)


def names(records: list[Record]) -> list[str]:
    return [record.after["name"] for record in records if record.resource == "hostapp.tag" and "name" in record.after]


def all_of(cursor: Cursor, most: int = 500, where: Q | None = None) -> tuple[list[str], Cursor]:
    found: list[str] = []
    for records, reached in drain(cursor, most, where):
        found += names(records)
        cursor = reached
    return found, cursor


@contextmanager
def open_transaction(*tags: str) -> Iterator[Callable[[], None]]:
    """A transaction of another connection that has made these tags; call what it yields to commit."""
    made, may_end, kept = threading.Event(), threading.Event(), []

    def work() -> None:
        try:
            with transaction.atomic():
                for tag in tags:
                    Tag.objects.create(name=tag)
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
    Tag.objects.create(name="before")
    cursor = from_now()
    Tag.objects.create(name="after")
    found, cursor = all_of(cursor)
    assert found == ["after"]
    assert all_of(cursor)[0] == []


def test_a_transaction_that_commits_later_than_one_with_higher_ids_is_not_missed() -> None:
    cursor = from_now()
    with open_transaction("early") as commit:
        Tag.objects.create(name="late")
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
        Tag.objects.bulk_create(Tag(name=f"many-{number}") for number in range(300))
        found, cursor = all_of(cursor)
        assert len(found) == 300
        commit()
    assert all_of(cursor)[0] == ["early"]


def test_one_that_was_open_when_somebody_began_to_follow_is_not_missed() -> None:
    with open_transaction("early") as commit:
        Tag.objects.bulk_create(Tag(name=f"many-{number}") for number in range(300))
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
        Tag.objects.bulk_create(Tag(name=f"many-{number}") for number in range(5))
        records, cursor = read(cursor, most=2)
        assert names(records) == ["many-0", "many-1"]
        commit()
        Tag.objects.create(name="late")
        found, cursor = all_of(cursor, most=2)
    assert found == ["many-2", "many-3", "many-4"]  # what was settled when the batch began
    assert all_of(cursor, most=2)[0] == ["early", "late"]


def test_a_filter_chooses_and_the_cursor_goes_on_over_the_rest() -> None:
    cursor = from_now()
    for number in range(6):
        Tag.objects.create(name=f"tag-{number}")
    found, cursor = all_of(cursor, most=2, where=Q(new__name__in=["tag-1", "tag-4", "tag-5"]))
    assert found == ["tag-1", "tag-4", "tag-5"]
    assert all_of(cursor)[0] == []


def test_from_the_start_is_all_there_is_and_since_is_from_a_time_on() -> None:
    Tag.objects.create(name="old")
    found, _cursor = all_of(from_start(), most=100)
    assert found[-1] == "old"
    total = sum(len(records) for records, _cursor in drain(from_start(), most=100))
    assert total == Record.objects.count()
    everything = [record.id for records, _cursor in drain(from_start(), most=7) for record in records]
    assert everything == sorted(set(everything))
    soon = timezone.now() + timedelta(days=2)
    assert all_of(from_start(soon))[0] == []


def test_a_cursor_is_a_text_and_back_at_every_step() -> None:
    cursor = from_now()
    with open_transaction("early") as commit:
        Tag.objects.bulk_create(Tag(name=f"many-{number}") for number in range(5))
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
        Tag.objects.create(name="read")
        found, cursor = all_of(cursor)
        assert found == ["read"]
        commit()
    with _epoch(cursor.seen.epoch + 1):
        Tag.objects.create(name="new")
        found, cursor = all_of(cursor)
        assert found == ["unread", "new"]
        assert all_of(cursor)[0] == []


@contextmanager
def _epoch(number: int) -> Iterator[None]:
    """Let this connection be one to a database of another epoch."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('auditlog.epoch', %s, false)", [str(number)])
        try:
            yield
        finally:
            cursor.execute("RESET auditlog.epoch")


def test_numbers_that_a_crash_gave_away_twice_are_not_taken_for_settled() -> None:
    """After a crash transactions get the numbers again of those that had been about to abort; so do ids."""
    cursor = from_now()
    ahead = _ahead(cursor)
    Tag.objects.create(name="after the crash")
    connection.close()  # as it is by a crash
    assert all_of(ahead)[0] == ["after the crash"]


def _ahead(cursor: Cursor) -> Cursor:
    """The cursor as if transactions had been settled, and ids handed out, that the crash then took back."""
    number = int(cursor.seen.snapshot.split(":")[1]) + 30
    facts = str(cursor).replace(cursor.seen.snapshot, f"{number}:{number}:")
    facts = facts.replace(f'"last":{cursor.seen.last}', f'"last":{cursor.seen.last + 30}')
    return Cursor.from_text(facts)


def test_it_refuses_a_transaction_with_a_frozen_view() -> None:
    from django.db.utils import DatabaseError

    with pytest.raises(DatabaseError, match="READ COMMITTED"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        from_now()


def test_many_writers_with_random_pauses_are_followed_exactly_once() -> None:
    """Eight connections write and roll back as they like; two followers of different pace get the same."""
    cursors = [from_now(), from_now()]
    stop = threading.Event()
    seen: list[list[str]] = [[], []]
    committed: list[str] = []

    def write(writer: int) -> None:
        chance = random.Random(writer)
        try:
            for turn in range(25):
                mine = [f"w{writer}-{turn}-{number}" for number in range(chance.randint(1, 4))]
                with transaction.atomic():
                    for name in mine:
                        Tag.objects.create(name=name)
                        stop.wait(chance.random() * 0.004)
                    if undone := chance.random() < 0.2:
                        transaction.set_rollback(True)
                if not undone:
                    committed.extend(mine)
        finally:
            connection.close()

    def follow(number: int, most: int, pause: float) -> None:
        try:
            last = False
            while not last:
                last = stop.is_set()
                found, cursors[number] = all_of(Cursor.from_text(str(cursors[number])), most)
                seen[number] += found
                stop.wait(pause)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    followers = [threading.Thread(target=follow, args=each) for each in ((0, 3, 0.001), (1, 500, 0.02))]
    for thread in (*followers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in followers:
        thread.join()
    for found in seen:
        assert sorted(found) == sorted(committed)


def test_an_idle_poll_is_one_statement(django_assert_num_queries: Any) -> None:
    cursor = from_now()
    with django_assert_num_queries(1):
        _records, cursor = read(cursor)
    assert following.read(cursor)[0] == []
