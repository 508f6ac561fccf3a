"""A small world of committed rows with keys that are known, and what the trail says about what is done to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import connection, transaction
from django.db.models import Max, Model
from django.test import AsyncClient, Client
from psycopg2 import extensions

from accounts.models import User
from accounts.session_engine import SessionStore
from auditlog import Actor, acting_as
from auditlog.models import Record
from config.database import deadline
from config.database.roles import as_owner
from tests.factories import UserFactory
from tests.hostapp.models import Everything, Machine, Part, Secretive, Tag, Thing, Truck, UnauditedThing, Vehicle, Word

ADA = Actor("user", "7", "ada")
AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
KEY = UUID("00000000-0000-0000-0000-000000000001")
THROUGHS: list[type[Model]] = [Thing.tags.through, UnauditedThing.tags.through, Word.synonyms.through]
MODELS: list[type[Model]] = [Part, Machine, Thing, UnauditedThing, Truck, Vehicle, Word, Tag, Secretive, Everything]
TABLES = [model._meta.db_table for model in THROUGHS + MODELS]
WITHOUT_SEQUENCE = {"hostapp_truck", "hostapp_word"}


@contextmanager
def committed_world() -> Iterator[None]:
    """Rows that every connection sees, with fresh keys from 101 on; they go with the block, the records stay."""
    try:
        fill()
        yield
    finally:
        connection.close()
        clear()


def clear() -> None:
    with connection.cursor() as cursor:
        cursor.execute(";".join(f"DELETE FROM {table}" for table in TABLES))  # noqa: S608 - names of ours
    # The only superuser there is: no other way takes the last one away.
    with as_owner(), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE accounts_user DISABLE TRIGGER accounts_keep_a_superuser_in_deletes")
        User.objects.filter(username__startswith="world-").delete()
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # or the table has events to come and cannot be altered
        cursor.execute("ALTER TABLE accounts_user ENABLE TRIGGER accounts_keep_a_superuser_in_deletes")


def fill() -> None:
    red, blue = Tag.objects.create(pk=1, name="red"), Tag.objects.create(pk=2, name="blue")
    lamp = Thing.objects.create(pk=1, name="lamp", number=1, day=date(2026, 1, 31), at=AT, key=KEY, data={"a": [1]})
    Thing.tags.through.objects.create(pk=1, thing=lamp, tag=red)
    mill = Machine.objects.create(pk=1, name="mill")
    Part.objects.create(pk=1, machine=mill, maker=red, name="cog")
    Part.objects.create(pk=2, machine=mill, maker=blue, name="belt")
    Truck.objects.create(pk=1, name="mule", load=3)
    Word.objects.create(code="hi")
    Word.objects.create(code="hello")
    UserFactory(username="world-ada", is_staff=True, is_superuser=True)
    with connection.cursor() as cursor:
        for table in TABLES:
            if table not in WITHOUT_SEQUENCE:
                cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'id'), 100)", [table])


# Who visits it


def visitor(client: Client | AsyncClient, username: str = "world-ada") -> Any:
    """`client` with a session of that user, who did not have to sign in: a login is an event with a record."""
    user = User.objects.get(username=username)
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "accounts.backends.IdentityBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key or ""
    return client


def actor_of(username: str = "world-ada") -> Actor:
    return Actor("user", str(User.objects.get(username=username).pk), username)


# What the trail says


@dataclass(frozen=True)
class Entry:
    """What a record says, but for when, in which transaction and from where."""

    action: str
    origin: str
    resource: str
    object_id: str | None
    label: str | None
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    actor: Actor = ADA

    def by(self, actor: Actor) -> Entry:
        return replace(self, actor=actor)


def created(kind: str, pk: object, label: str | None, new: dict[str, Any], origin: str) -> Entry:
    return Entry("create", origin, f"hostapp.{kind}", str(pk), label, None, new)


def changed(
    kind: str, pk: object, label: str | None, old: dict[str, Any] | None, new: dict[str, Any] | None, origin: str
) -> Entry:
    return Entry("update", origin, f"hostapp.{kind}", str(pk), label, old, new)


def deleted(kind: str, pk: object, label: str | None, old: dict[str, Any], origin: str) -> Entry:
    return Entry("delete", origin, f"hostapp.{kind}", str(pk), label, old, None)


def added(kind: str, pk: object, label: str, new: dict[str, Any], origin: str = "m2m") -> Entry:
    return Entry("add", origin, f"hostapp.{kind}", str(pk), label, None, new)


def removed(kind: str, pk: object, label: str | None, old: dict[str, Any], origin: str = "m2m") -> Entry:
    return Entry("remove", origin, f"hostapp.{kind}", str(pk), label, old, None)


def emptied(kind: str, old: dict[str, Any], origin: str) -> Entry:
    return Entry("truncate", origin, f"hostapp.{kind}", None, None, old, None)


class Trail:
    """The records since the moment it was made."""

    def __init__(self) -> None:
        self.since = Record.objects.aggregate(last=Max("id"))["last"] or 0

    def records(self) -> list[Record]:
        return list(Record.objects.filter(id__gt=self.since).order_by("id"))

    def entries(self) -> list[Entry]:
        return [
            Entry(
                record.action, record.origin, record.resource, record.object_id, record.object_label,
                record.old, record.new, Actor(record.actor_kind, record.actor_id, record.actor_label),
            )
            for record in self.records()
        ]  # fmt: skip


def as_ada() -> Any:
    return acting_as(ADA)


# What it costs


@contextmanager
def counted_round_trips() -> Iterator[list[int]]:
    """psycopg2 asks its wait callback once for each time it waits for the server's answer."""
    trips = [0]

    def counting(given: Any) -> None:
        trips[0] += 1
        deadline._wait(given)

    extensions.set_wait_callback(counting)
    try:
        yield trips
    finally:
        deadline.install()
