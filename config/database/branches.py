"""Branches of the development database: a copy for a feature branch, made in seconds by the server itself.

A branch is a database of the embedded server. Which one is used stands in the file `.branch`; without it, `main`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import errors, sql

from config.embedded_postgres import DATABASE, OWNER_ROLE, PORT, SUPERUSER

MAIN = "main"
FILE = ".branch"
_PREFIX = f"{DATABASE}_branch_"
# Without _, behind which the scratch databases of `verify` and `backup --verify` have their names.
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
_LET_GO = 0.1  # seconds between two looks for sessions that are in the way


class BranchError(Exception):
    """A branch cannot be made, used or dropped; the message says why, and what to do next."""


@dataclass(frozen=True)
class Branch:
    """One copy; `size` is in bytes."""

    name: str
    database: str
    size: int


def database_of(name: str) -> str:
    """The database of a branch. Raises BranchError for what is no name of one."""
    if name == MAIN:
        return DATABASE
    if not _NAME.fullmatch(name):
        raise BranchError(f"{name!r} is no name for a branch: up to 40 small letters, digits and -, not - first.")
    return _PREFIX + name


def current(project: Path) -> str:
    """The branch that `project` uses; `main` also where the file holds no name of one."""
    try:
        name = (project / FILE).read_text(encoding="utf-8").strip()
        database_of(name)
    except (OSError, ValueError, BranchError):
        return MAIN
    return name


def switch(project: Path, name: str, *, socket_directory: str) -> None:
    """Use this branch from the next start on. Raises BranchError when there is none of the name."""
    with _server(socket_directory) as server:
        _require(server, name)
    if name == MAIN:
        (project / FILE).unlink(missing_ok=True)
    else:
        (project / FILE).write_text(f"{name}\n", encoding="utf-8")


def every(*, socket_directory: str) -> list[Branch]:
    """All branches, `main` first."""
    with _server(socket_directory) as server, server.cursor() as cursor:
        cursor.execute(
            "SELECT datname::text, pg_database_size(oid) FROM pg_database"
            " WHERE datname = %s OR starts_with(datname, %s) ORDER BY datname",
            [DATABASE, _PREFIX],
        )
        named = [(MAIN if name == DATABASE else name.removeprefix(_PREFIX), name, size) for name, size in cursor]
    return [Branch(name, database, size) for name, database, size in named if _NAME.fullmatch(name)]


def make(name: str, *, source: str, socket_directory: str) -> None:
    """Copy the branch `source` as `name`. Whoever uses `source` meanwhile loses the connection and waits for the copy.

    Raises BranchError when there is one of the name, or none of the source's.
    """
    database, template = database_of(name), database_of(source)
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY FILE_COPY").format(
        *map(sql.Identifier, (database, template, OWNER_ROLE))
    )
    with _server(socket_directory) as server, _server(socket_directory) as other, ThreadPoolExecutor(1) as thread:
        _require(server, source)
        # From here on new sessions of the source wait for the statement, which waits for the old ones to end.
        copying = thread.submit(server.cursor().execute, statement)
        while not copying.done():
            other.cursor().execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [template]
            )
            time.sleep(_LET_GO)
        try:
            copying.result()
        except errors.DuplicateDatabase:
            raise BranchError(f"There is a branch {name!r} already; drop it first, or choose another name.") from None


def drop(name: str, *, used: str, socket_directory: str) -> None:
    """Delete a branch with all in it. Raises BranchError for `main`, for the one `used`, and when there is none."""
    if name in (MAIN, used):
        raise BranchError(f"{name!r} is {'used' if name == used else 'what branches are made of'} and stays.")
    with _server(socket_directory) as server:
        _require(server, name)
        server.cursor().execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database_of(name))))


def _require(server: Any, name: str) -> None:
    with server.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database_of(name)])
        if not cursor.fetchone():
            raise BranchError(f"There is no branch {name!r}. `manage.py database branch --list` shows them.")


@contextmanager
def _server(socket_directory: str) -> Iterator[Any]:
    """A session that may copy and drop databases, each statement on its own."""
    connection = psycopg2.connect(
        host=socket_directory, port=PORT, user=SUPERUSER, dbname="postgres", application_name="gatehouse-branches"
    )
    with closing(connection):
        connection.autocommit = True
        yield connection
