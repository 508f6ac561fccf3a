"""What keeps the trail well without anybody thinking of it, and whether it is well."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils import timezone

from auditlog import partitions, sealing, triggers
from auditlog.models import Seal

EVERY = 3600.0  # seconds
log = structlog.get_logger("auditlog")
_due = 0.0  # of time.monotonic(), for this process


def tend() -> bool:
    """Make partitions, purge and seal, once an hour in effect; return whether it was time. For the worker's schedule.

    Several processes may do it at once. What could not be done because somebody held the trail is tried at the next
    call.
    """
    global _due  # noqa: PLW0603 - one process, one clock
    if time.monotonic() < _due:
        return False
    done = [_done(step) for step in (partitions.make_ahead, _purge, sealing.seal)]
    if all(done):
        _due = time.monotonic() + EVERY
    return True


def _purge() -> None:
    before = partitions.retention_ends()
    if partitions.purgeable(before):
        gone = partitions.purge(before)
        log.info("audit.purged", before=before.isoformat(), weeks=len(gone))


def _done(step: Callable[[], object]) -> bool:
    try:
        step()
    except (partitions.Busy, sealing.CannotSeal) as reason:
        log.warning("audit.care_failed", reason=str(reason))
        return False
    return True


@dataclass(frozen=True)
class State:
    """How the trail is kept. `unsealed_since`: of the oldest record that no seal covers."""

    weeks_ahead: int
    in_default: int
    oldest: datetime | None
    bytes: int
    triggers_missing: int
    triggers_unknown: int
    sealed_at: datetime | None
    unsealed: int
    unsealed_since: datetime | None


def state(using: str = DEFAULT_DB_ALIAS) -> State:
    """Return how the trail is kept; a few milliseconds for what is not sealed, besides the catalogue."""
    now = timezone.now()
    every = partitions.every(using)
    weeks = [partition for partition in every if partition.bytes is not None]
    missing, unknown = triggers.differences(connections[using])
    tails = sealing.unsealed(using)
    return State(
        weeks_ahead=sum(partition.opens > now for partition in weeks),
        in_default=sum(partition.records or 0 for partition in every if partition.bytes is None),
        oldest=weeks[0].opens if weeks else None,
        bytes=sum(partition.bytes or 0 for partition in weeks),
        triggers_missing=len(missing),
        triggers_unknown=len(unknown),
        sealed_at=Seal.objects.using(using).order_by("-id").values_list("at", flat=True).first(),
        unsealed=sum(tail.records for tail in tails),
        unsealed_since=min((tail.since for tail in tails), default=None),
    )
