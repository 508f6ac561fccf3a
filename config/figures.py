"""What the health pages count and measure of the other apps, which know nothing of it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.utils import timezone

from auditlog import care, registry
from auditlog.models import Record
from auditlog.signals import batch_recorded
from config import schedule
from config.database import retry
from config.database.base import connection_failed
from healthcheck import operations
from healthcheck.metrics import figures, prometheus, statement_history, statements
from healthcheck.metrics.figures import Family, Labels, labelled

# Records that are events of an account by themselves, and those of a person's row that are one by their reason.
_EVENTS = {"login", "logout", "login_failed", "locked_out", "unlocked", "set_password_link_sent"}
_PASSWORDS = {"own password changed": "password_changed", "password reset by a mailed link": "password_reset"}
_OF_ROWS = {"signup", "user_created", "invited", "invitation_accepted", "invitation_revoked"}
_ACTIONS = (Record.Action.CREATE, Record.Action.UPDATE, Record.Action.DELETE)
_JOBS = """
SELECT jsonb_build_object('state', lower(status)), count(*)::float8 FROM django_tasks_database_dbtaskresult
WHERE status <> 'SUCCESSFUL' GROUP BY status
"""
# A job without a date for itself has the last day of all in `run_after`. Operations wait for each other, and may.
_READY = f"""
SELECT extract(epoch FROM
    statement_timestamp() - CASE WHEN run_after > '9000-01-01' THEN enqueued_at ELSE run_after END)
FROM django_tasks_database_dbtaskresult
WHERE status = 'READY' AND (run_after > '9000-01-01' OR run_after <= statement_timestamp())
    AND queue_name <> '{operations.QUEUE}'
"""  # noqa: S608 - our own name


def connect() -> None:
    """Register the figures, and what keeps them."""
    for family in _families():
        figures.register(family)
    batch_recorded.connect(_recorded, sender=Record, dispatch_uid="config.figures")
    connection_failed.connect(_connection_failed, dispatch_uid="config.figures")
    retry.on_retry.append(prometheus.count_retry)
    schedule.every_minute(beat)
    schedule.every_minute(measure_trail)
    schedule.every_minute(statement_history.remember)


def _families() -> Iterator[Family]:
    yield Family(
        name="audit_records",
        help="Records of the audit trail.",
        kind="counter",
        expected=lambda: [
            labelled(resource=audited.resource, action=action)
            for audited in registry.registered()
            for action in _ACTIONS
        ],
    )
    yield Family(
        name="account_events",
        help="What happened to accounts: sign-ups, logins, locks, invitations, passwords.",
        kind="counter",
        expected=lambda: [labelled(event=event) for event in sorted(_EVENTS | _OF_ROWS | set(_PASSWORDS.values()))],
    )
    yield Family(name="worker_beat_timestamp_seconds", help="When a worker last kept the schedule.")
    yield Family(
        name="jobs",
        help="Jobs that wait or run, or have been given up, by state.",
        sql=_JOBS,
        expected=lambda: [labelled(state=state) for state in ("ready", "running", "failed")],
    )
    yield Family(
        name="jobs_oldest_seconds",
        help="How long the oldest job that may run has been waiting.",
        sql=f"SELECT '{{}}'::jsonb, coalesce(max(waits), 0)::float8 FROM ({_READY}) AS ready (waits)",  # noqa: S608
    )
    for name, text in _OF_TRAIL.items():
        yield Family(name=f"audit_{name}", help=text)


# Counting


def _connection_failed(sender: Any, **kwargs: Any) -> None:
    statements.count_failed_connection()


def _recorded(sender: Any, records: Sequence[Record], **kwargs: Any) -> None:
    figures.increase(counted(records))


def counted(records: Iterable[Record]) -> dict[tuple[str, Labels], float]:
    """Return by how much the counters grow with these records."""
    counts: Counter[tuple[str, Labels]] = Counter()
    for record in records:
        counts["audit_records", labelled(resource=record.resource, action=record.action)] += 1
        if event := event_of(record):
            counts["account_events", labelled(event=event)] += 1
    return dict(counts)


def event_of(record: Record) -> str:
    """Return what `record` tells of an account, or nothing."""
    if record.origin == Record.Origin.EVENT:
        return record.action if record.action in _EVENTS else ""
    match record.resource, record.action:
        case "accounts.user", Record.Action.CREATE:
            return "signup" if record.reason == "signup" else "user_created"
        case "accounts.user", Record.Action.UPDATE if "password" in record.after:
            return _PASSWORDS.get(record.reason or "", "")
        case "accounts.invitation", Record.Action.CREATE:
            return "invited"
        case "accounts.redemption", Record.Action.CREATE:
            return "invitation_accepted"
        case "accounts.invitation", Record.Action.UPDATE if record.after.get("revoked_at"):
            return "invitation_revoked"
    return ""


# Measuring


def beat() -> None:
    """Say that a worker keeps the schedule."""
    figures.put({("worker_beat_timestamp_seconds", ()): time.time()})


_OF_TRAIL = {
    "partitions_ahead": "Partitions for the weeks to come.",
    "in_default": "Records for which there was no partition.",
    "triggers_missing": "Triggers of audited tables that are not as declared.",
    "triggers_unknown": "Triggers of the trail on tables that are not audited.",
    "unsealed": "Records that no seal covers.",
    "unsealed_seconds": "Age of the oldest record that no seal covers.",
    "bytes": "Size of the trail.",
}


def measure_trail() -> None:
    """Keep how well the audit trail is, for who cannot ask that in a moment."""
    state = care.state()
    since = state.unsealed_since
    facts = {
        "partitions_ahead": state.weeks_ahead,
        "in_default": state.in_default,
        "triggers_missing": state.triggers_missing,
        "triggers_unknown": state.triggers_unknown,
        "unsealed": state.unsealed,
        "unsealed_seconds": (timezone.now() - since).total_seconds() if since else 0.0,
        "bytes": state.bytes,
    }
    figures.put({(f"audit_{name}", ()): float(value) for name, value in facts.items()})
