"""What is counted by the day (UTC), so that nobody has to read it all: new accounts, and how people sign in."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date
from typing import Any

import structlog
from django.db import DatabaseError, connection

from accounts.models import EventDay
from auditlog.models import Record
from config.database import retry
from config.database.locks import held_alone
from config.database.roles import owner_connection

COUNTED = {"login", "login_failed", "locked_out"}  # events of the audit trail
LONGEST_COUNT = "15min"  # for a whole table of users
AFTER_A_FAULT = 3600.0  # seconds: what reads the whole table must not fail every minute
log = structlog.get_logger("accounts.daily")
_not_before = 0.0  # of time.monotonic(), for this process
_IS_DUE = """
SELECT coalesce(max(day) < (statement_timestamp() AT TIME ZONE 'UTC')::date - 1, true) FROM accounts_daily_signups
"""
_ADD = """
INSERT INTO accounts_eventday (day, event, count) VALUES {rows}
ON CONFLICT (day, event) DO UPDATE SET count = accounts_eventday.count + excluded.count
"""


def keep_signups_counted() -> bool:
    """Count the signups of each day anew when a day has ended; return whether it was time. For the worker's schedule.

    One worker of all does it, as the owner: a session of the application would be cut short by its timeout.
    """
    global _not_before  # noqa: PLW0603 - one process, one clock
    if time.monotonic() < _not_before or not _is_due():
        return False
    with held_alone("daily signups") as alone:
        if not alone or not _is_due():
            return False
        try:
            count_signups()
        except DatabaseError as error:
            if retry.fault_of(error) == retry.LOST:
                raise
            _not_before = time.monotonic() + AFTER_A_FAULT
            log.exception("signups.not_counted")
    return True


def _is_due() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_IS_DUE)
        return bool(cursor.fetchone()[0])


def count_signups() -> None:
    """Refresh the materialised view; whoever reads it meanwhile sees what was there before, and waits for nothing."""
    begun = time.monotonic()
    with owner_connection() as owner, owner.cursor() as cursor:
        cursor.execute("SELECT set_config('statement_timeout', %s, false)", [LONGEST_COUNT])
        cursor.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY accounts_daily_signups")
    log.info("signups.counted", seconds=round(time.monotonic() - begun, 1))


def count_events(records: Iterable[Record]) -> None:
    """Add what happened to the counts of its days, in the caller's transaction and by one statement."""
    counts: Counter[tuple[date, str]] = Counter(
        (record.at.astimezone(UTC).date(), record.action)
        for record in records
        if record.origin == Record.Origin.EVENT and record.action in COUNTED
    )
    if not counts:
        return
    rows = ", ".join(["(%s, %s, %s)"] * len(counts))
    # Always in one order: two who write the same rows must not wait for each other.
    parameters = [part for (day, event), number in sorted(counts.items()) for part in (day, event, number)]
    with connection.cursor() as cursor:
        cursor.execute(_ADD.format(rows=rows), parameters)


def recorded(sender: Any, records: Sequence[Record], **kwargs: Any) -> None:
    """Listen to the trail: told of the same records again, the counts of the first time were rolled back."""
    count_events(records)


def events_since(first: date) -> dict[date, dict[str, int]]:
    """Return how often each event happened on each day from `first` on."""
    days: dict[date, dict[str, int]] = defaultdict(dict)
    for day, event, count in EventDay.objects.filter(day__gte=first).values_list("day", "event", "count"):
        days[day][event] = count
    return days
