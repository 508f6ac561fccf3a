"""What reading the audit trail costs at the server, with records spread over thirteen weeks.

A million of them, or as many as ``SIZE`` says. The cast is unkind: an actor and an object that were busy long ago
only, an address and a request that nobody has, an action that is as rare as a purge.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from statistics import median
from uuid import UUID

from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from auditlog import filters, reading
from auditlog.describing import describe
from auditlog.reading import Query
from tests.bench.figures import Figure
from tests.live import Database

SIZE = int(os.environ.get("SIZE", "1000000"))
TURNS = 5
MOST_OF_A_PAGE = 50.0  # milliseconds
MOST_OF_A_SEARCH = 15.0
BUSY, LONG_AGO, OBJECT = (f"01900000-0000-7000-8000-00000000000{number}" for number in (1, 2, 3))
SELDOM = "01900000-0000-7000-8000-000000000777"
REQUEST = "md5((%d / 3)::text)::uuid"
_WEEKS = """
DO $$ DECLARE opens timestamptz; BEGIN
    FOR week IN 1..12 LOOP
        opens := date_trunc('week', now(), 'UTC') - make_interval(weeks => week);
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF auditlog_record FOR VALUES FROM (%L) TO (%L)',
            'auditlog_record_' || to_char(opens, 'IYYY"w"IW'), opens, opens + interval '1 week');
    END LOOP;
END $$
"""
_RECORDS = """
INSERT INTO auditlog_record (
    at, transaction, agent, request, epoch, address, origin, action, actor_kind, actor_id, actor_label,
    resource, object_id, object_label, old, new, personal
) SELECT
    now() - (1 - n / {size}::float8) * interval '84 days', 1000 + n / 4, 1000000 + n / 9 % 500,
    md5((n / 3)::text)::uuid, 1, ('10.' || n / 3 % 7 || '.' || n / 3 % 251 || '.7')::inet,
    CASE WHEN n % 10 = 0 THEN 'event' ELSE 'save' END,
    CASE WHEN n % 50021 = 0 THEN 'purge' WHEN n % 10 = 0 THEN 'login' WHEN n % 10 < 3 THEN 'create' ELSE 'update' END,
    CASE WHEN n % 10 = 9 THEN 'anonymous' ELSE 'user' END,
    CASE WHEN n % 10 = 9 THEN NULL WHEN n % 5 = 1 THEN '{busy}' WHEN n % 5 = 2 AND n < {size} / 2 THEN '{long_ago}'
        ELSE '01900000-0000-7000-8000-' || lpad((n / 7 * 7919 % 5000 + 10)::text, 12, '0') END,
    'somebody',
    CASE WHEN n % 100003 = 0 THEN 'auth.group' WHEN n % 20 = 3 THEN 'accounts.invitation' ELSE 'accounts.user' END,
    CASE WHEN n % 5 = 3 AND n < {size} / 2 THEN '{object}'
        ELSE '01900000-0000-7000-8000-' || lpad((n * 7919 % 100000 + 10)::text, 12, '0') END,
    'some object', '{{"is_active": true}}', '{{"is_active": false}}',
    '{{"old": {{"full_name": "Ada"}}, "new": {{"full_name": "Ada Lovelace"}}}}'
FROM generate_series(1::bigint, {size}) n
"""


def fill(database: Database, size: int = SIZE) -> None:
    database.rows(_WEEKS)
    database.rows(_RECORDS.format(size=size, busy=BUSY, long_ago=LONG_AGO, object=OBJECT))
    database.rows("VACUUM ANALYZE auditlog_record")


def reading_times(database: Database) -> list[Figure]:
    """Planning and execution of every statement of a page, by the server's own clock."""
    fill(database)
    questions = {
        "list": Query(),
        "list of a busy actor": reading.by_actor(BUSY),
        "list of an actor of long ago": reading.by_actor(LONG_AGO),
        "list of an actor and an action": Query(Q(actor_id=LONG_AGO, action="purge")),
        "list of a kind of object": Query(Q(resource="auth.group")),
        "list of a frequent action": Query(Q(action="update")),
        "list of a rare action": Query(Q(action="purge")),
        "list of an address": Query(Q(address="10.3.7.7")),
        "list of an address that nobody has": Query(Q(address="203.0.113.1")),
        "list of a path": Query(Q(origin="event")),
        "list of a request": reading.of_request(UUID(connection_value(f"SELECT {REQUEST % (SIZE // 9)}"))),
        "list of a transaction": reading.of_transaction(1, 1000 + SIZE // 9),
        "list of a day": Query(since=_days_ago(40), until=_days_ago(39)),
        "history of an object": reading.of_object("accounts.user", SELDOM),
        "history of an object of long ago": reading.of_object("accounts.user", OBJECT),
        "own activity": filters.of_user(LONG_AGO),
    }
    figures = [_figure(name, partial(reading.newest, query)) for name, query in questions.items()]
    figures.append(_figure("last page", lambda: reading.newer(Query(), None)))
    figures.append(_figure("last page of an actor", lambda: reading.newer(reading.by_actor(BUSY), None)))
    for name, term in {"id": SELDOM, "busy id": OBJECT, "name": "nobody-has-this", "address": "10.3.7.7"}.items():
        figures.append(_figure(f"search of a {name}", partial(_search, term), MOST_OF_A_SEARCH))
    return figures


def _search(term: str) -> reading.Page:
    return reading.newest(Query(reading.matching(term)))


def _days_ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


def connection_value(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return str(cursor.fetchone()[0])


def _figure(name: str, read: Callable[[], reading.Page], at_most: float = MOST_OF_A_PAGE) -> Figure:
    with CaptureQueriesContext(connection) as asked:
        describe(read().records)
    statements = [query["sql"] for query in asked]
    times = [sum(_at_the_server(statement) for statement in statements) for _turn in range(TURNS)]
    return Figure(f"{name} ({len(statements)} statements)", median(times), "ms", digits=1, at_most=at_most)


def _at_the_server(statement: str) -> float:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY, FORMAT JSON) {statement}")
        ((plan,),) = cursor.fetchone()
    return float(plan["Planning Time"] + plan["Execution Time"])
