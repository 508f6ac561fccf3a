"""Figures of the database, from its catalogue: estimates and counters that the server keeps anyway.

One question, over a connection that cannot hang, within its own timeouts; no table is read. What a role may not see
(without ``pg_monitor`` that is most of other roles' sessions) is None: "not visible".
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Any, TypeVar

from django.conf import settings

from healthcheck.metrics.shapes import without_values
from healthcheck.ping import LIMITS, NoAnswer, Ping
from healthcheck.shared import Shared

ANSWER_SECONDS = 0.5
TRIED_SECONDS = 10.0  # so often at most, while the database does not answer
MOST_TABLES = 500
MOST_LISTED = 20
RUNNING_SECONDS = 1.0  # a statement that runs for so long is listed
UNUSED_BYTES = 1 << 20  # from this size on, an index that nobody uses is listed

_TABLES = """
SELECT jsonb_agg(to_jsonb(t)) FROM (
    SELECT root::regclass::text AS name, count(*) FILTER (WHERE oid <> root) AS partitions,
        sum(rows) AS rows, sum(dead) AS dead, sum(bytes) AS bytes, sum(index_bytes) AS index_bytes,
        sum(toast_bytes) AS toast_bytes, sum(sequential_scans) AS sequential_scans, sum(index_scans) AS index_scans,
        max(vacuumed) AS vacuumed, max(analyzed) AS analyzed, max(frozen_age) AS frozen_age
    FROM (
        SELECT c.oid, CASE WHEN c.relispartition THEN pg_partition_root(c.oid) ELSE c.oid END AS root,
            CASE WHEN pg_stat_get_live_tuples(c.oid) > 0 THEN pg_stat_get_live_tuples(c.oid)
                ELSE greatest(c.reltuples, 0)::bigint END AS rows,
            pg_stat_get_dead_tuples(c.oid) AS dead,
            c.bytes, coalesce(t.bytes, 0) AS toast_bytes, coalesce(x.bytes, 0) AS index_bytes,
            pg_stat_get_numscans(c.oid) AS sequential_scans, coalesce(x.scans, 0) AS index_scans,
            greatest(pg_stat_get_last_vacuum_time(c.oid), pg_stat_get_last_autovacuum_time(c.oid)) AS vacuumed,
            greatest(pg_stat_get_last_analyze_time(c.oid), pg_stat_get_last_autoanalyze_time(c.oid)) AS analyzed,
            age(c.relfrozenxid) AS frozen_age
        FROM relation c
        LEFT JOIN relation t ON t.oid = c.reltoastrelid
        LEFT JOIN (
            SELECT indrelid, sum(bytes) AS bytes, sum(scans) AS scans FROM index GROUP BY indrelid
        ) x ON x.indrelid = c.oid
        WHERE c.relkind IN ('r', 'm')
    ) leaf
    GROUP BY root ORDER BY sum(bytes + toast_bytes + index_bytes) DESC LIMIT {most}
) t
"""
# Not pg_database_size(): it looks at every file there is.
_DATABASE = """
SELECT jsonb_build_object(
    'name', current_database(), 'version', current_setting('server_version'),
    'bytes', (SELECT coalesce(sum(bytes), 0) FROM relation)
        + (SELECT sum(relpages)::bigint * current_setting('block_size')::int FROM pg_class WHERE oid < 16384),
    'hit_blocks', s.blks_hit, 'read_blocks', s.blks_read, 'commits', s.xact_commit, 'rollbacks', s.xact_rollback,
    'deadlocks', s.deadlocks, 'temporary_files', s.temp_files, 'temporary_bytes', s.temp_bytes,
    'frozen_age', greatest(age(d.datfrozenxid), mxid_age(d.datminmxid)), 'statistics_since', s.stats_reset,
    'standby', pg_is_in_recovery())
FROM pg_database d JOIN pg_stat_database s ON s.datid = d.oid WHERE d.datname = current_database()
"""
# A session of another role shows who, but not what; a process of the server itself has no client.
_CONNECTIONS = """
SELECT jsonb_build_object(
    'states', (SELECT jsonb_object_agg(state, number) FROM (
        SELECT coalesce(state, 'not visible') AS state, count(*) AS number FROM session GROUP BY 1) s),
    'caps', jsonb_build_array(
        jsonb_build_object('of', 'server', 'used', (SELECT count(*) FROM session),
            'most', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                - coalesce(current_setting('reserved_connections', true), '0')::int),
        jsonb_build_object('of', 'database',
            'used', (SELECT count(*) FROM session WHERE datname = current_database()),
            'most', (SELECT nullif(datconnlimit, -1) FROM pg_database WHERE datname = current_database())),
        jsonb_build_object('of', 'role', 'used', (SELECT count(*) FROM session WHERE usename = current_user),
            'most', (SELECT nullif(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user))))
"""
_ACTIVITY = """
SELECT jsonb_build_object(
    'oldest_transaction', (SELECT extract(epoch FROM clock_timestamp() - min(xact_start))::float8 FROM session),
    'lock_waits', (SELECT count(*) FROM pg_locks WHERE NOT granted),
    'replicas', (SELECT jsonb_agg(jsonb_build_object('name', application_name, 'state', state,
            'lag', extract(epoch FROM replay_lag)::float8,
            'lag_bytes', CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn) END))
        FROM (SELECT * FROM pg_stat_replication ORDER BY application_name LIMIT 50) r),
    'own_lag', CASE WHEN pg_is_in_recovery() THEN
        CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END END)
"""
_RUNNING = """
SELECT jsonb_agg(to_jsonb(r)) FROM (
    SELECT pid, usename AS role, application_name AS application, wait_event_type AS waits_for,
        extract(epoch FROM clock_timestamp() - query_start)::float8 AS seconds, left(query, 4000) AS text
    FROM session
    WHERE state = 'active' AND pid <> pg_backend_pid() AND query_start < clock_timestamp() - interval '{seconds} s'
    ORDER BY query_start LIMIT {most}
) r
"""
_INDEXES = """
SELECT jsonb_agg(to_jsonb(i)) FROM (
    SELECT indexrelid::regclass::text AS name, indrelid::regclass::text AS "table", indisvalid AS valid, bytes
    FROM index WHERE NOT indisvalid OR NOT indisunique AND scans = 0 AND bytes >= {bytes}
    ORDER BY indisvalid, bytes DESC LIMIT {most}
) i
"""
_SESSIONS = """
session AS MATERIALIZED (
    SELECT * FROM pg_stat_activity
    WHERE backend_type = 'client backend' OR backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL
)
"""
# All that is not the server's own. The size of what somebody rebuilds could only be had after him: then the number of
# its pages has to do. Without the few pages that say where there is room.
_RELATIONS = """
locked AS MATERIALIZED (SELECT relation FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND database <> 0),
relation AS MATERIALIZED (
    SELECT oid, relkind, relispartition, reltoastrelid, reltuples, relfrozenxid,
        CASE WHEN oid IN (SELECT relation FROM locked) THEN relpages::bigint * current_setting('block_size')::int
            ELSE coalesce(pg_relation_size(oid), 0) END AS bytes
    FROM pg_class
    WHERE oid >= 16384 AND relpersistence <> 't' AND (
        relkind IN ('r', 'm', 't') OR relkind = 'i' AND relnamespace <> 'pg_toast'::regnamespace)
),
index AS MATERIALIZED (
    SELECT indexrelid, indrelid, indisvalid, indisunique, bytes, pg_stat_get_numscans(indexrelid) AS scans
    FROM pg_index JOIN relation ON oid = indexrelid
)
"""
VITALS = f"{LIMITS} WITH {_SESSIONS} SELECT ({_CONNECTIONS})::text, ({_ACTIVITY})::text"
_SLOW = f"""{LIMITS}
SELECT query, calls, total_exec_time, max_exec_time, rows FROM pg_stat_statements s
JOIN pg_database d ON d.oid = s.dbid
WHERE d.datname = current_database() ORDER BY total_exec_time DESC LIMIT {MOST_LISTED}
"""  # noqa: S608 - our own number


@dataclass(frozen=True)
class Table:
    """`rows` and `dead` are estimates. Sizes are in bytes: `bytes` are those of the rows themselves."""

    name: str
    partitions: int
    rows: int
    dead: int
    bytes: int
    index_bytes: int
    toast_bytes: int
    sequential_scans: int
    index_scans: int
    vacuumed: str | None
    analyzed: str | None
    frozen_age: int

    @property
    def total_bytes(self) -> int:
        return self.bytes + self.toast_bytes + self.index_bytes


@dataclass(frozen=True)
class Cap:
    """How many sessions there may be, and are: `of` the server, the database or the role; `most` None: no limit."""

    of: str
    used: int
    most: int | None

    @property
    def share(self) -> float:
        return self.used / self.most if self.most else 0.0


@dataclass(frozen=True)
class Connections:
    """Sessions by state, in the server's words, those of the whole server."""

    states: dict[str, int]
    caps: tuple[Cap, ...]


@dataclass(frozen=True)
class Replica:
    """`lag` in seconds, `lag_bytes` behind the primary; None: not visible, or nothing to wait for."""

    name: str | None
    state: str | None
    lag: float | None
    lag_bytes: float | None


@dataclass(frozen=True)
class Activity:
    """`oldest_transaction` in seconds; `own_lag` in seconds, of a server that is a standby itself."""

    oldest_transaction: float | None
    lock_waits: int
    replicas: tuple[Replica, ...]
    own_lag: float | None


@dataclass(frozen=True)
class Database:
    name: str
    version: str
    bytes: int
    hit_blocks: int
    read_blocks: int
    commits: int
    rollbacks: int
    deadlocks: int
    temporary_files: int
    temporary_bytes: int
    frozen_age: int
    statistics_since: str | None
    standby: bool

    @property
    def cache_hit_ratio(self) -> float | None:
        asked = self.hit_blocks + self.read_blocks
        return self.hit_blocks / asked if asked else None


@dataclass(frozen=True)
class Index:
    name: str
    table: str
    valid: bool
    bytes: int


@dataclass(frozen=True)
class Running:
    """A statement that runs for long; `text` without values."""

    pid: int
    role: str | None
    application: str | None
    waits_for: str | None
    seconds: float
    text: str


@dataclass(frozen=True)
class Slow:
    """What ``pg_stat_statements`` knows of a statement; `text` without values, times in milliseconds."""

    text: str
    calls: int
    milliseconds: float
    slowest: float
    rows: int


@dataclass(frozen=True)
class Statistics:
    """`taken` is of the monotonic clock; `slow` None: the server keeps no such list, or does not show it."""

    database: Database
    connections: Connections
    activity: Activity
    tables: tuple[Table, ...]
    indexes: tuple[Index, ...]
    running: tuple[Running, ...]
    slow: tuple[Slow, ...] | None
    time: datetime
    taken: float

    @property
    def age(self) -> float:
        return monotonic() - self.taken

    @property
    def unused_indexes(self) -> tuple[Index, ...]:
        return tuple(index for index in self.indexes if index.valid)

    @property
    def invalid_indexes(self) -> tuple[Index, ...]:
        return tuple(index for index in self.indexes if not index.valid)


def question() -> str:
    """Return all that is asked, but for `_SLOW`, as one message."""
    listed = (
        _TABLES.format(most=MOST_TABLES),
        _INDEXES.format(bytes=UNUSED_BYTES, most=2 * MOST_LISTED),
        _RUNNING.format(seconds=RUNNING_SECONDS, most=MOST_LISTED),
    )
    asked = ", ".join(f"({part})::text" for part in (_DATABASE, _CONNECTIONS, _ACTIVITY, *listed))
    has_slow = "to_regclass('pg_stat_statements') IS NOT NULL"
    return f"{LIMITS} WITH {_SESSIONS}, {_RELATIONS} SELECT {asked}, {has_slow}"


def take(seconds: float = ANSWER_SECONDS) -> Statistics:
    """Ask the database, within `seconds`. Raises NoAnswer."""
    deadline = monotonic() + seconds
    ping = Ping()
    try:
        ((database, connections, activity, tables, indexes, running, lists_slow),) = ping.ask(question(), seconds)
        slow = _slow(ping, deadline - monotonic()) if lists_slow else None
    finally:
        ping.close()  # asked seldom: a kept session would be one more for each process
    return Statistics(
        database=Database(**json.loads(database)),
        connections=_connections(connections),
        activity=_activity(activity),
        tables=_each(Table, tables),
        indexes=_each(Index, indexes),
        running=tuple(_shown(each) for each in json.loads(running or "[]")),
        slow=slow,
        time=datetime.now(UTC),
        taken=monotonic(),
    )


def vitals(row: tuple[Any, ...]) -> tuple[Connections, Activity]:
    """Return what the answer to `VITALS` says."""
    return _connections(row[0]), _activity(row[1])


def current() -> Statistics | None:
    """Return the figures that this process shares for a while; the last ones, with their age, while the database is
    away; None when there never were any."""
    return _shared.current().statistics


def known() -> Statistics | None:
    """Return the figures that this process has, whatever their age; never waits."""
    kept = _shared.known()
    return kept.statistics if kept else None


@dataclass(frozen=True)
class _Kept:
    statistics: Statistics | None


def _take_or_keep(before: _Kept | None) -> _Kept:
    if before and before.statistics and before.statistics.age < settings.HEALTH_STATISTICS_SECONDS:
        return before
    try:
        return _Kept(take())
    except NoAnswer:
        return before or _Kept(None)


_shared = Shared(_take_or_keep, TRIED_SECONDS)
Row = TypeVar("Row")


def _each(kind: type[Row], rows: str | None) -> tuple[Row, ...]:
    return tuple(kind(**row) for row in json.loads(rows or "[]"))


def _connections(text: str) -> Connections:
    facts = json.loads(text)
    return Connections(facts["states"] or {}, tuple(Cap(**cap) for cap in facts["caps"]))


def _activity(text: str) -> Activity:
    facts = json.loads(text)
    return Activity(**facts | {"replicas": tuple(Replica(**replica) for replica in facts["replicas"] or ())})


def _shown(facts: dict[str, Any]) -> Running:
    return Running(**facts | {"text": without_values(facts["text"] or "")})


def _slow(ping: Ping, seconds: float) -> tuple[Slow, ...] | None:
    try:
        return tuple(_seen(ping.ask(_SLOW, max(seconds, 0.0))))
    except NoAnswer:  # it is there, and this role may not look, or it is of an older form
        return None


def _seen(rows: Iterable[tuple[Any, ...]]) -> Iterable[Slow]:
    for text, *numbers in rows:
        yield Slow(without_values(text or ""), *numbers)
