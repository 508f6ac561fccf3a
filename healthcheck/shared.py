"""A value that all threads of a process share for a while."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """What `take` returned last, taken anew after `seconds`, by one thread at a time.

    `take` is handed the value before, or None, and must bound its own time: whoever comes meanwhile waits for it and
    is handed its value.
    """

    def __init__(self, take: Callable[[T | None], T], seconds: float) -> None:
        self._take = take
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: T | None = None
        self._taken = float("-inf")

    def current(self) -> T:
        with self._lock:
            if self._value is None or monotonic() - self._taken >= self._seconds:
                self._value = self._take(self._value)
                self._taken = monotonic()
            return self._value

    def known(self) -> T | None:
        """Return what was taken last, whatever its age; never waits."""
        return self._value

    def forget(self) -> None:
        """Take it anew at the next call, whatever its age."""
        with self._lock:
            self._taken = float("-inf")
