"""Keeps PostgreSQL's policies in step with `config.row_security`: `migrate` installs them, checks compare.

Each protected table has one policy for reads and writes. What it asks is asked once for each statement (an InitPlan),
and asked so that the index of the foreign key serves it. A plain ``mine OR everybody's`` would read the whole table,
because a plan is made before the answer is known; so "everybody" is a range of keys that holds all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.core import checks
from django.db import ProgrammingError, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor

from config import row_security
from config.row_security import EVERYBODY, NOBODY, SETTING, ForeignKey

NAME = "gatehouse_own_rows"
# Of each policy: table, name, whether the table heeds policies, what we noted about ours, and what it is now.
_INSTALLED = """
SELECT c.relname, p.polname, c.relrowsecurity, obj_description(p.oid, 'pg_policy'), md5(concat_ws(
    ' ', p.polcmd, p.polpermissive, p.polroles,
    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
))
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid WHERE c.relnamespace = 'public'::regnamespace
"""
# Views read with the rights of their owner, who is above the policies, unless they say otherwise; a materialised view
# always does.
_SHOW_EVERYBODY = """
WITH RECURSIVE affected AS (
    SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY (%s)
    UNION
    SELECT r.ev_class FROM affected a
    JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = a.oid
    JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid
)
SELECT relname FROM pg_class JOIN affected USING (oid) WHERE relkind = 'm' OR relkind = 'v'
    AND reloptions && '{security_invoker=true,security_invoker=on,security_invoker=1}' IS NOT TRUE
ORDER BY relname
"""


@dataclass(frozen=True)
class Policy:
    """The policy of one table; `condition` says which rows a person may read and write."""

    table: str
    condition: str

    @property
    def version(self) -> str:
        return hashlib.sha256(self.condition.encode()).hexdigest()[:16]

    @property
    def sql(self) -> str:
        return f"""
            DROP POLICY IF EXISTS {NAME} ON {self.table};
            CREATE POLICY {NAME} ON {self.table} USING ({self.condition}) WITH CHECK ({self.condition});
            ALTER TABLE {self.table} ENABLE ROW LEVEL SECURITY;
        """


def declared() -> dict[str, Policy]:
    """Return the policies that the protected models ask for, by table."""
    return {
        model._meta.db_table: Policy(_table(model), _condition(path))
        for model, path in row_security.protected().items()
    }


def _condition(path: Sequence[ForeignKey]) -> str:
    field, *rest = path
    low, high = row_security.keys_of(field)
    if not rest:
        return f"{_column(field)} BETWEEN {_person(field, low)} AND {_person(field, high)}"
    all_keys = " AND ".join(_asked(field, f"WHEN '{EVERYBODY}' THEN '{end}'") for end in (low, high))
    return f"{_own(path)} OR {_column(field)} BETWEEN {all_keys}"


def _own(path: Sequence[ForeignKey]) -> str:
    """That a row belongs to the one person, by an array and not by a join: only that uses an index."""
    field, *rest = path
    if not rest:
        return f"{_column(field)} = {_person(field, None)}"
    key, table = _column(field.target_field), _table(field.remote_field.model)
    return f"{_column(field)} = ANY (ARRAY(SELECT {key} FROM {table} WHERE {_own(rest)}))"  # noqa: S608 - names of ours


def _person(field: ForeignKey, everybody: str | None) -> str:
    """The key of the one person, `everybody` instead for all of them, and NULL, which equals nothing, for nobody."""
    all_of_them = "NULL" if everybody is None else f"'{everybody}'"
    return _asked(field, f"WHEN '{NOBODY}' THEN NULL WHEN '{EVERYBODY}' THEN {all_of_them} ELSE person")


def _asked(field: ForeignKey, cases: str) -> str:
    setting = f"(SELECT current_setting('{SETTING}', true)) AS said (person)"
    return f"(SELECT (CASE person {cases} END)::{row_security.kind_of(field)} FROM {setting})"  # noqa: S608 - see above


def _column(field: models.Field[Any, Any]) -> str:
    return f"{_table(field.model)}.{_quoted(str(field.column))}"


def _table(model: type[models.Model]) -> str:
    return f"public.{_quoted(model._meta.db_table)}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# In the database


def differences(connection: BaseDatabaseWrapper) -> tuple[list[str], list[tuple[str, str]]]:
    """Return (tables whose policy is missing, off or another one, (table, policy) of those that nobody declares).

    Beside ours no other may stand on a protected table: rows that any policy lets through are let through.
    """
    with connection.cursor() as cursor:
        cursor.execute(_INSTALLED)
        installed = {(table, name): facts for table, name, *facts in cursor.fetchall()}
    wanted = declared()
    missing = [table for table, policy in wanted.items() if not _stands(policy, installed.get((table, NAME)))]
    others = [(table, name) for table, name in installed if (table in wanted) != (name == NAME)]
    return sorted(missing), sorted(others)


def _stands(policy: Policy, facts: Sequence[Any] | None) -> bool:
    if facts is None:
        return False
    enabled, noted, now = facts
    return bool(enabled and noted == f"{policy.version} {now}")


def install(connection: BaseDatabaseWrapper) -> int:
    """Make the policies in the database those that are declared; returns how many were changed. As the owner.

    While migrations are to come, a table may have no owner yet, or no more; it is left out until they are done.
    """
    missing, others = differences(connection)
    if not missing and not others:
        return 0
    wanted, tables = declared(), set(connection.introspection.table_names())
    with transaction.atomic(connection.alias), connection.cursor() as cursor:
        for table, name in others:
            cursor.execute(f"DROP POLICY {_quoted(name)} ON public.{_quoted(table)}")
            if table not in wanted:
                cursor.execute(f"ALTER TABLE public.{_quoted(table)} DISABLE ROW LEVEL SECURITY")
        for table in missing:
            if table not in tables:
                continue
            try:
                with transaction.atomic(connection.alias):
                    _make(cursor, wanted[table], table)
            except ProgrammingError:
                if not _is_to_be_migrated(connection):
                    raise
    return len(missing) + len(others)


def _make(cursor: Any, policy: Policy, table: str) -> None:
    cursor.execute(policy.sql)
    cursor.execute(f"{_INSTALLED} AND relname = %s AND polname = %s", [table, NAME])
    note = f"{policy.version} {cursor.fetchone()[-1]}"
    cursor.execute(f"COMMENT ON POLICY {NAME} ON {policy.table} IS %s", [note])


def follow_migrations(using: str, **kwargs: Any) -> None:
    """For `post_migrate`."""
    install(connections[using])


# What is said about them


def faults(connection: BaseDatabaseWrapper) -> list[str]:
    """Return where rows may be open to others: tables, and policies ``on`` them, that are not as declared."""
    missing, others = differences(connection)
    above = [] if row_security.is_owner(connection) else unheeded(connection)
    return [*missing, *(f"{name} on {table}" for table, name in others), *above]


def unheeded(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the protected tables whose policies the role of `connection` is above: an owner's, a superuser's."""
    if not (tables := list(declared())):
        return []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY (%s)"
            " AND relrowsecurity AND NOT row_security_active(oid) ORDER BY relname",
            [tables],
        )
        return [table for (table,) in cursor.fetchall()]


def views_of_everybody(connection: BaseDatabaseWrapper) -> list[str]:
    """Return the views that show the rows of protected tables past their policies."""
    if not (tables := list(declared())):
        return []
    with connection.cursor() as cursor:
        cursor.execute(_SHOW_EVERYBODY, [tables])
        return [view for (view,) in cursor.fetchall()]


@checks.register(checks.Tags.database)
def rows_are_kept_apart(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Tell of policies that are not as declared, unless migrations are to come, and of who and what is above them."""
    return [message for using in databases or () for message in _faults(connections[using])]


def _faults(connection: BaseDatabaseWrapper) -> Iterator[checks.CheckMessage]:
    missing, others = differences(connection)
    places = [*missing, *(f"{name} on {table}" for table, name in others)]
    if places and not _is_to_be_migrated(connection):
        yield checks.Warning(
            f"The policies of the database are not as the models declare: {', '.join(places)}.",
            hint="Run manage.py migrate, and find out who changed them if no model was changed.",
            id="config.W004",
        )
    if tables := [] if row_security.is_owner(connection) else unheeded(connection):
        yield checks.Error(
            f"The role of the pages is above the policies of {', '.join(tables)}: everybody's rows are open to each.",
            hint="It must be no superuser, have no BYPASSRLS, and be no member of the owner.",
            id="config.E004",
        )
    if views := views_of_everybody(connection):
        yield checks.Warning(
            f"These views show everybody's rows to each: {', '.join(views)}.",
            hint="Make them WITH (security_invoker = true), or let nobody but the staff read them.",
            id="config.W005",
        )


def _is_to_be_migrated(connection: BaseDatabaseWrapper) -> bool:
    executor = MigrationExecutor(connection)
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))
