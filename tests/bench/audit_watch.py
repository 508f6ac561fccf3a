"""What a poll of the live watch costs at the server, planning included, on a long trail."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import psycopg2
from django.db import connection

from auditlog import following
from auditlog.models import Record
from config.embedded_postgres import SUPERUSER
from tests.bench.figures import Figure
from tests.live import Database

ROUNDS = 31
MEANWHILE = 20_000  # records that others write while a transaction is left open
GOAL = 2.0  # milliseconds
# Thirteen weeks of records, oldest first as they were written, in partitions of a week like all others.
_PARTITIONS = """
DO $$
DECLARE
    opens timestamptz;
BEGIN
    FOR week IN 1..13 LOOP
        opens := date_trunc('week', now(), 'UTC') - make_interval(weeks => week);
        EXECUTE format('CREATE TABLE IF NOT EXISTS auditlog_record_%s PARTITION OF auditlog_record'
            ' FOR VALUES FROM (%L) TO (%L)', to_char(opens, 'IYYY"w"IW'), opens, opens + interval '1 week');
    END LOOP;
END $$
"""
_FILL = """
INSERT INTO auditlog_record (
    epoch, at, transaction, origin, action, actor_kind, actor_id, actor_label, address, request,
    resource, object_id, old, new
)
SELECT (SELECT auditlog_epoch()), now() - (%s - number) * interval '90 days' / %s, 3 + number %% 500,
    'save', 'update', 'user',
    md5((number %% 1000)::text)::uuid::text, 'somebody', '192.0.2.7', md5(number::text)::uuid, 'hostapp.thing',
    (number %% 50000)::text, '{"name": "before"}', '{"name": "after"}'
FROM generate_series(1, %s) AS number
"""
_LOOK = "EXPLAIN (ANALYZE, FORMAT JSON) SELECT epoch, snapshot, last, at, session FROM auditlog_horizon()"
_WRITE = "INSERT INTO auth_group (name) SELECT gen_random_uuid() FROM generate_series(1, %s)"


def polls(database: Database) -> list[Figure]:
    """The medians, on ``SIZE`` records (1,000,000)."""
    size = int(os.environ.get("SIZE", "1000000"))
    database.rows(_PARTITIONS)
    database.rows(_FILL, size, size, size)
    database.rows("ANALYZE auditlog_record")
    idle = median(_horizon_time() for _round in range(ROUNDS))
    news = median(_times(database))
    with _left_open(database):
        cursor = following.from_now()
        database.rows(_WRITE, MEANWHILE)
        while cursor.until or cursor.seen.last < size + MEANWHILE:
            _records, cursor = following.read(cursor, most=5000)
        beside = median(_times(database, cursor))
    costs = {"nothing new": idle, "ten new": idle + news, "ten new beside an open transaction": idle + beside}
    return [
        Figure(f"watch of {size:,} records, a poll: {what}", milliseconds, "ms", at_most=GOAL)
        for what, milliseconds in costs.items()
    ]


def _horizon_time() -> float:
    with connection.cursor() as cursor:
        cursor.execute(_LOOK)
        return _milliseconds(cursor.fetchone()[0])


def _times(database: Database, cursor: following.Cursor | None = None) -> Iterator[float]:
    """Write ten records and look for them, again and again: the time of the second statement of a poll."""
    cursor = cursor or following.from_now()
    for _round in range(ROUNDS):
        database.rows(_WRITE, 10)
        parts = [
            Record.objects.filter(part).order_by("id")[:500] for part in following.parts(cursor, following.horizon())
        ]
        yield sum(_milliseconds(json.loads(part.explain(format="json", analyze=True))) for part in parts)
        records, cursor = following.read(cursor)
        assert len(records) == 10


def _milliseconds(plan: Any) -> float:
    return float(plan[0]["Planning Time"] + plan[0]["Execution Time"])


@contextmanager
def _left_open(database: Database) -> Iterator[None]:
    """A transaction that has written a record and does not end."""
    host = str(database.cluster.socket_directory())
    other = psycopg2.connect(host=host, dbname=database.name, user=SUPERUSER)
    try:
        other.cursor().execute(_WRITE, [1])
        yield
    finally:
        other.close()
