"""Gives the planner fresh statistics and makes room in every table, while people go on working.

Never ``VACUUM FULL``, and nothing that waits long for a lock: with its request in the queue everybody else would wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import structlog
from django.db import DatabaseError, OperationalError, close_old_connections
from django.db.backends.utils import CursorWrapper
from psycopg2 import errorcodes

from healthcheck.operations import Failed, Progress
from healthcheck.operations.maintenance import own_session

log = structlog.get_logger("healthcheck")

# As autovacuum does it: in small steps with pauses. A limit on the whole statement would end a large table's for ever.
_MANNERS = "SET lock_timeout = '1s'; SET statement_timeout = 0; SET vacuum_cost_delay = '2ms'"

# Those with the most dead rows first. Of a partitioned table its partitions, which hold the rows.
_TABLES = """
SELECT c.oid::regclass::text, coalesce(pg_stat_get_dead_tuples(c.oid), 0) AS dead
FROM pg_class c
WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND pg_has_role(c.relowner, 'USAGE')
    AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
ORDER BY dead DESC, 1
"""

# What a CREATE INDEX CONCURRENTLY that failed has left is built anew, what a REINDEX has left (_ccnew, _ccold) goes.
_INVALID_INDEXES = """
SELECT i.indexrelid::regclass::text,
    CASE WHEN c.relname ~ '_cc(new|old)[0-9]*$' THEN 'DROP' ELSE 'REINDEX' END AS cure
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE NOT i.indisvalid AND c.relkind = 'i' AND pg_has_role(c.relowner, 'USAGE')
    AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace)
ORDER BY cure, 1
"""


# An index waits for transactions that are older than it, without being in anybody's way.
_OF_INDEXES = "SET lock_timeout = '30s'"


def optimize(progress: Progress, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Vacuum and analyze every table of ours, and build invalid indexes anew; return what came of it.

    Raises Failed when something else than a lock kept it from a part of that.
    """
    with own_session() as session, session.cursor() as cursor:
        cursor.execute(_MANNERS)
        tables, indexes = _rows(cursor, _TABLES), _rows(cursor, _INVALID_INDEXES)
        # TRUNCATE would take the table for itself; the little disk that it gives back is used again anyway.
        work = {table: f"VACUUM (ANALYZE, TRUNCATE FALSE) {table}" for table, _dead in tables}
        of_tables = _do(cursor, work, progress, all_of=len(tables) + len(indexes))
        cursor.execute(_OF_INDEXES)
        work = {index: f"{cure} INDEX CONCURRENTLY {index}" for index, cure in indexes}
        of_indexes = _do(cursor, work, progress, all_of=len(tables) + len(indexes), done=len(tables))
    result = {
        "tables": len(of_tables["done"]),
        "dead_rows": sum(dead for table, dead in tables if table in of_tables["done"]),
        "indexes": of_indexes["done"],
        "locked": of_tables["locked"] + of_indexes["locked"],
        "failed": of_tables["failed"] + of_indexes["failed"],
    }
    if result["failed"]:
        raise Failed("incomplete", result)
    return result


def _rows(cursor: CursorWrapper, query: str) -> list[tuple[Any, ...]]:
    cursor.execute(query)
    return list(cursor.fetchall())


def _do(
    cursor: CursorWrapper, work: Mapping[str, str], progress: Progress, *, all_of: int, done: int = 0
) -> dict[str, list[str]]:
    """Run each statement; return the names of those that were ``done``, those ``locked`` and those that ``failed``."""
    outcomes: dict[str, list[str]] = {"done": [], "locked": [], "failed": []}
    for number, (name, statement) in enumerate(work.items(), start=done):
        close_old_connections()  # the one that tells of the progress may have died of old age meanwhile
        progress(number, all_of, name)
        outcomes[_outcome(cursor, statement)].append(name)
    return outcomes


def _outcome(cursor: CursorWrapper, statement: str) -> str:
    """Run one statement and name what came of it. Raises OperationalError when the session is gone."""
    try:
        cursor.execute(statement)
    except DatabaseError as error:
        code = getattr(error.__cause__, "pgcode", None)
        if code == errorcodes.LOCK_NOT_AVAILABLE:
            return "locked"
        if isinstance(error, OperationalError):
            raise
        log.warning("optimize.failed", statement=statement, error=str(error).strip())
        return "failed"
    return "done"
