"""What the worker does besides its jobs; apps put their own work on the lists in `AppConfig.ready`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError

SLOW_QUEUE = "slow"  # of jobs that may take minutes; the others do not wait for them
log = structlog.get_logger("gatehouse.worker")
Work = TypeVar("Work", bound=Callable[[], object])
_work: dict[Callable[[], object], None] = {}  # sets that keep the order
_turns: dict[Callable[[], object], None] = {}


def every_minute(work: Work) -> Work:
    """Put `work` on the list. Several workers may run it at once, and a minute may pass without it."""
    _work[work] = None
    return work


def every_turn(work: Work) -> Work:
    """As `every_minute`, for each look at the queue: each second when there is nothing else to do."""
    _turns[work] = None
    return work


def run() -> None:
    """Do all of the work of a minute, once. Raises only when the database is away."""
    _do(_work)


def take_turn() -> None:
    """Do all of the work of a turn, once. Raises only when the database is away."""
    _do(_turns)


def _do(works: Iterable[Callable[[], object]]) -> None:
    for work in works:
        try:
            work()
        except (OperationalError, InterfaceError):
            raise
        except Exception:  # what one cannot do must keep neither the others nor the jobs waiting
            log.exception("schedule.failed", work=f"{work.__module__}.{work.__qualname__}")
