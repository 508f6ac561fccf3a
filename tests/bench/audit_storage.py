"""What a trail costs on disk, and how fast its oldest half is dropped and all of it sealed and verified."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from django.db import connection

from auditlog import partitions, sealing, verifying
from tests.bench.figures import Figure
from tests.live import Database

SIZE = int(os.environ.get("SIZE", "1000000"))
WEEKS = 14
MOST_BYTES = 330  # of a record, table and indexes
SLOWEST_DROP = 0.1  # seconds
LEAST_RATE = 300_000  # records a second
OBJECTS = 20_000  # fifty records each in the quarter
BATCH = 5_000  # records of one transaction: more than one request writes, fewer than would make numbers all alike

# Mostly an edit of one field by somebody at a browser; one in twelve is a new object.
_FILL = """
DO $$
DECLARE
    first timestamptz := date_trunc('week', now(), 'UTC') - interval '{weeks} weeks';
    step interval := (now() - date_trunc('week', now(), 'UTC') + interval '{weeks} weeks') / {size};
BEGIN
    FOR batch IN 0..({size} - 1) / {batch} LOOP
        INSERT INTO auditlog_record (
            transaction, epoch, at, agent, request, address, origin, action,
            actor_kind, actor_id, actor_label, resource, object_id, object_label, old, new, personal
        ) SELECT
            pg_current_xact_id()::text::bigint, auditlog_epoch(), first + step * n,
            hashtextextended((n % 40)::text, 1) >> 1, gen_random_uuid(),
            ('203.0.' || n % 97 || '.' || n % 251)::inet, 'save', CASE WHEN made THEN 'create' ELSE 'update' END,
            'user', md5((n % 5000)::text)::uuid::text, 'person' || n % 5000, 'shop.article', {object_id},
            'Article ' || n % {objects},
            CASE WHEN NOT made THEN jsonb_build_object('price', round(n % 10007 / 100.0, 2)::text) END,
            CASE WHEN made THEN jsonb_build_object(
                'id', n, 'name', 'Article ' || n, 'price', round(n % 10009 / 100.0, 2)::text, 'stock', n % 300,
                'active', true, 'created', to_char(first + step * n, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
            ) ELSE jsonb_build_object('price', round(n % 10009 / 100.0, 2)::text) END,
            NULL
        FROM (
            SELECT n, n % 12 = 0 AS made
            FROM generate_series(batch * {batch}, least({size}, (batch + 1) * {batch}) - 1) n
        ) s;
        COMMIT;
    END LOOP;
END $$
"""
_SIZES = "SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('auditlog_record') WHERE isleaf"
_SEALS = "SELECT pg_total_relation_size('auditlog_seal')"


def figures(database: Database, size: int = SIZE) -> list[Figure]:
    """Measure on `size` records over a quarter, which replace those in `database`, the one Django uses."""
    uuids = _bytes_per_record(database, size, f"md5((n % {OBJECTS})::text)::uuid::text")
    numbers = _bytes_per_record(database, size, f"(n % {OBJECTS})::text")
    sealing_takes = _seconds(sealing.seal)
    before, seals = database.value(_SIZES), database.value(_SEALS)
    verifying_takes = _seconds(_verify)
    limit = database.value(f"SELECT date_trunc('week', now(), 'UTC') - interval '{WEEKS // 2} weeks'")
    database.rows("CHECKPOINT")  # weeks that old have been on the disk for long
    dropping_takes = _seconds(lambda: partitions.purge(limit))
    given_back = 100 * (1 - database.value(_SIZES) / before)
    return [
        Figure(f"a record of {size:,}, with indexes", numbers, "bytes", 0, at_most=MOST_BYTES),
        Figure("a record whose object has a UUID", uuids, "bytes", 0),
        Figure("a record in its seal", seals / size, "bytes", 1),
        Figure("sealing", size / sealing_takes, "1/s", 0, at_least=LEAST_RATE),
        Figure("verifying", size / verifying_takes, "1/s", 0, at_least=LEAST_RATE),
        Figure("dropping the oldest half", dropping_takes, "s", 3, at_most=SLOWEST_DROP),
        Figure("disk given back by it", given_back, "%", 0, at_least=45),
    ]


def _bytes_per_record(database: Database, size: int, object_id: str) -> float:
    """Fill the trail anew; the result is of what is in use, after the vacuum that every table gets."""
    _empty(database)
    database.rows(_FILL.format(weeks=WEEKS, size=size, batch=BATCH, objects=OBJECTS, object_id=object_id))
    database.rows("VACUUM ANALYZE auditlog_record")
    return float(database.value(_SIZES)) / size


def _empty(database: Database) -> None:
    connection.close()
    database.rows("SET session_replication_role = replica; TRUNCATE auditlog_record, auditlog_seal")
    database.rows(
        "SELECT auditlog_make_week(date_trunc('week', now() - make_interval(weeks => n), 'UTC'))"
        " FROM generate_series(1, %s) n",
        WEEKS,
    )


def _verify() -> None:
    report = verifying.verify()
    assert report.ok and not report.unsealed, report


def _seconds(work: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun
