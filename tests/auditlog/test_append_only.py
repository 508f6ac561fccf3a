"""Nobody changes a record: not the application by any SQL, and the owner only by taking the triggers off first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from django.db import (
    DEFAULT_DB_ALIAS,
    DatabaseError,
    IntegrityError,
    ProgrammingError,
    connection,
    connections,
    transaction,
)
from django.test import Client, override_settings
from psycopg2 import errorcodes
from pytest_django.plugin import DjangoDbBlocker

from auditlog import events
from auditlog.models import Agent, Record
from config.database import roles
from config.database.roles import OWNER_ALIAS, as_owner
from tests.auditlog.world import Trail, actor_of, as_ada, committed_world, visitor
from tests.hostapp.models import Secretive, Tag

REFUSED = "42501"  # insufficient_privilege
FORGED = "INSERT INTO auditlog_record (origin, action, actor_kind, resource) VALUES ('save', 'delete', 'user', 'x')"


def run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())


def refusal(statement: str) -> str:
    """The code with which the database refuses it; an empty text when it does not."""
    try:
        with transaction.atomic():
            run(statement)
    except DatabaseError as error:
        return str(getattr(error.__cause__, "pgcode", ""))
    return ""


def partitions() -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'auditlog_record'::regclass")
        return [name for (name,) in cursor.fetchall()]


@pytest.fixture
def world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock(), committed_world():
        yield


# As the application

TAMPERING = [
    "UPDATE auditlog_record SET actor_label = 'nobody'",
    "DELETE FROM auditlog_record",
    "TRUNCATE auditlog_record",
    "TRUNCATE auditlog_record_default",
    "MERGE INTO auditlog_record r USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    "SELECT * FROM auditlog_record FOR UPDATE",
    FORGED,
    FORGED.replace("auditlog_record", "auditlog_record_default"),
    "INSERT INTO auditlog_agent VALUES (1, 'x')",
    "DELETE FROM auditlog_agent",
    "INSERT INTO auditlog_epoch VALUES (9, 9, 9)",
    "SELECT key FROM auditlog_secret",
    "UPDATE auditlog_secret SET key = ''",
    "SELECT auditlog_fingerprint('1234')",  # else every PIN could be tried
    """SELECT auditlog_record_event('purge', 'auditlog.record', '', '', NULL, '{{"before": "nonsense"}}', NULL)""",
    "SELECT auditlog_record_event('update', 'hostapp.tag', '1', 'red', NULL, '{{\"name\": \"blue\"}}', NULL)",
    "SELECT auditlog_insert_event('purge', 'auditlog.record', '', '', NULL, NULL, NULL)",
    "SELECT auditlog_note('purge', 'auditlog.record', '', NULL)",
    "ALTER TABLE auditlog_record DISABLE TRIGGER ALL",
    "ALTER TABLE auditlog_record ADD COLUMN x integer",
    "ALTER TABLE auditlog_record ADD CHECK (false) NOT VALID",
    "ALTER TABLE auditlog_record DETACH PARTITION auditlog_record_default",
    "ALTER TABLE auditlog_record OWNER TO CURRENT_USER",
    "DROP TABLE auditlog_record",
    "DROP TABLE auditlog_record_default",
    "DROP TRIGGER auditlog_append_only ON auditlog_record",
    "DROP TRIGGER auditlog_on_update ON hostapp_tag",
    "ALTER TABLE hostapp_tag DISABLE TRIGGER auditlog_on_update",
    "CREATE TRIGGER x BEFORE INSERT ON auditlog_record FOR EACH ROW EXECUTE FUNCTION tsvector_update_trigger()",
    "CREATE RULE quiet AS ON INSERT TO auditlog_record DO INSTEAD NOTHING",
    "CREATE RULE quiet AS ON UPDATE TO hostapp_tag DO INSTEAD NOTHING",
    "CREATE OR REPLACE FUNCTION auditlog_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE OR REPLACE FUNCTION auditlog_on_update_hostapp_tag() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    "DROP FUNCTION auditlog_on_update_hostapp_tag CASCADE",
    "ALTER FUNCTION auditlog_refuse() RENAME TO x",
    "CREATE FUNCTION public.mine() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "GRANT {owner} TO {runtime}",
    "SET session_replication_role = replica",
    "SET ROLE {owner}",
    "SET SESSION AUTHORIZATION {owner}",
    "ALTER ROLE {runtime} SUPERUSER",
    "REASSIGN OWNED BY {owner} TO {runtime}",
    "COPY auditlog_record TO PROGRAM 'cat'",
]


@pytest.mark.django_db
@pytest.mark.parametrize("statement", TAMPERING)
def test_the_application_cannot_touch_the_trail(statement: str) -> None:
    Tag.objects.create(name="red")
    owner, runtime = (connections.settings[alias]["USER"] for alias in (OWNER_ALIAS, DEFAULT_DB_ALIAS))
    assert refusal(statement.format(owner=owner, runtime=runtime)) == REFUSED


@pytest.mark.django_db
def test_the_application_cannot_touch_a_week_of_it() -> None:
    weeks = partitions()
    assert len(weeks) > 10
    for week in weeks:
        for statement in ("DELETE FROM {}", "TRUNCATE {}", "UPDATE {} SET reason = ''", "DROP TABLE {}"):
            assert refusal(statement.format(week)) == REFUSED, statement
        assert refusal(FORGED.replace("auditlog_record", week)) == REFUSED


@pytest.mark.django_db
@pytest.mark.parametrize("setting", ["UPDATE", "DELETE", "TRUNCATE", "INSERT"])
def test_saying_that_it_is_permitted_permits_nothing(setting: str) -> None:
    run(f"SET LOCAL auditlog.permit = '{setting}'")
    for statement in TAMPERING[:5]:
        assert refusal(statement) == REFUSED


@pytest.mark.django_db
def test_the_models_of_the_trail_are_read_only() -> None:
    Tag.objects.create(name="red")
    record = Record.objects.order_by("id").last()
    assert record is not None
    attempts: list[Callable[[], object]] = [
        lambda: Record.objects.update(action="x"),
        lambda: Record.objects.all().delete(),
        record.delete,
        record.save,
        lambda: Record.objects.bulk_update([record], ["action"]),
        lambda: Record.objects.bulk_create([Record(id=1, at=record.at, transaction=1, epoch=1)]),
        lambda: Agent.objects.create(id=1, name="x"),
    ]
    for attempt in attempts:
        with pytest.raises(ProgrammingError, match=r"permission denied|GENERATED ALWAYS"), transaction.atomic():
            attempt()


# Tricks with functions that run with the owner's rights


@pytest.mark.django_db
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT auditlog_make_week(date_trunc('week', now(), 'UTC') + interval '30 weeks 2 days')",
        "SELECT auditlog_make_week(date_trunc('week', now() + interval '3 years', 'UTC'))",
        "SELECT auditlog_make_week('infinity')",
        "SELECT auditlog_make_partitions(1000)",
    ],
)
def test_nobody_can_put_a_week_in_the_way_of_those_to_come(statement: str) -> None:
    assert refusal(statement) == errorcodes.INVALID_PARAMETER_VALUE


@pytest.mark.django_db
def test_no_fingerprint_that_one_can_ask_for_is_that_of_a_masked_value() -> None:
    trail = Trail()
    Secretive.objects.create(name="x", api_key="1234")
    ((told,),) = rows("SELECT auditlog_fingerprint_of('1234')")
    (entry,) = trail.entries()
    recorded = (entry.new or {})["api_key"]
    assert recorded.keys() == json.loads(told).keys()
    assert recorded != json.loads(told)


def test_rights_are_given_whole_or_not_at_all(world: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the rights to all tables and their end for the trail nobody may come in."""

    def fail(*arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(roles, "_restrict", fail)
    with as_owner(), pytest.raises(ZeroDivisionError):
        roles.grant_runtime_rights(DEFAULT_DB_ALIAS)
    assert refusal("SELECT key FROM auditlog_secret") == REFUSED


def test_no_other_role_may_call_what_runs_with_the_owners_rights(world: None) -> None:
    """With one role for all, nothing but the migration takes it from PUBLIC."""
    callable_by_all = "SELECT count(*) FROM pg_proc WHERE proname LIKE 'auditlog%' AND prosecdef AND proacl IS NULL"
    keep = import_module("auditlog.migrations.0006_keep_functions_from_others").KEEP
    with as_owner(), transaction.atomic():
        run("CREATE FUNCTION public.auditlog_new() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'")
        assert rows(callable_by_all) == [(1,)]
        run(keep)
        assert rows(callable_by_all) == [(0,)]
        transaction.set_rollback(True)


@pytest.mark.django_db
def test_no_trigger_of_the_trail_can_be_fired_from_a_table_of_ones_own() -> None:
    run("CREATE TEMP TABLE hostapp_tag (id bigint, name varchar)")
    for name in ("auditlog_on_insert_hostapp_tag", "auditlog_on_delete_accounts_user"):
        kind = name.split("_")[2]
        rows = "NEW TABLE AS new_rows" if kind == "insert" else "OLD TABLE AS old_rows"
        assert (
            refusal(
                f"CREATE TRIGGER forge AFTER {kind} ON pg_temp.hostapp_tag REFERENCING {rows}"
                f" FOR EACH STATEMENT EXECUTE FUNCTION public.{name}()"
            )
            == REFUSED
        )


TRAPS = """
    CREATE TEMP TABLE auditlog_record (LIKE public.auditlog_record INCLUDING DEFAULTS);
    CREATE TEMP TABLE auditlog_secret (key bytea); INSERT INTO pg_temp.auditlog_secret VALUES ('mine');
    CREATE TEMP TABLE new_rows (id bigint, name varchar); CREATE TEMP TABLE old_rows (id bigint, name varchar);
    CREATE TYPE pg_temp.auditlog_context AS (origin text, actor_kind text);
    CREATE DOMAIN pg_temp.jsonb AS text;
    CREATE FUNCTION pg_temp.concat(text, text) RETURNS text LANGUAGE sql AS $$SELECT ''$$;
    CREATE FUNCTION pg_temp.auditlog_fingerprint(text) RETURNS text LANGUAGE sql AS $$SELECT '{}'$$;
    CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$SELECT 'forged'$$;
    CREATE FUNCTION pg_temp.nullif(text, text) RETURNS text LANGUAGE sql AS $$SELECT NULL::text$$;
    CREATE FUNCTION pg_temp.equal(varchar, varchar) RETURNS boolean LANGUAGE sql AS $$SELECT true$$;
    CREATE OPERATOR pg_temp.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = pg_temp.equal);
    SET LOCAL search_path = pg_temp, public, pg_catalog;
"""


@pytest.mark.django_db
def test_names_of_ones_own_are_not_taken_for_those_of_the_trail() -> None:
    tag = Tag.objects.create(name="red")
    trail = Trail()
    run(TRAPS)
    with as_ada():
        Tag.objects.filter(pk=tag.pk).update(name="rose")
    run("RESET search_path; DROP TABLE pg_temp.auditlog_record")  # else we read our own trap
    (entry,) = trail.entries()
    assert (entry.old, entry.new, entry.actor.label) == ({"name": "red"}, {"name": "rose"}, "ada")


@pytest.mark.django_db
@pytest.mark.parametrize("said", ["nonsense", "{}", '{"origin": "save"}', "[1]", '{"agent": "x"}'])
def test_nonsense_about_who_acts_refuses_the_change(said: str) -> None:
    tag = Tag.objects.create(name="red")
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('auditlog.context', %s, true)", [said])
        with pytest.raises(DatabaseError), transaction.atomic():
            # Behind a statement that the channel takes for a read, so that it says nothing itself.
            cursor.execute("SAVEPOINT x; UPDATE hostapp_tag SET name = 'rose'")
    tag.refresh_from_db()
    assert tag.name == "red"


@pytest.mark.django_db
def test_whoever_speaks_for_the_application_can_say_who_but_not_how_the_row_changed() -> None:
    """The limit: the context is the application's word. The record itself, its time and transaction are not."""
    tag = Tag.objects.create(name="red")
    trail = Trail()
    said = '{"origin": "save", "actor_kind": "user", "actor_id": "1", "old": {"name": "forged"}, "at": "2000-01-01"}'
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('auditlog.context', %s, true)", [said])
        cursor.execute("SAVEPOINT x; UPDATE hostapp_tag SET name = 'rose' WHERE id = %s", [tag.pk])
    (record,) = trail.records()
    assert (record.old, record.actor_id, record.at.year > 2000) == ({"name": "red"}, "1", True)


# As the owner


@pytest.mark.parametrize(
    "statement", [*TAMPERING[:5], "UPDATE ONLY {week} SET reason = ''", "DELETE FROM {week}", "TRUNCATE {week}"]
)
@pytest.mark.usefixtures("world")
def test_even_the_owner_is_refused_while_the_triggers_are_on(statement: str) -> None:
    with as_owner():
        with connection.cursor() as cursor:
            cursor.execute("SELECT max(tableoid)::regclass::text FROM auditlog_record")
            ((week,),) = cursor.fetchall()
        assert refusal(statement.format(week=week)) == REFUSED


# A change whose record cannot be written


@contextmanager
def broken(how: str, mended: str) -> Iterator[None]:
    with as_owner():
        run(how)
    try:
        yield
    finally:
        with as_owner():
            run(mended)


BREAKAGES = {
    "a record that breaks a constraint": (
        "ALTER TABLE auditlog_record ADD CONSTRAINT broken CHECK (false) NOT VALID",
        "ALTER TABLE auditlog_record DROP CONSTRAINT broken",
    ),
    "a table that is away": (
        "ALTER TABLE auditlog_record RENAME TO auditlog_away",
        "ALTER TABLE auditlog_away RENAME TO auditlog_record",
    ),
    "a function that is away": (
        "ALTER FUNCTION auditlog_unannounced(text) RENAME TO away; ALTER TYPE auditlog_context RENAME TO away",
        "ALTER FUNCTION away(text) RENAME TO auditlog_unannounced; ALTER TYPE away RENAME TO auditlog_context",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.usefixtures("world")
def test_a_change_whose_record_cannot_be_written_is_refused(breakage: str) -> None:
    writes: list[Callable[[], object]] = [
        lambda: Tag.objects.create(name="green"),
        lambda: Tag.objects.update(name="x"),
        lambda: Tag.objects.filter(pk=1).delete(),
        lambda: run("UPDATE hostapp_tag SET name = 'rose' WHERE id = 1"),
        lambda: events.record("x", "y"),
    ]
    with broken(*BREAKAGES[breakage]):
        for write in writes:
            with pytest.raises((IntegrityError, ProgrammingError)):
                write()
    assert sorted(Tag.objects.values_list("name", flat=True)) == ["blue", "red"]


@pytest.mark.parametrize("breakage", BREAKAGES)
@pytest.mark.usefixtures("world")
def test_the_page_that_wanted_it_answers_and_tells_nothing(breakage: str) -> None:
    client = visitor(Client(raise_request_exception=False))
    with broken(*BREAKAGES[breakage]), override_settings(ROOT_URLCONF="tests.hostapp.urls"):
        answer = client.post("/host/rename/")
    assert answer.status_code == 500
    page = answer.content.decode()
    assert answer["X-Request-ID"] in page
    assert not [word for word in ("auditlog", "SQL", "hostapp", "psycopg2", "Traceback") if word in page]
    assert Tag.objects.get(pk=1).name == "red"


@pytest.mark.usefixtures("world")
def test_a_fault_of_a_page_leaves_its_own_record_and_no_other() -> None:
    """In autocommit: what was written before the fault stays, and so does its record."""
    client = visitor(Client(raise_request_exception=False))
    trail = Trail()
    with override_settings(ROOT_URLCONF="tests.hostapp.urls"):
        client.post("/host/rename-and-fail/")
    renamed, fault = trail.entries()
    assert (renamed.action, renamed.new) == ("update", {"name": "rose"})
    assert (fault.action, fault.new, fault.actor) == ("error", {"error": "RuntimeError"}, actor_of())
