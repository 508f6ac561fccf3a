"""Two roles: the owner migrates, the runtime role reads and writes rows and cannot alter tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DEFAULT_DB_ALIAS, connections
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


def grant_runtime_rights(using: str) -> None:
    """Let the runtime role use every table and sequence of the owner; idempotent, runs after migrations.

    TRUNCATE, REFERENCES and TRIGGER are not granted: emptying or rewiring a table is the owner's work.
    """
    owner, runtime = (connections.settings[alias]["USER"] for alias in (OWNER_ALIAS, DEFAULT_DB_ALIAS))
    if owner == runtime or connections[using].settings_dict["USER"] != owner:
        return
    statement = sql.SQL(
        "GRANT USAGE ON SCHEMA public TO {role};"
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
        "GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role}"
    ).format(role=sql.Identifier(runtime))
    with connections[using].cursor() as cursor:
        cursor.execute(statement)
