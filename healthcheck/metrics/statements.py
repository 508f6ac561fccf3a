"""Counts the statements of every connection: how often, how long, the slowest, the failed, by their shape.

It sees what passes Django's cursors, not what is asked of psycopg2's own (COPY is). Whatever goes wrong in here, the
statement itself goes on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter, time
from typing import Any

import structlog
from django.db.backends.signals import connection_created

from healthcheck.metrics.shapes import OTHER, Shape, as_text, shape_of
from healthcheck.metrics.tallies import Counts, Keys, Pair, key_of, tallies

HOUR = 3600
KINDS = ("statement", "slowest", "failure")
log = structlog.get_logger("healthcheck")


@dataclass(frozen=True)
class Counted:
    """What all processes of this host made of a shape; times in seconds, `slowest` of this hour."""

    shape: Shape
    count: int
    seconds: float
    slowest: float
    errors: int


def connect() -> None:
    connection_created.connect(_connected, dispatch_uid="healthcheck.connected")


def count_failed_connection() -> None:
    """Count that a connection to the database could not be opened; for whoever opens them."""
    _count_event("failed")


def of_host(counts: Counts) -> list[Counted]:
    """Return every shape in what `Tallies.of_host` has found, those that took most time first."""
    found: dict[Shape, dict[str, list[Pair]]] = defaultdict(dict)
    for (kind, *labels), pairs in counts.items():
        if kind in KINDS:
            found[Shape(*labels)][kind] = pairs
    every = [_counted(shape, **pairs) for shape, pairs in found.items()]
    return sorted(every, key=lambda each: each.seconds, reverse=True)


def _counted(
    shape: Shape, statement: Sequence[Pair] = (), slowest: Sequence[Pair] = (), failure: Sequence[Pair] = ()
) -> Counted:
    hour = time() // HOUR
    return Counted(
        shape,
        count=round(sum(count for count, _seconds in statement)),
        seconds=sum(seconds for _count, seconds in statement),
        slowest=max([seconds for seconds, of_hour in slowest if of_hour == hour], default=0.0),
        errors=round(sum(count for count, _seconds in failure)),
    )


def measured(execute: Callable[..., Any], statement: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """The wrapper that Django calls around each statement (``connection.execute_wrappers``)."""
    begun = perf_counter()
    failed = True
    try:
        result = execute(statement, params, many, context)
        failed = False
        return result
    finally:
        _count(statement, context, perf_counter() - begun, failed)


def _connected(sender: Any, connection: Any, **kwargs: Any) -> None:
    # The list outlives the connection to the server.
    if measured not in connection.execute_wrappers:
        # In front: whoever has connected within a wrapper of their own takes the last one away at its end.
        connection.execute_wrappers.insert(0, measured)
    _count_event("opened")


def _count_event(event: str) -> None:
    key = key_of("connection", event)
    tallies.add(key, key)


@dataclass(frozen=True)
class _Keys:
    """Under which keys a shape is counted: its own, and those for when there are too many shapes."""

    times: Keys
    slowest: Keys
    failures: Keys


def _count(statement: Any, context: dict[str, Any], seconds: float, failed: bool) -> None:
    try:
        keys = _keys(as_text(statement, context["cursor"].cursor))
        tallies.took(keys.times, keys.slowest, seconds, time() // HOUR)
        if failed:
            tallies.add(*keys.failures)
    except Exception:
        log.exception("metrics.statement_not_counted")


@lru_cache(maxsize=2000)
def _keys(statement: str) -> _Keys:
    shape = shape_of(statement)
    labels = (shape.operation, shape.table, shape.text)
    others = (shape.operation, OTHER, OTHER)
    return _Keys(*((key_of(kind, *labels), key_of(kind, *others)) for kind in KINDS))
