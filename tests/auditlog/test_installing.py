"""The triggers follow the models through migrations, and record what migrations themselves change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, models, transaction
from django.db.migrations.state import ModelState, ProjectState
from django.db.models.signals import post_migrate

from auditlog import context, installing, registry, triggers
from auditlog.models import Record
from config.database.roles import as_owner
from tests.hostapp.models import Machine, Part, Secretive, Tag, Thing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def as_declared() -> Iterator[None]:
    """Whatever the test does to the triggers, they end as they began."""
    yield
    with as_owner():
        triggers.install(connection)


def newest() -> int:
    return Record.objects.order_by("-id").values_list("id", flat=True).first() or 0


def since(start: int) -> list[dict[str, Any]]:
    names = ("origin", "action", "resource", "object_id", "object_label", "old", "new", "personal")
    return list(Record.objects.filter(id__gt=start).order_by("id").values(*names))


def change_something_of_every_kind() -> list[dict[str, Any]]:
    """Return the records of a fixed list of changes, without what differs from one time to the next."""
    start = newest()
    tag = Tag.objects.create(name="red")
    thing = Thing.objects.create(name="lamp", data={"color": "blue", "none": {}, "api_key": "1234"}, day="2026-11-21")
    Thing.objects.create(name="x" * 100, text="y" * 3000)
    thing.tags.add(tag)
    thing.number, thing.day, thing.ratio = 5, None, 0.25
    thing.save()
    thing.save()
    Thing.objects.update(span="1 02:00:00", price="9.90")
    machine = Machine.objects.create(name="press")
    Part.objects.bulk_create([Part(machine=machine, maker=tag, name=name) for name in ("bolt", "nut")])
    secretive = Secretive.objects.create(name="safe", code="4711", hidden="h", phone="555", blob=b"\0\xff")
    secretive.phone, secretive.code = "556", "4712"
    secretive.save()
    Secretive.objects.update(seen="2026-01-01T00:00:00Z")
    tag.delete()
    machine.delete()
    Thing.objects.all().delete()
    secretive.delete()
    # The rows of one statement are recorded in any order.
    return sorted((_without_ids(found) for found in since(start)), key=repr)


def _without_ids(value: Any, name: str = "") -> Any:
    if name.endswith("id") or name in ("key", "at", "seen", "tags"):
        return None if value is None else "some"
    if isinstance(value, dict):
        return {key: _without_ids(item, key) for key, item in sorted(value.items())}
    return value


def test_during_a_migration_the_same_is_recorded_in_a_way_that_names_no_column(as_declared: None) -> None:
    proper = change_something_of_every_kind()
    with as_owner():
        triggers.generalise(connection)
    general = change_something_of_every_kind()
    assert len(proper) == 22
    for how, before in zip(general, proper, strict=True):
        assert how == before


def test_a_migration_may_change_columns_and_rows_together(as_declared: None) -> None:
    thing = Machine.objects.create(name="press")
    start = newest()
    before = ModelState.from_model(Machine)
    old = ProjectState({("hostapp", "machine"): before}).apps.get_model("hostapp", "Machine")
    weight = models.IntegerField(default=3)
    weight.set_attributes_from_name("weight")
    with as_owner():
        installing.begin(using="default", plan=["some migration"])
        with transaction.atomic(), connection.schema_editor() as editor:
            editor.add_field(old, weight)
            with connection.cursor() as cursor:
                cursor.execute("UPDATE hostapp_machine SET weight = 7")
            editor.remove_field(old, old._meta.get_field("name"))
            with connection.cursor() as cursor:
                cursor.execute("UPDATE hostapp_machine SET weight = 8")
            transaction.set_rollback(True)
        with transaction.atomic(), connection.schema_editor() as editor:
            editor.add_field(old, weight)
            with connection.cursor() as cursor:
                cursor.execute("UPDATE hostapp_machine SET weight = 7")
            editor.remove_field(old, weight)
        installing.finish(using="default")
    (found,) = Record.objects.filter(id__gt=start, resource="hostapp.machine")
    assert (found.actor_kind, found.object_id, found.object_label) == ("migration", str(thing.pk), "press")
    # A column that nobody has declared may be a secret.
    assert list(found.before) == list(found.after) == ["weight"]
    assert list(found.before["weight"]) == ["masked"]
    assert triggers.differences(connection) == ([], [])


def test_only_what_differs_is_installed() -> None:
    with as_owner():
        assert triggers.install(connection) == 0
        triggers.generalise(connection)
        missing, _superfluous = triggers.differences(connection)
        assert {trigger.operation for trigger in missing} == {"insert", "update", "delete"}
        assert triggers.install(connection) == len(missing) > 10
        assert triggers.differences(connection) == ([], [])


def test_a_model_that_is_registered_no_more_loses_its_triggers(as_declared: None) -> None:
    was = registry._registered.pop(Machine)
    try:
        with as_owner():
            assert triggers.install(connection) == 4
        start = newest()
        Machine.objects.create(name="press")
        assert since(start) == []
    finally:
        registry._registered[Machine] = was
    with as_owner():
        assert triggers.install(connection) == 4
    start = newest()
    Machine.objects.create(name="press")
    assert [found["action"] for found in since(start)] == ["create"]


def test_the_trail_can_be_migrated_away_and_back(as_declared: None) -> None:
    call_command("migrate", "auditlog", "zero", verbosity=0)
    Machine.objects.create(name="unwatched")
    call_command("migrate", "auditlog", verbosity=0)
    Machine.objects.create(name="press")
    labels = Record.objects.filter(resource="hostapp.machine").values_list("object_label", flat=True)
    assert list(labels) == ["press"]


def test_what_other_apps_write_after_a_migration_is_still_the_migrations_work() -> None:
    asked: list[str] = []

    def write(**kwargs: Any) -> None:
        asked.append(context.current().who().kind)

    post_migrate.connect(write, sender=installing.last_app(), dispatch_uid="tests.write")
    try:
        call_command("migrate", verbosity=0)
    finally:
        post_migrate.disconnect(sender=installing.last_app(), dispatch_uid="tests.write")
    assert asked == ["migration"]
    assert context.current().who().kind == "command"
