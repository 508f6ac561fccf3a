"""Every path by which a row can be written, what is done, and the records that must come of it: no more, no less.

The world before each: tags red (1) and blue (2); thing lamp (1, number 1) with the tag red (row 1); machine mill (1)
with the parts cog (1, made by red) and belt (2, made by blue); truck mule (1), load 3; words hi and hello. New rows
count from 101.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import psycopg2
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from django.test import AsyncClient, Client, override_settings

import auditlog
from auditlog import Actor
from auditlog.context import running_command
from config.database import embedded
from config.database.deadline import blocking_copy
from config.database.roles import as_owner
from tests.auditlog.world import ADA, Entry, added, changed, created, deleted, emptied, removed, visitor
from tests.hostapp.models import Machine, Part, Tag, Thing, Truck, UnauditedThing, Vehicle, Word
from tests.live import in_parallel


class Written(NamedTuple):
    """One path: its name, what is done, what must be recorded, in this order unless the database has none."""

    name: str
    do: Callable[[], object]
    expected: list[Entry]
    in_order: bool = True


# What takes more than a line to do


def lamp() -> Thing:
    return Thing.objects.get(pk=1)


def save(instance: Any, *, only: list[str] | None = None, **values: Any) -> None:
    for name, value in values.items():
        setattr(instance, name, value)
    instance.save(update_fields=only)


def resaved() -> None:
    lamp().save()


def cleared() -> None:
    lamp().tags.clear()


def cleared_from_other_side() -> None:
    Tag.objects.get(pk=1).things.clear()


def sql(statement: str, parameters: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def many_sql(statement: str, parameters: list[Any]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(statement, parameters)


def upsert(**kind: Any) -> None:
    Part.objects.bulk_create(
        [Part(name="cog", machine_id=1, maker_id=2), Part(name="gear", machine_id=1, maker_id=1)],
        **kind,
    )


def bulk_updated() -> None:
    cog, belt = Part.objects.order_by("pk")
    cog.name, belt.machine_id = "wheel", 1
    Part.objects.bulk_update([cog, belt], ["name", "machine"])


def load_fixture() -> None:
    rows = [{"model": "hostapp.tag", "pk": pk, "fields": {"name": name}} for pk, name in ((1, "rose"), (9, "ink"))]
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "tags.json"
        path.write_text(json.dumps(rows))
        call_command("loaddata", str(path), verbosity=0)


def selected_function() -> None:
    sql(f"CREATE FUNCTION pg_temp.paint() RETURNS void LANGUAGE sql AS $$ {ROSE} $$")
    sql("SELECT pg_temp.paint()")


def copy() -> None:
    connection.ensure_connection()
    with blocking_copy(), connection.cursor() as cursor:
        cursor.cursor.copy_expert("COPY hostapp_tag (name) FROM STDIN", io.StringIO("green\n"))


def each(*work: Callable[[], object]) -> None:
    for step in work:
        step()


def in_transaction(*work: Callable[[], object]) -> None:
    with transaction.atomic():
        for step in work:
            step()


def rolled_back(*work: Callable[[], object]) -> None:
    with suppress(ZeroDivisionError), transaction.atomic():
        for step in work:
            step()
        raise ZeroDivisionError


def refused(work: Callable[[], object], error: type[Exception] = IntegrityError) -> None:
    try:
        work()
    except error:
        return
    raise AssertionError("it was not refused")


def savepoints() -> None:
    with transaction.atomic():
        save(lamp(), only=["number"], number=2)
        rolled_back(lambda: Thing.objects.update(number=3))
        sql("UPDATE hostapp_thing SET number = 4")
        with transaction.atomic():
            Thing.objects.update(number=5)
        rolled_back(lambda: save(lamp(), number=6))
        save(lamp(), only=["number"], number=7)


def changed_in_place() -> None:
    thing = lamp()
    thing.data["a"].append(2)
    thing.save()


def stale() -> None:
    """Somebody else changed the price meanwhile; the stale instance writes the old one back."""
    thing = lamp()
    Thing.objects.update(price=Decimal("2.50"))
    save(thing, number=2)


def two_writers() -> None:
    def write() -> None:
        try:
            with auditlog.acting_as(ADA), transaction.atomic():
                Thing.objects.filter(pk=1).update(number=F("number") + 1)
                sql("SELECT pg_sleep(0.1)")  # so that the other one waits for the row
        finally:
            connection.close()

    in_parallel([write, write])


def after_commit() -> None:
    """Work that waits for commit writes in a transaction of its own."""
    with transaction.atomic():
        save(lamp(), only=["number"], number=2)
        transaction.on_commit(lambda: save(lamp(), only=["number"], number=3))


async def asynchronous() -> None:
    thing = await Thing.objects.aget(pk=1)
    thing.number = 2
    await thing.asave()
    await Thing.objects.filter(pk=1).aupdate(number=3)
    await sync_to_async(lambda: save(lamp(), number=4))()
    await thing.tags.aadd(2)
    await thing.adelete()


def in_thread(handed: Callable[..., Any]) -> None:
    def work() -> None:
        Tag.objects.create(name="green")
        connection.close()

    thread = Thread(target=handed(work))
    thread.start()
    thread.join()


def in_pool() -> None:
    def work(name: str) -> None:
        Tag.objects.create(name=name)
        connection.close()

    with ThreadPoolExecutor(1) as pool:
        list(pool.map(auditlog.carried(work), ["green", "pink"]))


def truncated(tables: str) -> None:
    with as_owner(), auditlog.acting_as(ADA):
        sql(f"TRUNCATE {tables}")


def emptied_of_fails() -> None:
    with as_owner(), auditlog.acting_as(ADA):
        rolled_back(lambda: sql("TRUNCATE hostapp_tag CASCADE"))


def failed_then_sql() -> None:
    """The announcement of a save that failed is over with it."""
    refused(lambda: Tag.objects.create(name="red"))
    sql("UPDATE hostapp_tag SET name = 'rose' WHERE id = 1")


# What is done through other doors: pages, commands, programs


def renamed_in_admin() -> None:
    visitor(Client()).post("/admin/hostapp/tag/1/change/", {"name": "rose"})


def admin_action() -> None:
    visitor(Client()).post("/admin/hostapp/tag/", {"action": "shout", "_selected_action": ["1"]})


def deleted_in_admin() -> None:
    chosen = {"action": "delete_selected", "_selected_action": ["2"], "post": "yes"}
    visitor(Client()).post("/admin/hostapp/tag/", chosen)


def posted(address: str) -> Any:
    with override_settings(ROOT_URLCONF="tests.hostapp.urls"):
        return visitor(Client()).post(address)


def renamed_in_async() -> None:
    client = visitor(AsyncClient())
    with override_settings(ROOT_URLCONF="tests.hostapp.urls"):
        async_to_sync(client.get)("/host/rename-in-async/")


def command_as_ada() -> None:
    with auditlog.acting_as(ADA, reason="she asked for it"):
        call_command("rename_tag", "rose")


def from_outside() -> None:
    """A program that knows nothing of the application, with the rights of its role."""
    given = connection.get_connection_params() | {"application_name": "psql"}
    for name in ("cursor_factory", "embedded"):
        given.pop(name, None)
    given.setdefault("host", str(embedded.socket_directory()))
    stranger = psycopg2.connect(**given)
    with stranger, stranger.cursor() as cursor:
        cursor.execute(ROSE)
    stranger.close()


# What is in the rows

RUNTIME_ROLE = str(connection.settings_dict["USER"])
STRANGER = Actor("database", RUNTIME_ROLE, "psql")
VISITOR = Actor("user", "world-ada's id", "world-ada")
PROGRAM = running_command()
LAMP = {
    "id": 1, "name": "lamp", "text": "", "number": 1, "price": 1.50, "ratio": 0.5, "on": True, "day": "2026-01-31",
    "at": "2026-03-01T12:30:00Z", "data": {"a": [1]}, "key": "00000000-0000-0000-0000-000000000001", "kind": "s",
}  # fmt: skip
COG = {"id": 1, "machine_id": 1, "maker_id": 1, "name": "cog"}
BELT = {"id": 2, "machine_id": 1, "maker_id": 2, "name": "belt"}
RED, BLUE = {"id": 1, "name": "red"}, {"id": 2, "name": "blue"}
GREEN, PINK = {"id": 101, "name": "green"}, {"id": 102, "name": "pink"}


def number(old: int, new: int, origin: str) -> Entry:
    return changed("thing", 1, "lamp", {"number": old}, {"number": new}, origin)


def new_tag(values: dict[str, Any], origin: str) -> Entry:
    return created("tag", values["id"], values["name"], values, origin)


def renamed(old: str, new: str, origin: str) -> Entry:
    return changed("tag", 1, new, {"name": old}, {"name": new}, origin)


MAKER_GONE = changed("part", 1, "cog", {"maker_id": 1}, None, "delete")

# fmt: off
SAVES = [
    Written("create", lambda: Tag.objects.create(name="green"), [new_tag(GREEN, "save")]),
    Written("save of a new one", lambda: Tag(name="green").save(), [new_tag(GREEN, "save")]),
    Written("save", lambda: save(lamp(), number=2), [number(1, 2, "save")]),
    Written("save of several fields", lambda: save(lamp(), number=2, text="x"),
        [changed("thing", 1, "lamp", {"number": 1, "text": ""}, {"number": 2, "text": "x"}, "save")]),
    Written("save to and from NULL",
        lambda: each(lambda: save(lamp(), day=None), lambda: save(lamp(), day="2026-02-01")), [
        changed("thing", 1, "lamp", {"day": "2026-01-31"}, None, "save"),
        changed("thing", 1, "lamp", None, {"day": "2026-02-01"}, "save")]),
    Written("save(update_fields) records only what was written",
        lambda: save(lamp(), number=2, text="x", only=["number"]), [number(1, 2, "save")]),
    Written("a save that changes nothing", resaved, []),
    Written("a save of nothing", lambda: save(lamp(), only=[]), []),
    Written("a save of the same number as text", lambda: save(lamp(), number="1"), []),
    Written("a save of the same number with more decimals", lambda: save(lamp(), price=Decimal("1.5000")), []),
    Written("a save of the same date as text", lambda: save(lamp(), day="2026-01-31"), []),
    Written("a save of the same moment in another zone", lambda: save(lamp(), at="2026-03-01T14:30:00+02:00"), []),
    Written("a save of the same UUID as text", lambda: save(lamp(), key="00000000000000000000000000000001"), []),
    Written("a save of the same JSON, its keys in another order",
        lambda: each(lambda: save(lamp(), data={"x": 1, "y": 2}), lambda: save(lamp(), data={"y": 2, "x": 1})),
        [changed("thing", 1, "lamp", {"data": {"a": [1]}}, {"data": {"x": 1, "y": 2}}, "save")]),
    Written("F expression: a number, not a formula",
        lambda: save(lamp(), number=F("number") + 5), [number(1, 6, "save")]),
    Written("get_or_create that creates", lambda: Tag.objects.get_or_create(name="green"), [new_tag(GREEN, "save")]),
    Written("get_or_create that gets", lambda: Tag.objects.get_or_create(name="red"), []),
    Written("update_or_create that creates",
        lambda: Tag.objects.update_or_create(name="green"), [new_tag(GREEN, "save")]),
    Written("update_or_create that updates", lambda: Part.objects.update_or_create({"maker_id": 2}, name="cog"),
        [changed("part", 1, "cog", {"maker_id": 1}, {"maker_id": 2}, "save")]),
    Written("update_or_create without a change",
        lambda: Part.objects.update_or_create({"maker_id": 1}, name="cog"), []),
    Written("JSON changed in place", changed_in_place,
        [changed("thing", 1, "lamp", {"data": {"a": [1]}}, {"data": {"a": [1, 2]}}, "save")]),
    Written("an instance with deferred fields", lambda: save(Thing.objects.defer("text", "data").get(pk=1), number=2),
        [number(1, 2, "save")]),
    Written("an instance with only one field", lambda: save(Thing.objects.only("number").get(pk=1), number=2),
        [number(1, 2, "save")]),
    Written("a stale instance: what it undoes is recorded", stale, [
        changed("thing", 1, "lamp", {"price": 1.50}, {"price": 2.50}, "bulk"),
        changed("thing", 1, "lamp", {"price": 2.50, "number": 1}, {"price": 1.50, "number": 2}, "save")]),
    Written("two writers: the old value of one is the other's new one", two_writers,
        [number(1, 2, "bulk"), number(2, 3, "bulk")]),
    Written("save of a child: only the table that changed", lambda: save(Truck.objects.get(pk=1), load=4),
        [changed("truck", 1, None, {"load": 3}, {"load": 4}, "save")]),
    Written("save of a child: the parent's column", lambda: save(Truck.objects.get(pk=1), name="ox"),
        [changed("vehicle", 1, "ox", {"name": "mule"}, {"name": "ox"}, "save")]),
    Written("create of a child: a record for each table", lambda: Truck.objects.create(name="ox", load=5), [
        created("vehicle", 101, "ox", {"id": 101, "name": "ox"}, "save"),
        created("truck", 101, None, {"vehicle_ptr_id": 101, "load": 5}, "save")]),
    Written("a key given anew makes a copy", lambda: save(Word.objects.get(pk="hi"), code="hey"),
        [created("word", "hey", "hey", {"code": "hey", "meaning": ""}, "save")]),
]

DELETES = [
    Written("delete", lambda: Tag.objects.create(name="green").delete(),
        [new_tag(GREEN, "save"), deleted("tag", 101, "green", GREEN, "delete")]),
    Written("delete with a cascade: each row its own record", lambda: Machine.objects.get(pk=1).delete(), [
        deleted("part", 1, "cog", COG, "delete"), deleted("part", 2, "belt", BELT, "delete"),
        deleted("machine", 1, "mill", {"id": 1, "name": "mill"}, "delete")]),
    Written("delete with SET_NULL and a relation", lambda: Tag.objects.get(pk=1).delete(), [
        removed("thing", 1, "lamp", {"tags": {"1": 1}}, "delete"), MAKER_GONE,
        deleted("tag", 1, "red", RED, "delete")]),
    Written("delete of a queryset", lambda: Tag.objects.filter(pk=1).delete(), [
        removed("thing", 1, "lamp", {"tags": {"1": 1}}, "delete"), MAKER_GONE,
        deleted("tag", 1, "red", RED, "delete")]),
    Written("delete of a queryset without dependants", lambda: Part.objects.all().delete(),
        [deleted("part", 1, "cog", COG, "delete"), deleted("part", 2, "belt", BELT, "delete")]),
    Written("delete of a child: parent and child", lambda: Truck.objects.get(pk=1).delete(), [
        deleted("truck", 1, None, {"vehicle_ptr_id": 1, "load": 3}, "delete"),
        deleted("vehicle", 1, "mule", {"id": 1, "name": "mule"}, "delete")]),
    Written("delete of a child that keeps its parent", lambda: Truck.objects.get(pk=1).delete(keep_parents=True),
        [deleted("truck", 1, None, {"vehicle_ptr_id": 1, "load": 3}, "delete")]),
    Written("delete of a parent takes the child", lambda: Vehicle.objects.filter(pk=1).delete(), [
        deleted("truck", 1, None, {"vehicle_ptr_id": 1, "load": 3}, "delete"),
        deleted("vehicle", 1, "mule", {"id": 1, "name": "mule"}, "delete")]),
    Written("keys of many changed at once: each went and came",
        lambda: Word.objects.update(code=Concat("code", Value("!"))), [
        deleted("word", "hi", "hi", {"code": "hi", "meaning": ""}, "bulk"),
        deleted("word", "hello", "hello", {"code": "hello", "meaning": ""}, "bulk"),
        created("word", "hi!", "hi!", {"code": "hi!", "meaning": ""}, "bulk"),
        created("word", "hello!", "hello!", {"code": "hello!", "meaning": ""}, "bulk")], in_order=False),
    Written("delete of nothing", lambda: Tag.objects.filter(name="?").delete(), []),
]

RELATIONS = [
    Written("add: once, under the owner",
        lambda: lamp().tags.add(2, 1), [added("thing", 1, "lamp", {"tags": {"102": 2}})]),
    Written("add of what is there", lambda: lamp().tags.add(1), []),
    Written("add from the other side", lambda: Tag.objects.get(pk=2).things.add(lamp()),
        [added("thing", 1, "lamp", {"tags": {"101": 2}})]),
    Written("remove", lambda: lamp().tags.remove(1, 2), [removed("thing", 1, "lamp", {"tags": {"1": 1}})]),
    Written("remove from the other side", lambda: Tag.objects.get(pk=1).things.remove(lamp()),
        [removed("thing", 1, "lamp", {"tags": {"1": 1}})]),
    Written("remove of what is not there", lambda: lamp().tags.remove(2), []),
    Written("set: what came and what went", lambda: lamp().tags.set([2]),
        [removed("thing", 1, "lamp", {"tags": {"1": 1}}), added("thing", 1, "lamp", {"tags": {"101": 2}})]),
    Written("set of what is there", lambda: lamp().tags.set([1]), []),
    Written("clear", cleared, [removed("thing", 1, "lamp", {"tags": {"1": 1}})]),
    Written("clear from the other side", cleared_from_other_side,
        [removed("thing", 1, "lamp", {"tags": {"1": 1}})]),
    Written("create through a relation", lambda: lamp().tags.create(name="green"),
        [new_tag(GREEN, "save"), added("thing", 1, "lamp", {"tags": {"101": 101}})]),
    Written("add to a relation with itself: both directions, two owners",
        lambda: Word.objects.get(pk="hi").synonyms.add(Word.objects.get(pk="hello")), [
        added("word", "hi", "hi", {"synonyms": {"101": "hello"}}),
        added("word", "hello", "hello", {"synonyms": {"102": "hi"}})]),
    Written("a relation's row saved by itself, of which Django says nothing",
        lambda: save(Thing.tags.through.objects.get(pk=1), tag_id=2), [
        removed("thing", 1, "lamp", {"tags": {"1": 1}}, "sql"),
        added("thing", 1, "lamp", {"tags": {"1": 2}}, "sql")]),
    Written("children by the reverse manager", lambda: Machine.objects.get(pk=1).parts.create(name="gear"),
        [created("part", 101, "gear", {"id": 101, "machine_id": 1, "name": "gear"}, "save")]),
]

BULKS = [
    Written("update of a queryset: a record for each row", lambda: Part.objects.update(maker=2),
        [changed("part", 1, "cog", {"maker_id": 1}, {"maker_id": 2}, "bulk")]),
    Written("update with an expression", lambda: Thing.objects.update(number=F("number") * 3), [number(1, 3, "bulk")]),
    Written("update of many", lambda: Part.objects.update(maker=None), [
        changed("part", 1, "cog", {"maker_id": 1}, None, "bulk"),
        changed("part", 2, "belt", {"maker_id": 2}, None, "bulk")]),
    Written("update of a child's queryset: each table its own", lambda: Truck.objects.update(name="ox", load=4), [
        changed("truck", 1, None, {"load": 3}, {"load": 4}, "bulk"),
        changed("vehicle", 1, "ox", {"name": "mule"}, {"name": "ox"}, "bulk")]),
    Written("update of nothing", lambda: Part.objects.filter(pk=0).update(name="x"), []),
    Written("update of a key: one that went and one that came",
        lambda: Word.objects.filter(pk="hi").update(code="hey"), [
        deleted("word", "hi", "hi", {"code": "hi", "meaning": ""}, "bulk"),
        created("word", "hey", "hey", {"code": "hey", "meaning": ""}, "bulk")]),
    Written("bulk_create", lambda: Tag.objects.bulk_create([Tag(name="green"), Tag(name="pink")]),
        [new_tag(GREEN, "bulk"), new_tag(PINK, "bulk")]),
    Written("bulk_create in batches",
        lambda: Tag.objects.bulk_create([Tag(name="green"), Tag(name="pink")], batch_size=1),
        [new_tag(GREEN, "bulk"), new_tag(PINK, "bulk")]),
    Written("bulk_create of none", lambda: Tag.objects.bulk_create([]), []),
    Written("bulk_create(update_conflicts): what was there and what is new",
        lambda: upsert(update_conflicts=True, unique_fields=["name"], update_fields=["maker"]), [
        changed("part", 1, "cog", {"maker_id": 1}, {"maker_id": 2}, "bulk"),
        created("part", 102, "gear", {"id": 102, "machine_id": 1, "maker_id": 1, "name": "gear"}, "bulk")]),
    Written("bulk_create(ignore_conflicts): only what is new", lambda: upsert(ignore_conflicts=True),
        [created("part", 102, "gear", {"id": 102, "machine_id": 1, "maker_id": 1, "name": "gear"}, "bulk")]),
    Written("bulk_update", bulk_updated, [changed("part", 1, "wheel", {"name": "cog"}, {"name": "wheel"}, "bulk")]),
    Written("fixture", load_fixture,
        [renamed("red", "rose", "save"), created("tag", 9, "ink", {"id": 9, "name": "ink"}, "save")]),
]

ROSE = "UPDATE hostapp_tag SET name = 'rose' WHERE id = 1"
GREENED = "INSERT INTO hostapp_tag (name) VALUES ('green')"
RAW = [
    Written("raw SQL", lambda: sql(ROSE), [renamed("red", "rose", "sql")]),
    Written("raw SQL with parameters", lambda: sql("UPDATE hostapp_tag SET name = %s WHERE id = %s", ["100 %", 1]),
        [renamed("red", "100 %", "sql")]),
    Written("raw SQL with an INSERT",
        lambda: sql(GREENED), [new_tag(GREEN, "sql")]),
    Written("raw SQL with a DELETE",
        lambda: sql("DELETE FROM hostapp_part WHERE id = 1"), [deleted("part", 1, "cog", COG, "sql")]),
    Written("raw SQL many times", lambda: many_sql("INSERT INTO hostapp_tag (name) VALUES (%s)", [["green"], ["pink"]]),
        [new_tag(GREEN, "sql"), new_tag(PINK, "sql")]),
    Written("a CTE that writes", lambda: sql("WITH gone AS (DELETE FROM hostapp_part WHERE id = 1 RETURNING *)"
        " INSERT INTO hostapp_tag (name) SELECT 'green' FROM gone"),
        [deleted("part", 1, "cog", COG, "sql"), new_tag(GREEN, "sql")]),
    Written("a write behind comments", lambda: sql(f"/* who? */ -- why?\n{ROSE}"), [renamed("red", "rose", "sql")]),
    Written("several statements", lambda: sql(f"{ROSE}; {GREENED}"),
        [renamed("red", "rose", "sql"), new_tag(GREEN, "sql")]),
    Written("MERGE",
        lambda: sql("MERGE INTO hostapp_tag t USING (VALUES (1, 'rose'), (50, 'ink')) s(id, name) ON t.id = s.id"
        " WHEN MATCHED THEN UPDATE SET name = s.name WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.name)"),
        [renamed("red", "rose", "sql"), created("tag", 50, "ink", {"id": 50, "name": "ink"}, "sql")]),
    Written("INSERT ... ON CONFLICT",
        lambda: sql("INSERT INTO hostapp_tag VALUES (1, 'rose') ON CONFLICT (id) DO UPDATE SET name = 'rose'"),
        [renamed("red", "rose", "sql")]),
    Written("an anonymous block", lambda: sql("DO $$ BEGIN " + ROSE + "; END $$"), [renamed("red", "rose", "sql")]),
    Written("a prepared statement",
        lambda: each(lambda: sql(f"PREPARE rose AS {ROSE}"), lambda: sql("EXECUTE rose")),
        [renamed("red", "rose", "sql")]),
    Written("EXPLAIN ANALYZE, which writes too",
        lambda: sql(f"EXPLAIN (ANALYZE) {ROSE}"), [renamed("red", "rose", "sql")]),
    Written("a function that writes", selected_function, [renamed("red", "rose", "sql")]),
    Written("COPY in autocommit", copy, [new_tag(GREEN, "sql")]),
    Written("COPY in a transaction", lambda: in_transaction(copy), [new_tag(GREEN, "sql")]),
    Written("COPY rolled back", lambda: rolled_back(copy), []),
    Written("TRUNCATE: how many there were", lambda: truncated("hostapp_part"), [emptied("part", {"rows": 2}, "sql")]),
    Written("TRUNCATE of a relation", lambda: truncated("hostapp_thing_tags"), [emptied("thing", {"tags": 1}, "sql")]),
    Written("TRUNCATE CASCADE: every table its own", lambda: truncated("hostapp_machine CASCADE"),
        [emptied("machine", {"rows": 1}, "sql"), emptied("part", {"rows": 2}, "sql")]),
    Written("TRUNCATE rolled back", emptied_of_fails, []),
]

TRANSACTIONS = [
    Written("autocommit: several writes, several transactions",
        lambda: each(lambda: save(lamp(), number=2), lambda: Thing.objects.update(number=3), lambda: sql(ROSE)),
        [number(1, 2, "save"), number(2, 3, "bulk"), renamed("red", "rose", "sql")]),
    Written("one transaction",
        lambda: in_transaction(
            lambda: save(lamp(), number=2), lambda: Thing.objects.update(number=3), lambda: sql(ROSE)),
        [number(1, 2, "save"), number(2, 3, "bulk"), renamed("red", "rose", "sql")]),
    Written("rollback leaves nothing",
        lambda: rolled_back(lambda: save(lamp(), number=2), cleared), []),
    Written("savepoints: what was rolled back is not there, what follows has its own origin", savepoints,
        [number(1, 2, "save"), number(2, 4, "sql"), number(4, 5, "bulk"), number(5, 7, "save")]),
    Written("a failed save in autocommit", lambda: refused(lambda: Tag.objects.create(name="red")), []),
    Written("a failed update", lambda: refused(lambda: Tag.objects.update(name="same")), []),
    Written("what follows a failed save is not taken for it", failed_then_sql, [renamed("red", "rose", "sql")]),
    Written("a statement that the server does not understand",
        lambda: refused(lambda: sql("UPDATE nowhere SET x = 1"), DatabaseError), []),
    Written("on_commit work", after_commit, [number(1, 2, "save"), number(2, 3, "save")]),
    Written("async", async_to_sync(asynchronous), [
        number(1, 2, "save"), number(2, 3, "bulk"), number(3, 4, "save"),
        added("thing", 1, "lamp", {"tags": {"101": 2}}),
        removed("thing", 1, "lamp", {"tags": {"1": 1, "101": 2}}, "delete"),
        deleted("thing", 1, "lamp", LAMP | {"number": 4}, "delete")]),
    Written("a thread that carries the context", lambda: in_thread(auditlog.carried), [new_tag(GREEN, "save")]),
    Written("a pool of threads that carries it", in_pool, [new_tag(GREEN, "save"), new_tag(PINK, "save")]),
    Written("a model that nobody registered",
        lambda: each(lambda: UnauditedThing.objects.create(name="x"), lambda: UnauditedThing.objects.update(number=2)),
        []),
]

# Who acts is not Ada here.
DOORS = [
    Written("the admin's form", renamed_in_admin, [renamed("red", "rose", "save").by(VISITOR)]),
    Written("an action of the admin", admin_action, [renamed("red", "RED", "save").by(VISITOR)]),
    Written("deleting in the admin", deleted_in_admin, [
        changed("part", 2, "belt", {"maker_id": 2}, None, "delete").by(VISITOR),
        deleted("tag", 2, "blue", BLUE, "delete").by(VISITOR)]),
    Written("a page", lambda: posted("/host/rename/"), [renamed("red", "rose", "bulk").by(VISITOR)]),
    Written("an async page and its threads", renamed_in_async,
        [renamed("red", "rose", "save").by(VISITOR), renamed("rose", "ruby", "bulk").by(VISITOR)]),
    Written("a command", lambda: call_command("rename_tag", "rose"), [renamed("red", "rose", "bulk").by(PROGRAM)]),
    Written("a command in somebody's name", command_as_ada, [renamed("red", "rose", "bulk")]),
    Written("a thread without the context: the program's", lambda: in_thread(lambda work: work),
        [new_tag(GREEN, "save").by(PROGRAM)]),
    Written("psql from outside", from_outside, [renamed("red", "rose", "outside").by(STRANGER)]),
]
# fmt: on

PATHS = [*SAVES, *DELETES, *RELATIONS, *BULKS, *RAW, *TRANSACTIONS]
