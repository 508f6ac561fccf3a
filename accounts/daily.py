"""What is counted by the day (UTC), so that nobody has to read it all: new accounts, and how people sign in."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, date
from typing import Any

from django.db import connection

from accounts.models import EventDay
from auditlog.models import Record
from config import database_views

COUNTED = {"login", "login_failed", "locked_out"}  # events of the audit trail
SIGNUPS = "accounts_daily_signups"
_IS_DUE = """
SELECT coalesce(max(day) < (statement_timestamp() AT TIME ZONE 'UTC')::date - 1, true) FROM accounts_daily_signups
"""
_ADD = """
INSERT INTO accounts_eventday (day, event, count) VALUES {rows}
ON CONFLICT (day, event) DO UPDATE SET count = accounts_eventday.count + excluded.count
"""


def _is_due() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(_IS_DUE)
        return bool(cursor.fetchone()[0])


# Counts the signups of each day anew when a day has ended.
keep_signups_counted = database_views.keep_fresh(SIGNUPS, is_due=_is_due)


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
