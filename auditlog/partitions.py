"""The weekly partitions: made ahead, listed, and dropped when they are old enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections, transaction
from django.utils import timezone
from psycopg2 import errorcodes

WEEKS_AHEAD = 26
TRIES = 6
FIRST_PAUSE = 0.1  # seconds, doubled each time
Result = TypeVar("Result")


@dataclass(frozen=True)
class Partition:
    """A week of records, [opens, closes) in UTC; `records` None: nobody has counted yet.

    The number of records is the server's estimate, except of what lies in the default partition, which has no
    `bytes` of its own.
    """

    name: str
    opens: datetime
    closes: datetime
    records: int | None
    bytes: int | None


class Busy(Exception):
    """Somebody held the trail for so long that it was left alone: try later."""


def every(using: str = DEFAULT_DB_ALIAS) -> list[Partition]:
    """Return all partitions, the oldest first; a week in the default partition is one of its own."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT name, opens, closes, records, bytes FROM auditlog_partitions()")
        return [Partition(*row) for row in cursor.fetchall()]


def make_ahead(using: str = DEFAULT_DB_ALIAS, *, weeks: int = WEEKS_AHEAD) -> int:
    """Have partitions for so many weeks to come, and for whatever lies in the default one; return how many are new.

    Raises Busy.
    """

    def make() -> int:
        with connections[using].cursor() as cursor:
            cursor.execute("SELECT auditlog_make_partitions(%s)", [weeks])
            return int(cursor.fetchone()[0])

    return _patiently(make, using)


def retention_ends(now: datetime | None = None) -> datetime:
    """The moment before which records are old enough to go."""
    return (now or timezone.now()) - timedelta(days=settings.AUDITLOG_RETENTION_DAYS)


def purgeable(before: datetime, using: str = DEFAULT_DB_ALIAS) -> list[Partition]:
    """Return the partitions of weeks that ended before `before`, rounded down to a week."""
    day = before.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = day - timedelta(days=day.weekday())
    return [partition for partition in every(using) if partition.closes <= monday]


def purge(before: datetime, using: str = DEFAULT_DB_ALIAS) -> list[Partition]:
    """Drop every week that ended before `before`, give its disk back, and record that; return what went.

    The database refuses (DataError) to drop what is younger than 30 days. Raises Busy.
    """

    def drop() -> list[Partition]:
        with connections[using].cursor() as cursor:
            # WITH: so that it is taken for a write, and who does it goes along.
            cursor.execute("WITH gone AS (SELECT * FROM auditlog_drop_partitions(%s)) SELECT * FROM gone", [before])
            return [Partition(*row) for row in cursor.fetchall()]

    return _patiently(drop, using)


def _patiently(work: Callable[[], Result], using: str) -> Result:
    """Do `work` in a transaction, again after a while when a lock could not be had."""
    for turn in range(TRIES):
        try:
            with transaction.atomic(using):
                return work()
        except OperationalError as error:
            if getattr(error.__cause__, "pgcode", "") != errorcodes.LOCK_NOT_AVAILABLE:
                raise
            time.sleep(FIRST_PAUSE * 2**turn)
    raise Busy("Somebody reads or changes the audit trail and does not let go. Nothing was changed; try again later.")
