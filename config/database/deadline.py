"""A client-side deadline for every ordinary query.

A frozen server (SIGSTOP, a hung disk, a lost route) enforces no timeout of its own, so the client has to.
psycopg2 hands control to a wait callback while a connection waits for the server; ours charges the wait
to the budget of the current request or job. A spent budget fails every further query of that request at
once, so that the error path cannot hang either. Only time spent waiting for the database counts: a slow
password hash between two queries costs nothing.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from contextvars import ContextVar
from time import monotonic

import psycopg2
from psycopg2 import extensions

_TOO_LATE = "the database did not answer within the deadline"
_EVENTS = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}


class DeadlineExceeded(psycopg2.OperationalError):
    """The database did not answer within the budget; psycopg2 has closed the connection."""


class Budget:
    """Seconds that one unit of work may still wait for the database.

    One that is `apart` is for another server than the site's first: whether that is away says nothing about this one.
    """

    __slots__ = ("is_apart", "seconds")

    def __init__(self, seconds: float, *, apart: bool = False) -> None:
        self.seconds = seconds
        self.is_apart = apart


# While a server is known to be away, requests need not find out one by one, each holding a thread for its budget.
AWAY_SECONDS = 1.0
# Who asks first after that gets no more than this: under a synchronous worker everybody queues behind it.
DOUBT_SECONDS = 0.5
_away_until = float("-inf")
_is_doubted = False

_current: ContextVar[Budget | None] = ContextVar("database_budget", default=None)


@contextlib.contextmanager
def database_budget(seconds: float | None) -> Iterator[None]:
    """Let the block wait at most `seconds` for the database in total; None takes the limit away."""
    with charged_to(None if seconds is None else Budget(seconds)):
        yield


@contextlib.contextmanager
def charged_to(budget: Budget | None) -> Iterator[None]:
    """Let the block wait for the database at the expense of `budget`, in place of the current one."""
    token = _current.set(budget)
    try:
        yield
    finally:
        _current.reset(token)


def remaining_seconds() -> float | None:
    """What is left of the current budget, never negative; None when there is none."""
    budget = _current.get()
    return None if budget is None else max(0.0, budget.seconds)


@contextlib.contextmanager
def charged() -> Iterator[Budget | None]:
    """Charge the block's time to the current budget; raises DeadlineExceeded when it is spent already."""
    budget = _current.get()
    if budget is not None and (budget.seconds <= 0 or (monotonic() < _away_until and not budget.is_apart)):
        raise DeadlineExceeded(_TOO_LATE)
    started = monotonic()
    try:
        yield budget
    finally:
        if budget is not None:
            budget.seconds -= monotonic() - started


@contextlib.contextmanager
def greeting() -> Iterator[None]:
    """Mark a block that any healthy server answers at once: connecting, or trying a kept connection.

    When it eats up the budget, and that was not nearly spent before, the server is away, and this process does not
    ask it for a second.
    """
    global _away_until, _is_doubted  # noqa: PLW0603 - one server, one fact, for all threads of the process
    budget = _current.get()
    if budget is None or budget.is_apart or budget.seconds <= 0 or monotonic() < _away_until:
        yield
        return
    withheld = max(0.0, budget.seconds - DOUBT_SECONDS) if _is_doubted else 0.0
    budget.seconds -= withheld
    started = monotonic()
    try:
        yield
    finally:
        if budget.seconds > 0:
            budget.seconds += withheld
            _is_doubted = False
        elif monotonic() - started >= DOUBT_SECONDS:
            _away_until = monotonic() + AWAY_SECONDS
            _is_doubted = not _is_doubted  # every other try is a whole one, or a server that is far would never be met


def _wait(connection: extensions.connection) -> None:
    with charged() as budget:
        deadline = None if budget is None else monotonic() + budget.seconds
        try:
            while (state := connection.poll()) != extensions.POLL_OK:
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise DeadlineExceeded(_TOO_LATE)
                # poll(), not select(): a busy process has descriptors above 1,023.
                poller = select.poll()
                poller.register(connection.fileno(), _EVENTS[state])
                poller.poll(None if left is None else left * 1000)
        except KeyboardInterrupt:
            connection.cancel()  # Ctrl-C ends the statement on the server too, not only our wait for it
            raise


def install() -> None:
    """Put the deadline in front of every synchronous psycopg2 connection of this process."""
    extensions.set_wait_callback(_wait)


@contextlib.contextmanager
def blocking_copy() -> Iterator[None]:
    """Take the deadline off around COPY, which psycopg2 cannot do with a wait callback.

    The callback belongs to the whole process: use it in commands, never in a web process.
    """
    extensions.set_wait_callback(None)
    try:
        yield
    finally:
        install()
