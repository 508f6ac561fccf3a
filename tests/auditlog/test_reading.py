"""Finding records: pages by place, what a word means, objects at a moment, values in words."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from auditlog import acting_as, reading
from auditlog.describing import Described, describe, differences, visible
from auditlog.events import record
from auditlog.models import Record
from auditlog.reading import Cursor, Query
from config.database.roles import as_owner
from tests.factories import UserFactory
from tests.hostapp.models import Machine, Part, Secretive, Tag, Thing

pytestmark = pytest.mark.django_db


def history(thing: Any) -> list[Record]:
    return reading.newest(reading.of_object(thing._meta.label_lower, str(thing.pk))).records


def last(thing: Any) -> Described:
    return describe(history(thing)[:1])[0]


def said(described: Described) -> dict[str, tuple[str, str]]:
    return {line.label: (str(line.old or ""), str(line.new or "")) for line in described.differences}


# Pages


def ids(page: reading.Page) -> list[str]:
    return [one.object_label or "" for one in page.records]


def test_pages_lead_from_the_newest_to_the_oldest_and_back() -> None:
    for number in range(7):
        record("counted", "test.pages", label=str(number))
    query = Query(Q(resource="test.pages"))
    first = reading.newest(query, 3)
    second = reading.older(query, first.older, 3)
    third = reading.older(query, second.older, 3)
    assert [ids(first), ids(second), ids(third)] == [["6", "5", "4"], ["3", "2", "1"], ["0"]]
    assert (first.newer, third.older) == (None, None)
    assert ids(reading.newer(query, third.newer, 3)) == ["3", "2", "1"]
    assert ids(reading.newer(query, second.newer, 3)) == ["6", "5", "4"]


def test_the_oldest_page_is_found_from_the_end() -> None:
    for number in range(5):
        record("counted", "test.pages", label=str(number))
    oldest = reading.newer(Query(Q(resource="test.pages")), None, 2)
    assert ids(oldest) == ["1", "0"]
    assert oldest.older is None
    assert ids(reading.newer(Query(Q(resource="test.pages")), oldest.newer, 2)) == ["3", "2"]


def test_less_than_a_page_of_newer_ones_is_the_newest_page() -> None:
    for number in range(3):
        record("counted", "test.pages", label=str(number))
    query = Query(Q(resource="test.pages"))
    place = Cursor.of(reading.newest(query).records[1])
    assert ids(reading.newer(query, place, 2)) == ["2", "1"]


@pytest.mark.parametrize("text", ["", "x", "1", "1-x", "-1-1", "9" * 30 + "-1", "1-" + "9" * 40, "1--", "é-1"])
def test_a_forged_place_is_the_newest_page(text: str) -> None:
    assert Cursor.parse(text) is None
    assert reading.page_at(Query(), {"older": text, "newer": text}) == reading.newest(Query())


MONDAY = datetime(2020, 1, 6, tzinfo=UTC)
WEEK = timedelta(weeks=1)
MIDNIGHT = MONDAY + WEEK


@pytest.fixture
def old_weeks(transactional_db: None) -> Iterator[None]:
    """Two weeks of 2020 with a partition each; at the midnight between them two records have met."""
    written = [
        (MIDNIGHT - WEEK, "first"),
        (MIDNIGHT, "met, later"),
        (MIDNIGHT - timedelta(microseconds=1), "met, earlier"),
        (MIDNIGHT + timedelta(days=1), "last"),
    ]
    with as_owner(), connection.cursor() as cursor:
        for number in range(2):
            opens = MONDAY + number * WEEK
            cursor.execute(
                f"CREATE TABLE auditlog_old_{number} PARTITION OF auditlog_record FOR VALUES FROM (%s) TO (%s)",
                [opens, opens + WEEK],
            )
        for at, label in [*written, (MONDAY - timedelta(days=900), "nowhere")]:
            cursor.execute(
                "INSERT INTO auditlog_record (at, origin, action, actor_kind, resource, object_label, transaction,"
                " epoch) VALUES (%s, 'event', 'counted', 'user', 'test.weeks', %s, 1, 1)",
                [at, label],
            )
    yield
    with as_owner(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS auditlog_old_0, auditlog_old_1")
        cursor.execute("SELECT set_config('auditlog.permit', 'DELETE', true)")
        cursor.execute("DELETE FROM auditlog_record_default")


def test_pages_cross_weeks_and_lose_nobody_who_met_at_midnight(old_weeks: None) -> None:
    query = Query(Q(resource="test.weeks"))
    wanted = ["last", "met, later", "met, earlier", "first", "nowhere"]
    found, page = [], reading.newest(query, 1)
    while page.older:
        found += ids(page)
        page = reading.older(query, page.older, 1)
    assert found + ids(page) == wanted
    found, page = [], reading.newer(query, None, 1)
    while page.newer:
        found += ids(page)
        page = reading.newer(query, page.newer, 1)
    assert found + ids(page) == wanted[::-1]


def test_a_time_range_begins_with_its_first_moment_and_ends_before_its_last(old_weeks: None) -> None:
    everything = Q(resource="test.weeks")
    met = Query(everything, since=MIDNIGHT - timedelta(microseconds=1), until=MIDNIGHT + timedelta(days=1))
    assert ids(reading.newest(met)) == ["met, later", "met, earlier"]
    assert ids(reading.newest(Query(everything, until=MONDAY))) == ["nowhere"]


def test_a_question_is_put_to_the_weeks_that_can_answer_it_only(old_weeks: None) -> None:
    with CaptureQueriesContext(connection) as asked:
        reading.newest(Query(Q(resource="test.weeks"), since=MIDNIGHT, until=MIDNIGHT + WEEK))
    assert len(asked) == 3  # the partitions; who matches; these


def test_batches_are_all_of_it_once(old_weeks: None) -> None:
    found = [one.object_label for batch in reading.batches(Query(Q(resource="test.weeks")), 2) for one in batch]
    assert found == ["last", "met, later", "met, earlier", "first", "nowhere"]


def test_many_matches_of_one_week_are_walked_in_the_same_order(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        record("counted", "test.pages", label=str(number))
    monkeypatch.setattr(reading, "_FEW", 3)
    query = Query(Q(resource="test.pages"))
    first = reading.newest(query, 2)
    assert ids(first) == ["5", "4"]
    assert ids(reading.older(query, first.older, 2)) == ["3", "2"]
    assert ids(reading.newer(query, None, 2)) == ["1", "0"]


# What a word means


def test_a_word_finds_people_objects_addresses_requests_and_transactions_by_their_whole_name() -> None:
    ada = UserFactory.create(username="Ada")
    with acting_as(ada):
        tag = Tag.objects.create(name="red")
    (made,) = history(tag)

    def finds(term: str) -> bool:
        return made in reading.newest(Query(reading.matching(term))).records

    assert finds("ada")
    assert finds(f" {ada.pk} ")
    assert finds(str(tag.pk))
    assert finds(str(made.pk))
    assert finds(str(made.transaction))
    assert not finds("ad")
    assert not finds("red")
    assert not finds(str(uuid.uuid4()))
    assert not finds("192.0.2.1")


# Objects at a moment


def now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]  # type: ignore[no-any-return]


def test_an_object_is_rebuilt_as_it_was_at_any_moment() -> None:
    moments = [now()]
    red, blue = Tag.objects.create(name="red"), Tag.objects.create(name="blue")
    thing = Thing.objects.create(name="one", number=1)
    key = str(thing.pk)
    moments.append(now())
    thing.tags.set([red, blue])
    thing.name = "two"
    thing.save()
    moments.append(now())
    thing.tags.remove(red)
    Thing.objects.update(number=5, day=date(2026, 1, 2))
    moments.append(now())
    thing.delete()
    moments.append(now())
    states = [reading.state_at("hostapp.thing", key, moment) for moment in moments]
    assert [state.exists for state in states] == [False, True, True, True, False]
    assert [(s.values.get("name"), s.values.get("number"), s.values.get("day")) for s in states[1:4]] == [
        ("one", 1, None),
        ("two", 1, None),
        ("two", 5, "2026-01-02"),
    ]
    assert [sorted(s.related.get("tags", [])) for s in states[1:4]] == [[], sorted([red.pk, blue.pk]), [blue.pk]]
    assert all(state.complete for state in states)


def test_what_was_never_recorded_is_not_known() -> None:
    assert reading.state_at("hostapp.thing", "0", timezone.now()).exists is None


def empty(tables: str) -> None:
    with as_owner(), connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables} CASCADE")


@pytest.mark.django_db(transaction=True)
def test_a_table_that_was_emptied_holds_nothing_any_more() -> None:
    tag = Tag.objects.create(name="red")
    empty("hostapp_tag, hostapp_thing_tags, hostapp_part")
    assert reading.state_at("hostapp.tag", str(tag.pk), now()).exists is False


@pytest.mark.django_db(transaction=True)
def test_links_that_were_all_cut_at_once_are_gone() -> None:
    thing = Thing.objects.create(name="one")
    thing.tags.add(Tag.objects.create(name="red"))
    empty("hostapp_thing_tags")
    assert reading.state_at("hostapp.thing", str(thing.pk), now()).related == {"tags": []}


# Values in words


def test_every_kind_of_value_is_said_by_the_rules_of_its_field() -> None:
    at = datetime(2026, 2, 3, 4, 5, 6, 7, tzinfo=UTC)
    thing = Thing.objects.create(
        name="one",
        price=Decimal("1234567890.25"),
        ratio=0.1,
        on=False,
        day=date(2026, 1, 2),
        at=at,
        span=timedelta(days=1, seconds=2),
        kind=Thing.Kind.LARGE,
        data={"a": [1, {"b": None}], "c": 2.5},
    )
    words = {line.name: str(line.new) for line in last(thing).differences}
    assert words["price"] == "1234567890.25"
    assert words["ratio"] == "0.1"
    assert words["on"] == "no"
    assert words["day"] == "2026-01-02"
    assert words["at"] == "2026-02-03 04:05:06.000007 UTC"
    assert words["span"] == "1 day, 0:00:02"
    assert words["kind"] == "Large"
    assert words["key"] == str(thing.key)


def test_json_is_said_by_path_and_only_where_it_differs() -> None:
    thing = Thing.objects.create(name="one", data={"a": [1, {"b": 2}], "same": {"x": 1}})
    thing.data = {"a": [1, {"b": 3}, 4], "same": {"x": 1}, "new": {"y": {}}}
    thing.save()
    assert said(last(thing)) == {
        "data › a › 1 › b": ("2", "3"),
        "data › a › 2": ("nothing", "4"),
        "data › new › y": ("nothing", "{}"),
    }


def test_null_and_empty_are_told_apart() -> None:
    thing = Thing.objects.create(name="one", text="x", day=date(2026, 1, 2))
    thing.text, thing.day = "", None
    thing.save()
    assert said(last(thing)) == {"text": ("x", "empty"), "day": ("2026-01-02", "nothing")}


def test_masked_long_and_erased_values_are_said_to_be_so() -> None:
    secretive = Secretive.objects.create(name="one", data={"password": "x", "open": 1}, phone="123")
    secretive.code, secretive.phone = "s3cret", "456"
    secretive.data = {"password": "y", "open": 1}
    secretive.save()
    described = last(secretive)
    assert said(described) == {
        "code": ("not shown", "not shown"),
        "phone": ("123", "456"),
        "data › password": ("not shown", "not shown"),
    }
    (found,) = history(secretive)[:1]
    found.personal, found.erased_what = None, b"commitment"
    assert [str(line.new) for line in differences(found, {})][-1] == "erased"
    thing = Thing.objects.create(name="one", text="long " * 500)
    assert said(last(thing))["text"][1].endswith("…")
    (note,) = [line.new.note for line in last(thing).differences if line.name == "text" and line.new]
    assert note.startswith("2500 characters in all, SHA-256 ")


def test_relations_are_said_by_name_also_when_what_they_name_is_gone() -> None:
    red, blue = Tag.objects.create(name="red"), Tag.objects.create(name="blue")
    thing = Thing.objects.create(name="one")
    thing.tags.add(red, blue)
    thing.tags.remove(red)
    part = Part.objects.create(name="wheel", machine=Machine.objects.create(name="car"), maker=blue)
    red.delete()
    added, removed = describe(history(thing)[:2][::-1])
    assert sorted(str(added.differences[0].new).split(", ")) == ["blue", "red"]
    assert (removed.differences[0].old, removed.action) == (removed.differences[0].old, "removed")
    assert str(removed.differences[0].old) == "red"
    assert said(last(part)) | {"id": ("", "")} == {
        "ID": ("", str(part.pk)),
        "id": ("", ""),
        "machine": ("", "car"),
        "maker": ("", "blue"),
        "name": ("", "wheel"),
    }


def test_a_page_costs_one_query_for_each_model_however_long_it_is() -> None:
    def cost(count: int) -> int:
        machine = Machine.objects.create(name="car")
        for number in range(count):
            Part.objects.create(
                name=f"{count}-{number}", machine=machine, maker=Tag.objects.create(name=f"{count}/{number}")
            )
        page = reading.newest(Query(Q(resource="hostapp.part")))
        with CaptureQueriesContext(connection) as asked:
            describe(page.records)
        return len(asked)

    assert cost(1) == cost(10) == 2


def test_names_that_hold_other_names_cost_no_more_queries() -> None:
    def cost(count: int) -> int:
        group = Group.objects.create(name=f"group {count}")
        group.permissions.add(*Permission.objects.all()[:count])
        page = reading.newest(reading.of_object("auth.group", str(group.pk)))
        with CaptureQueriesContext(connection) as asked:
            describe(page.records)
        return len(asked)

    assert cost(1) == cost(10)


def test_what_is_left_of_a_model_that_is_gone_is_shown_as_it_is() -> None:
    gone = Record(resource="shop.order", action="update", old={"total_sum": 1, "on": True}, new={"total_sum": 2})
    (described,) = describe([gone])
    assert said(described) == {"total sum": ("1", "2"), "on": ("yes", "nothing")}
    assert described.resource == "shop.order"


def test_an_event_is_said_with_what_it_brought() -> None:
    record("door_opened", "gate", label="north", new={"by": "key\n7", "password": "x", "where": {"floor": 1}})
    (found,) = reading.newest(Query(Q(resource="gate"))).records
    (described,) = describe([found])
    assert (described.action, described.object, described.tone) == ("door opened", "north", "event")
    assert said(described) == {"by": ("", "key\\x0a7"), "password": ("", "not shown"), "where › floor": ("", "1")}


def test_what_cannot_be_seen_is_spelt_out() -> None:
    assert visible("a\x00\u202eb\u2028c") == "a\\x00\\u202eb\\u2028c"
    assert visible("x" * 20, 5) == "xxxxx…"
