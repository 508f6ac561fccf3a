"""What a record holds of each kind of value: typed, exact, the same whatever the session is set to; secrets masked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.db import NotSupportedError, connection, transaction
from django.db.backends.postgresql.psycopg_any import DateRange, DateTimeTZRange, NumericRange
from pytest_django.plugin import DjangoDbBlocker

from auditlog import triggers
from auditlog.models import Record
from config.database.roles import as_owner
from tests.auditlog.world import Trail, committed_world
from tests.hostapp.models import Everything, Secretive, Tag, Thing

ODD_SESSION = """
    SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German, DMY'; SET IntervalStyle = 'iso_8601';
    SET bytea_output = 'escape'; SET extra_float_digits = -15; SET lc_numeric = 'C'; SET xmloption = 'content';
    SET client_encoding = 'UTF8'; SET standard_conforming_strings = on; SET array_nulls = on;
"""


@pytest.fixture(autouse=True)
def world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock(), committed_world():
        yield


@pytest.fixture(params=["usual", "odd"])
def session(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param == "odd":
        with connection.cursor() as cursor:
            cursor.execute(ODD_SESSION)
    yield
    connection.close()


@pytest.fixture(params=["proper", "general"])
def functions(request: pytest.FixtureRequest) -> Iterator[None]:
    """The trigger functions proper, and those that stand in for them while a migration changes columns."""
    if request.param == "proper":
        yield
        return
    with as_owner():
        triggers.generalise(connection)
    try:
        yield
    finally:
        with as_owner():
            triggers.install(connection)


def said_of(action: str) -> dict[str, Any]:
    """The values of the newest record, numbers as they stand there."""
    column = "old" if action == "delete" else "new"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT action, {column}::text FROM auditlog_record ORDER BY id DESC LIMIT 1")  # noqa: S608 - names of ours
        found, text = cursor.fetchone()
    assert found == action
    values: dict[str, Any] = json.loads(text, parse_float=Decimal)
    return values


def execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


DIGEST_OF_A = hashlib.sha256(b"a" * 5000).hexdigest()
VALUES: list[tuple[str, Any, Any]] = [
    ("small", -32768, -32768),
    ("big", 2**63 - 1, 2**63 - 1),
    ("flag", False, False),
    ("short", "", ""),
    ("short", 'ü"\\\n\t→', 'ü"\\\n\t→'),
    ("short", "😀" * 10, "😀" * 10),
    ("short", "\x01\x7f\u2028", "\x01\x7f\u2028"),
    ("long", "a" * 1000, "a" * 1000),
    ("long", "a" * 5000, {"beginning": "a" * 200, "length": 5000, "sha256": DIGEST_OF_A}),
    ("url", "a" * 1001, {"beginning": "a" * 200, "length": 1001, "sha256": hashlib.sha256(b"a" * 1001).hexdigest()}),
    ("day", date(1, 1, 1), "0001-01-01"),
    ("day", date(9999, 12, 31), "9999-12-31"),
    ("hour", time(23, 59, 59, 999999), "23:59:59.999999"),
    ("moment", datetime(2026, 3, 29, 1, 30, 0, 1, tzinfo=UTC), "2026-03-29T01:30:00.000001Z"),
    ("moment", datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00Z"),
    ("span", timedelta(days=-1, microseconds=1), Decimal("-86399.999999")),
    ("span", timedelta(days=999_999_999), Decimal("86399999913600.000000")),
    ("amount", Decimal("12345678901234567890.1234567891"), Decimal("12345678901234567890.1234567891")),
    ("amount", Decimal("0.10"), Decimal("0.1000000000")),
    ("ratio", 0.1 + 0.2, Decimal("0.30000000000000004")),
    ("ratio", 5e-324, Decimal("5E-324")),
    ("ratio", 1.7976931348623157e308, Decimal("1.7976931348623157E+308")),
    ("ratio", float("nan"), "NaN"),
    ("ratio", float("-inf"), "-Infinity"),
    ("uuid", UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ("blob", b"", ""),
    ("blob", b"\x00\xff'\\", "00ff275c"),
    ("data", None, None),
    (
        "data",
        {"a": [1, 2.50, None, "x", {"b": True}], "": 0},
        {"a": [1, Decimal("2.5"), None, "x", {"b": True}], "": 0},
    ),
    ("data", [], []),
    ("data", "text", "text"),
    ("data", 10**30, 10**30),
    ("address", "2001:db8::1", "2001:db8::1"),
    ("address", "192.0.2.1", "192.0.2.1"),
    ("numbers", [1, None, -3], [1, None, -3]),
    ("numbers", [], []),
    ("words", ['a"b', "c,d", "", None, "ü"], ['a"b', "c,d", "", None, "ü"]),
    ("words", ["NULL", "{}"], ["NULL", "{}"]),
    ("moments", [datetime(2026, 1, 1, 12, tzinfo=UTC)], ["2026-01-01T12:00:00+00:00"]),
    (
        "period",
        DateTimeTZRange(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)),
        '["2026-01-01 00:00:00+00","2026-01-02 00:00:00+00")',
    ),
    ("days", DateRange(date(2026, 1, 31), None), "[2026-01-31,)"),
    ("reach", NumericRange(1, 5, "[]"), "[1,6)"),
    ("reach", NumericRange(empty=True), "empty"),
    ("margin", NumericRange(Decimal("0.10"), Decimal("1"), "()"), "(0.10,1)"),
]


@pytest.mark.usefixtures("session", "functions")
def test_each_value_is_typed_and_exact_whatever_the_session_is_set_to() -> None:
    for field, value, expected in VALUES:
        if field == "data" and value is None:
            continue
        row = Everything.objects.create(**{field: value})
        whole = {"id": row.pk, field: expected}
        assert said_of("create") == whole
        Everything.objects.filter(pk=row.pk).update(**{field: None})
        back = Trail()
        Everything.objects.filter(pk=row.pk).update(**{field: value})
        assert said_of("update") == {field: expected}
        Everything.objects.filter(pk=row.pk).update(**{field: value})
        assert len(texts(back, "new")) == 1
        execute("DELETE FROM hostapp_everything")  # the driver cannot read dates in German
        assert said_of("delete") == whole


@pytest.mark.usefixtures("session", "functions")
def test_many_rows_at_once_say_the_same_as_one() -> None:
    given = [(field, value, expected) for field, value, expected in VALUES if value is not None]
    trail = Trail()
    rows = Everything.objects.bulk_create([Everything(**{field: value}) for field, value, _ in given])
    made = [said for (said,) in texts(trail, "new")]
    assert made == [{"id": row.pk, field: expected} for row, (field, _, expected) in zip(rows, given, strict=True)]
    trail = Trail()
    execute("DELETE FROM hostapp_everything")
    assert sorted(map(repr, (said for (said,) in texts(trail, "old")))) == sorted(map(repr, made))


def texts(trail: Trail, column: str) -> list[tuple[Any]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column}::text FROM auditlog_record WHERE id > %s ORDER BY id", [trail.since])  # noqa: S608 - names of ours
        return [(json.loads(text, parse_float=Decimal),) for (text,) in cursor.fetchall()]


@pytest.mark.usefixtures("session", "functions")
def test_a_table_without_arrays_and_ranges_says_the_same_too() -> None:
    """Its functions bring no settings but one."""
    moment = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    Thing.objects.update(at=moment, day=date(2026, 3, 4), span=timedelta(hours=-1), ratio=0.1 + 0.2)
    assert said_of("update") == {
        "at": "2026-03-29T01:30:00Z",
        "day": "2026-03-04",
        "span": Decimal("-3600"),
        "ratio": Decimal("0.30000000000000004"),
    }


@pytest.mark.usefixtures("session", "functions")
def test_what_only_sql_can_write_is_exact_too() -> None:
    row = Everything.objects.create()
    for column, literal, expected in [
        ("moment", "timestamptz 'infinity'", "infinity"),
        ("moment", "timestamptz '-infinity'", "-infinity"),
        ("day", "date 'infinity'", "infinity"),
        ("amount", "numeric 'NaN'", "NaN"),
        ("data", "'1.10'::jsonb", Decimal("1.10")),
    ]:
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE hostapp_everything SET {column} = {literal} WHERE id = {row.pk}")  # noqa: S608 - names of ours
        assert said_of("update") == {column: expected}, literal


def test_json_null_is_not_the_absence_of_json() -> None:
    Everything.objects.create()
    execute("UPDATE hostapp_everything SET data = 'null'")
    assert said_of("update") == {"data": None}
    execute("UPDATE hostapp_everything SET data = NULL")
    record = Record.objects.order_by("-id")[0]
    assert (record.old, record.new) == ({"data": None}, None)


@pytest.mark.usefixtures("functions")
def test_a_value_that_follows_from_others_is_left_out() -> None:
    row = Everything.objects.create(small=2)
    assert said_of("create") == {"id": row.pk, "small": 2}
    Everything.objects.update(small=3)
    assert said_of("update") == {"small": 3}


ANY_CASE = "CREATE COLLATION public.anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"


def test_a_letter_that_the_collation_takes_for_another_is_a_change() -> None:
    """In one row and in many; the table is put back afterwards."""
    Tag.objects.create(name="rot")
    with as_owner(), transaction.atomic(), connection.cursor() as cursor:
        try:
            cursor.execute(ANY_CASE)
        except NotSupportedError:
            transaction.set_rollback(True)
            pytest.skip("this PostgreSQL was built without ICU, and has no such collations")
        # Before PostgreSQL 18 no index for LIKE stands on such a column.
        cursor.execute("SELECT indexname FROM pg_indexes WHERE tablename = 'hostapp_tag' AND indexname LIKE '%like'")
        ((for_like,),) = cursor.fetchall()
        cursor.execute(f'DROP INDEX "{for_like}"')
        cursor.execute("ALTER TABLE hostapp_tag ALTER name TYPE varchar(50) COLLATE public.anycase")
        trail = Trail()
        cursor.execute("UPDATE hostapp_tag SET name = 'RED' WHERE name = 'red'")
        cursor.execute("UPDATE hostapp_tag SET name = initcap(name)")
        assert trail.entries()[0].new == {"name": "RED"}
        assert {entry.new["name"] for entry in trail.entries()[1:] if entry.new} == {"Red", "Blue", "Rot"}
        transaction.set_rollback(True)


# What is masked


SECRETS = ["hunter2", "", "ü" * 300, "'%s\\", "x" * 5000]


def fingerprint(value: Any) -> str:
    assert list(value) == ["masked"]
    assert len(value["masked"]) == 16
    return str(value["masked"])


@pytest.mark.usefixtures("functions")
def test_secrets_are_masked_by_declaration_and_by_name_and_told_apart() -> None:
    prints = {}
    for secret in (text[:50] for text in SECRETS):
        Secretive.objects.create(name="a", code=secret, api_key=secret, hidden=secret)
        record = Record.objects.order_by("-id")[0]
        assert record.new is not None
        assert "hidden" not in record.new
        assert fingerprint(record.new["code"]) == fingerprint(record.new["api_key"])
        prints[secret] = fingerprint(record.new["code"])
        Secretive.objects.create(name="b", code=secret)
        again = Record.objects.order_by("-id")[0]
        assert again.new is not None
        assert fingerprint(again.new["code"]) == prints[secret]
    assert len(set(prints.values())) == len(prints)


@pytest.mark.usefixtures("functions")
def test_that_a_secret_changed_is_seen_and_neither_value() -> None:
    row = Secretive.objects.create(name="a", code="hunter2")
    row.code = "hunter3"
    row.save()
    record = Record.objects.order_by("-id")[0]
    assert record.old is not None and record.new is not None
    assert fingerprint(record.old["code"]) != fingerprint(record.new["code"])
    row.hidden = "nobody sees"
    trail = Trail()
    row.save()
    assert trail.records() == []


LONG = "x" * 2000


@pytest.mark.usefixtures("functions")
@pytest.mark.parametrize(
    "data",
    [
        {"password": "hunter2"},
        {"Api-Key": "hunter2", "plain": 1},
        {"deep": [{"er": {"accessToken": "hunter2"}}]},
        {"tokens": ["hunter2", {"a": "hunter2"}]},
        {"session_key": {"a": {"b": "hunter2"}}},
        [[{"client_secret": "hunter2"}]],
        {"secret": "hunter2", "padding": LONG},  # also in what is shown of a long value
        {"padding": LONG, "secret": "hunter2"},
        {"password": f"hunter2{LONG}"},
        {'say "password"': "hunter2"},
        {"ПАРОЛЬ password": "hunter2"},
    ],
)
def test_secrets_inside_json_are_masked_at_any_depth(data: Any) -> None:
    trail = Trail()
    Secretive.objects.create(name="a")
    Secretive.objects.update(data=data)
    Secretive.objects.bulk_create([Secretive(name="b", data=data), Secretive(name="c", data=data)])
    Secretive.objects.all().delete()
    assert len(trail.records()) == 7
    with connection.cursor() as cursor:
        cursor.execute("SELECT string_agg(r::text, '') FROM auditlog_record r WHERE id > %s", [trail.since])
        assert "hunter2" not in cursor.fetchone()[0]


@pytest.mark.usefixtures("functions")
def test_what_is_no_secret_inside_json_is_shown() -> None:
    data = {"token": None, "keyboard": "qwerty", "pinned": True, "a": {"hashtag": 1, "password": "x"}}
    Secretive.objects.create(name="a", data=data)
    record = Record.objects.order_by("-id")[0]
    assert record.new is not None
    shown = record.new["data"]
    fingerprint(shown["a"].pop("password"))
    assert shown == {"token": None, "keyboard": "qwerty", "pinned": True, "a": {"hashtag": 1}}


# What is personal, what is quiet


@pytest.mark.usefixtures("functions")
def test_what_is_personal_has_a_place_of_its_own() -> None:
    row = Secretive.objects.create(name="a", phone="555")
    first = Record.objects.order_by("-id")[0]
    assert first.new is not None
    assert ("phone" in first.new, first.personal) == (False, {"new": {"phone": "555"}})
    row.phone = "556"
    row.save()
    second = Record.objects.order_by("-id")[0]
    assert (second.old, second.new) == (None, None)
    assert second.personal == {"old": {"phone": "555"}, "new": {"phone": "556"}}
    assert (second.before, second.after) == ({"phone": "555"}, {"phone": "556"})
    Secretive.objects.all().delete()
    assert Record.objects.order_by("-id")[0].personal == {"old": {"phone": "556"}}


@pytest.mark.usefixtures("functions")
def test_what_every_save_touches_makes_no_record_by_itself() -> None:
    row = Secretive.objects.create(name="a")
    Secretive.objects.create(name="b")
    later = datetime(2030, 1, 1, tzinfo=UTC)
    trail = Trail()
    row.seen = later
    row.save()
    Secretive.objects.update(seen=datetime(2031, 1, 1, tzinfo=UTC))
    assert trail.records() == []
    row.name, row.seen = "z", later
    row.save()
    (record,) = trail.records()
    assert record.new == {"name": "z", "seen": "2030-01-01T00:00:00Z"}
