"""Two roles: the owner migrates, the runtime role reads and writes rows and cannot alter tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import AppConfig, apps
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2 import sql

OWNER_ALIAS = "direct"
_SERVER_AND_LOGIN = ("HOST", "PORT", "USER", "PASSWORD", "OPTIONS")


def has_two_roles() -> bool:
    """Whether pages run with fewer rights than migrations."""
    owner, runtime = (connections[alias].settings_dict["USER"] for alias in (OWNER_ALIAS, DEFAULT_DB_ALIAS))
    return bool(owner != runtime)


@contextmanager
def as_owner(alias: str = DEFAULT_DB_ALIAS) -> Iterator[None]:
    """Let this thread's connection `alias` be the owner's, past any pooler, for the length of the block.

    Not the other alias: third-party data migrations write through ``default`` whatever alias is migrated.
    """
    connection = connections[alias]
    runtime = connection.settings_dict
    connection.close()
    owner = connections[OWNER_ALIAS].settings_dict
    connection.settings_dict = runtime | {name: owner[name] for name in _SERVER_AND_LOGIN}
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict = runtime


@contextmanager
def owner_connection() -> Iterator[BaseDatabaseWrapper]:
    """A connection of its own as the owner, past any pooler, closed at the end of the block; each statement commits."""
    connection = connections.create_connection(OWNER_ALIAS)
    try:
        yield connection
    finally:
        connection.close()


def grant_runtime_rights(using: str) -> None:
    """Let the runtime role use every table and sequence of the owner; idempotent, runs after migrations.

    TRUNCATE, REFERENCES and TRIGGER are not granted: emptying or rewiring a table is the owner's work. An app may ask
    for less on tables of its own, by an attribute `runtime_rights` of its configuration.
    """
    owner, runtime = (connections.settings[alias]["USER"] for alias in (OWNER_ALIAS, DEFAULT_DB_ALIAS))
    if owner == runtime or connections[using].settings_dict["USER"] != owner:
        return
    statement = sql.SQL(
        "GRANT USAGE ON SCHEMA public TO {role};"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
        "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role};"
        # What an app's functions may do with their owner's rights is for the application, not for every role.
        "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;"
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {role}"
    ).format(role=sql.Identifier(runtime))
    # Whole or not at all: between the two the runtime role could rewrite the trail.
    with transaction.atomic(using), connections[using].cursor() as cursor:
        cursor.execute(statement)
        _keep_trigger_functions(cursor, runtime)
        for app in apps.get_app_configs():
            if rights := getattr(app, "runtime_rights", ""):
                _restrict(cursor, app, runtime, rights)


def _keep_trigger_functions(cursor: Any, role: str) -> None:
    """A trigger fires without the right to its function; with it, one could fire it from a table of one's own."""
    cursor.execute(
        "SELECT string_agg(oid::regprocedure::text, ', ') FROM pg_proc"
        " WHERE pronamespace = 'public'::regnamespace AND prorettype = 'trigger'::regtype"
    )
    if functions := cursor.fetchone()[0]:
        revoke = sql.SQL("REVOKE EXECUTE ON FUNCTION {functions} FROM {role}")
        cursor.execute(revoke.format(functions=sql.SQL(functions), role=sql.Identifier(role)))


def _restrict(cursor: Any, app: AppConfig, role: str, rights: str) -> None:
    """Leave `role` only `rights` on the tables of `app`'s models, and none on whatever else bears its name."""
    cursor.execute(
        "SELECT oid::regclass::text, relname, relkind = 'S' FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S') AND relname LIKE %s",
        [f"{app.label}\\_%"],
    )
    of_models = {model._meta.db_table for model in app.get_models()}
    for table, name, is_sequence in cursor.fetchall():
        about = {"kind": sql.SQL("SEQUENCE " if is_sequence else ""), "table": sql.SQL(table)}
        cursor.execute(sql.SQL("REVOKE ALL ON {kind}{table} FROM {role}").format(role=sql.Identifier(role), **about))
        if name in of_models:
            cursor.execute(
                sql.SQL("GRANT {rights} ON {table} TO {role}").format(
                    rights=sql.SQL(rights), role=sql.Identifier(role), **about
                )
            )
