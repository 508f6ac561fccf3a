"""What a poll of the live watch costs at the server, planning included, on a long trail."""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import median

from django.db import connection

from tests.bench.figures import Figure
from tests.live import Database

ROUNDS = 31
GOAL = 2.0  # milliseconds
# Thirteen weeks of records, oldest first as they were written, in partitions of a week like all others.
_FILL = """
DO $$
DECLARE
    opens timestamptz;
BEGIN
    FOR week IN 1..13 LOOP
        opens := date_trunc('week', now(), 'UTC') - make_interval(weeks => week);
        EXECUTE format('CREATE TABLE IF NOT EXISTS auditlog_record_%s PARTITION OF auditlog_record'
            ' FOR VALUES FROM (%L) TO (%L)', to_char(opens, 'IYYY"w"IW'), opens, opens + interval '1 week');
    END LOOP;
END $$;
INSERT INTO auditlog_record (
    at, transaction, origin, action, actor_kind, actor_id, actor_label, address, request, resource, object_id, old, new
)
SELECT now() - (%s - number) * interval '90 days' / %s, 3 + number %% 500, 'save', 'update', 'user',
    md5((number %% 1000)::text)::uuid::text, 'somebody', '192.0.2.7', md5(number::text)::uuid, 'hostapp.thing',
    (number %% 50000)::text, '{"name": "before"}', '{"name": "after"}'
FROM generate_series(1, %s) AS number;
"""


def polls(database: Database) -> list[Figure]:
    """The costliest of the statements of one poll, by the median, on ``SIZE`` records (1,000,000)."""
    from auditlog import following

    size = int(os.environ.get("SIZE", "1000000"))
    database.rows(_FILL, size, size, size)
    database.rows("ANALYZE auditlog_record")
    figures = []
    cursor = following.from_now()
    idle = median(_horizon_times())
    with_news = median(_times(lambda: _write_some(database)))
    blocker = _Blocker(database)
    try:
        blocked = median(_times(lambda: _write_some(database), seen_open=True))
    finally:
        blocker.end()
    del cursor
    for what, milliseconds in (
        ("nothing new", idle),
        ("ten new records", idle + with_news),
        ("ten new, beside a transaction left open", idle + blocked),
    ):
        figures.append(
            Figure(f"watch, {size:,} records: a poll, {what}", milliseconds, "ms", digits=2, at_most=GOAL)
        )
    return figures
