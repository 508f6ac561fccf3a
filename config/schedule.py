"""What the worker does every minute; apps put their own work on the list in `AppConfig.ready`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

Work = TypeVar("Work", bound=Callable[[], object])
_work: dict[Callable[[], object], None] = {}  # a set that keeps the order


def every_minute(work: Work) -> Work:
    """Put `work` on the list. Several workers may run it at once, and a minute may pass without it."""
    _work[work] = None
    return work


def run() -> None:
    """Do all of it, once."""
    for work in _work:
        work()
