"""What is deleted when it is old enough. Every app adds its rules in `AppConfig.ready`; the worker keeps them.

A rule deletes in batches, each a short transaction of its own that skips what is locked. So a run may be interrupted
anywhere, several may run side by side, and no table is locked for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.db import OperationalError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

import auditlog
from config.database import retry
from config.database.locks import held_alone
from config.database.retry import Patience

log = structlog.get_logger("gatehouse.retention")

BATCH = 500  # rows
EVERY = 3600.0  # seconds between two looks of a worker
PATIENCE = Patience(attempts=4, first_pause=0.1, longest_pause=1.0)
TURN = 20.0  # seconds that a worker spends on it at once: jobs wait meanwhile
_due = 0.0  # of time.monotonic(), for this process


@dataclass(frozen=True, kw_only=True)
class Rule:
    """`kept_for` None: for ever. `count` and `delete` are asked about what is older than a moment.

    `delete` deletes a batch, commits it, and returns how many there were: 0 when nothing is left. It may be done twice.
    """

    name: str
    label: Any  # str or lazy translation
    kept_for: Callable[[], timedelta | None]
    count: Callable[[datetime], int]
    delete: Callable[[datetime], int]

    def before(self) -> datetime | None:
        """The moment before which things are old enough now."""
        kept = self.kept_for()
        return None if kept is None else timezone.now() - kept

    def overdue(self) -> int:
        """How many would be deleted now."""
        before = self.before()
        return 0 if before is None else self.count(before)


@dataclass(frozen=True)
class Outcome:
    """What one rule did; `error` is the name of what kept it from doing all of it, or ""."""

    rule: Rule
    deleted: int
    error: str = ""


_rules: dict[str, Rule] = {}
Tell = Callable[[Rule, int], object]  # a rule, and how many its last batch deleted


def register(rule: Rule) -> None:
    """Add a rule; raises ValueError when another has its name."""
    if rule.name in _rules:
        raise ValueError(f"There is a retention rule called {rule.name!r} already.")
    _rules[rule.name] = rule


def rules() -> dict[str, Rule]:
    """Return every rule by its name, in the order of registration."""
    return dict(_rules)


def register_rows(
    name: str,
    label: Any,
    *,
    kept_for: Callable[[], timedelta | None],
    older_than: Callable[[datetime], QuerySet[Any]],
    delete: Callable[[QuerySet[Any]], object] = lambda rows: rows.delete(),
) -> None:
    """Add a rule for the rows that `older_than` a moment finds, which go with the model's own cascades and records.

    `delete` is for those whose end is an event of its own; it gets a batch, locked.
    """
    register(
        Rule(
            name=name,
            label=label,
            kept_for=kept_for,
            count=lambda before: older_than(before).count(),
            delete=lambda before: _delete_batch(older_than(before), delete),
        )
    )


def _delete_batch(overdue: QuerySet[Any], delete: Callable[[QuerySet[Any]], object]) -> int:
    with transaction.atomic(durable=True):
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '1s'")  # what is old can wait; jobs behind us can not
        # Whoever else cleans up has locked other rows, so nobody waits and nobody deadlocks. A row that has changed
        # meanwhile, and is not overdue any more, is not locked either.
        locked = overdue.order_by().select_for_update(skip_locked=True, of=("self",))
        keys = list(locked.values_list("pk", flat=True)[:BATCH])
        if keys:
            with auditlog.acting_as(reason="kept long enough"):
                delete(overdue.model._default_manager.filter(pk__in=keys))  # noqa: SLF001 - public, says Django
    return len(keys)


def clean_up(
    rules: Iterable[Rule], *, tell: Tell = lambda rule, deleted: None, enough: Callable[[], bool] = lambda: False
) -> list[Outcome]:
    """Delete what is overdue by these rules, until `enough`; what one rule cannot do keeps no other waiting.

    `tell` hears of each batch after its commit. Raises OperationalError when the database is away.
    """
    return [_keep(rule, tell, enough) for rule in rules]


def _keep(rule: Rule, tell: Tell, enough: Callable[[], bool]) -> Outcome:
    before, deleted = rule.before(), 0
    try:
        while before is not None and not enough():
            batch = retry.run(partial(rule.delete, before), idempotent=True, patience=PATIENCE)
            if not batch:
                break
            deleted += batch
            tell(rule, batch)
    except Exception as error:
        if isinstance(error, OperationalError) and retry.fault_of(error) == retry.LOST:
            raise
        log.exception("retention.failed", rule=rule.name)
        return Outcome(rule, deleted, type(error).__name__)
    return Outcome(rule, deleted)


def summary(outcomes: Collection[Outcome]) -> dict[str, int]:
    """How many went, by the names of the rules by which any did."""
    return {outcome.rule.name: outcome.deleted for outcome in outcomes if outcome.deleted}


def keep_rules() -> bool:
    """Clean up once an hour in effect, a while at a time; return whether it was time. For the worker's schedule.

    One worker of all at a time; the others leave it to that one.
    """
    global _due  # noqa: PLW0603 - one process, one clock
    if time.monotonic() < _due:
        return False
    until = time.monotonic() + TURN
    with held_alone("retention") as alone:
        outcomes = clean_up(_rules.values(), enough=lambda: time.monotonic() > until) if alone else []
    if deleted := summary(outcomes):
        log.info("retention.kept", **deleted)
    if time.monotonic() < until:  # else there is more to do, at the next call
        _due = time.monotonic() + EVERY
    return True
