"""What an operator does with the whole database; ``manage.py database`` is the door to it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import OperationalError
from psycopg2 import sql

from config.database import embedded
from config.database.deadline import database_budget
from config.database.roles import as_owner, has_two_roles

STATUS_SECONDS = 3.0
_CASTS = re.compile(r"::(?:character varying|text)(?:\[\])?")
_BRACKETS = re.compile(r"\(('(?:[^']|'')*'|ARRAY\[[^][]*\])\)")

# One line per thing that a migration can make, so that two schemas compare as two sets of lines. Partitions come and
# go with time; of them there is only what they have in common, and whether each of them has it.
_SCHEMA = r"""
SELECT format('column %s.%s %s%s%s', c.relname, a.attname, format_type(a.atttypid, a.atttypmod),
              CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
              coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
              || CASE a.attidentity WHEN '' THEN '' ELSE ' identity' END)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm') AND NOT c.relispartition
    AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT format('constraint %s on %s: %s%s', conname, conrelid::regclass, pg_get_constraintdef(pg_constraint.oid),
              CASE WHEN convalidated THEN '' ELSE ' (not valid)' END)
FROM pg_constraint LEFT JOIN pg_class c ON c.oid = conrelid
WHERE connamespace = 'public'::regnamespace AND contype <> 'n' AND c.relispartition IS NOT TRUE
UNION ALL
SELECT format('index %s%s', pg_get_indexdef(indexrelid),
              CASE WHEN indisvalid THEN '' ELSE ' (invalid)' END)
FROM pg_index JOIN pg_class c ON c.oid = indexrelid
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
UNION ALL
SELECT format('trigger %s%s', pg_get_triggerdef(t.oid), CASE tgenabled WHEN 'O' THEN '' ELSE ' (disabled)' END)
FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE NOT tgisinternal AND NOT c.relispartition
UNION ALL
SELECT format('table %s partitioned by %s', partrelid::regclass, pg_get_partkeydef(partrelid))
FROM pg_partitioned_table JOIN pg_class c ON c.oid = partrelid WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT format('trigger of %s partition of %s: %s%s',
              CASE WHEN count(*) = (SELECT count(*) FROM pg_inherits p WHERE p.inhparent = i.inhparent)
                   THEN 'every' ELSE 'some' END,
              inhparent::regclass, replace(pg_get_triggerdef(t.oid), c.relname, '…'),
              CASE tgenabled WHEN 'O' THEN '' ELSE ' (disabled)' END)
FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid JOIN pg_inherits i ON i.inhrelid = c.oid
WHERE c.relispartition AND c.relnamespace = 'public'::regnamespace AND NOT tgisinternal
GROUP BY inhparent, replace(pg_get_triggerdef(t.oid), c.relname, '…'), tgenabled
UNION ALL
SELECT format('function %s: %s', oid::regprocedure, md5(prosrc))
FROM pg_proc WHERE pronamespace = 'public'::regnamespace
UNION ALL
SELECT regexp_replace(format('policy %s on %s%s for %s to %s using %s check %s', polname, polrelid::regclass,
              CASE WHEN polpermissive THEN '' ELSE ' (restrictive)' END, polcmd, polroles::regrole[],
              pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid)), '\s+', ' ', 'g')
FROM pg_policy JOIN pg_class c ON c.oid = polrelid WHERE c.relnamespace = 'public'::regnamespace
UNION ALL
SELECT format('row security on %s%s', oid::regclass, CASE WHEN relforcerowsecurity THEN ' (forced)' ELSE '' END)
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relrowsecurity
UNION ALL
SELECT format('view %s: %s', oid::regclass, md5(pg_get_viewdef(oid)))
FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('v', 'm')
"""


def status() -> dict[str, Any]:
    """Say which server this is and what it holds. Never starts, never hangs, never raises for an outage."""
    facts: dict[str, Any] = {"server": "embedded" if embedded.is_embedded() else "configured"}
    if embedded.is_embedded():
        server = embedded.cluster().status()
        facts |= {
            "running": server.running,
            "in_use": server.users,
            "process": server.pid,
            "data": server.data_directory,
            "socket": server.socket_directory,
        }
        if not server.running:
            return facts
    try:
        with database_budget(STATUS_SECONDS), connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_version'), current_database(), current_user::text,"
                " pg_size_pretty(pg_database_size(current_database())),"
                " (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())"
            )
            version, name, role, size, sessions = cursor.fetchone()
            facts |= {
                "running": True,
                "version": version,
                "database": name,
                "size": size,
                "sessions": sessions,
            }
            facts |= {
                "role": role,
                "two_roles": has_two_roles(),
                "migrations_missing": len(missing_migrations()),
            }
    except OperationalError as error:
        facts |= {"running": False, "error": str(error).strip()}
    return facts


def missing_migrations() -> list[str]:
    """Return the names of this code's migrations that the database does not have, in order."""
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]


def schema_differences() -> tuple[list[str], list[str]]:
    """Compare the live schema with what the migrations make in a scratch database of the same server.

    Returns (what is missing here, what is here and should not be). Needs the right to create databases.
    """
    with as_owner():
        with scratch_database("verify"):
            call_command("migrate", verbosity=0, interactive=False)
            wanted = _schema()
        found = _schema()
    return sorted(wanted - found), sorted(found - wanted)


def _schema() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(_SCHEMA)
        return {_plain(line) for (line,) in cursor.fetchall()}


def _plain(line: str) -> str:
    """The line without casts of texts, and without the brackets around what was cast.

    A database that was restored from a dump has read its own expressions again, and casts elsewhere.
    """
    plain = _CASTS.sub("", line)
    while (bare := _BRACKETS.sub(r"\1", plain)) != plain:
        plain = bare
    return plain


@contextmanager
def scratch_database(purpose: str) -> Iterator[None]:
    """Point the connection at a fresh, empty database of the same server for the length of the block.

    Within `as_owner`, who needs the right to create databases.
    """
    settings_dict = connections[DEFAULT_DB_ALIAS].settings_dict
    # One name per purpose: what a killed run left behind is removed by the next.
    scratch = f"{settings_dict['NAME']}_{purpose}"
    _drop_and_create(scratch)
    connection.close()
    connection.settings_dict = settings_dict | {"NAME": scratch}
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = settings_dict
        _drop(scratch)


def make_anew() -> None:
    """Delete the database with everything in it and make an empty one with this code's schema.

    Raises OperationalError while somebody is connected to it.
    """
    with as_owner():
        name = connection.settings_dict["NAME"]
        connection.close()
        _drop_and_create(name)
    call_command("migrate", verbosity=0, interactive=False)


def _drop_and_create(name: str) -> None:
    _drop(name)
    with connection._nodb_cursor() as cursor:  # noqa: SLF001 - Django has no public name for it
        cursor.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def _drop(name: str) -> None:
    with connection._nodb_cursor() as cursor:  # noqa: SLF001 - see above
        cursor.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))
