"""Questions to the database that cannot hang.

They are asked over an asynchronous psycopg2 connection of their own, so that a frozen server costs the deadline
and no more: no thread, no session and no descriptor is left behind.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Generator, Iterator
from functools import partial
from time import monotonic
from typing import Any

import psycopg2
from django.db import DatabaseError, connections
from psycopg2 import extensions

from healthcheck.addresses import Addresses

Rows = list[tuple[Any, ...]]
Answer = tuple[extensions.connection, Rows | psycopg2.Error]
Attempt = Generator[tuple[int, int], None, Answer]
Way = tuple[Callable[[], extensions.connection], float]

# In front of a question about tables: who gives up waiting for its answer leaves a session that waits on, perhaps for a
# lock. These settings end with the question: both travel as one message, which is one transaction.
LIMITS = """
SELECT set_config('statement_timeout', '2s', true), set_config('lock_timeout', '500ms', true);
"""
_EVENTS = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}
_NEVER = float("inf")


class NoAnswer(Exception):
    """The database refused the question or did not answer it in time; ``str()`` is the name of the error's class."""


class Ping:
    """One kept connection; not thread-safe, the caller asks one question at a time."""

    def __init__(self) -> None:
        self._addresses = Addresses()
        self._kept: extensions.connection | None = None
        self._question: _Question | None = None

    def ask(self, query: str, seconds: float) -> Rows:
        """Return the rows of `query` within `seconds`; raises NoAnswer."""
        self.begin(query, seconds)
        return self.answer(_NEVER) or []

    def begin(self, query: str, seconds: float) -> None:
        """Ask `query`, to be answered within `seconds`; `answer` has to be called for anything to happen."""
        self._give_up()
        deadline = monotonic() + seconds
        self._question = _Question(query, deadline, _ways(self._kept, self._addresses, deadline))
        self._kept = None

    def answer(self, patience: float) -> Rows | None:
        """Return the rows, or None when they are not there after `patience` seconds, to be called again.

        Raises NoAnswer, at the question's deadline at the latest.
        """
        if self._question is None:
            raise NoAnswer("nothing was asked")
        try:
            answer = self._question.advance(monotonic() + patience)
        except NoAnswer:
            self._question = None
            raise
        if answer is None:
            return None
        self._question = None
        self._kept, rows = answer
        if isinstance(rows, psycopg2.Error):
            raise NoAnswer(type(rows).__name__) from rows
        return rows

    def close(self) -> None:
        self._give_up()
        if self._kept is not None:
            self._kept.close()
            self._kept = None

    def _give_up(self) -> None:
        if self._question is not None:
            self._question.give_up()
            self._question = None


class _Question:
    """Asks by one way after the other; a way that is silent for its share of the time goes on beside the next.

    So neither a connection that some router has forgotten nor the dead one of several hosts uses up the deadline.
    """

    def __init__(self, query: str, deadline: float, ways: Iterator[Way]) -> None:
        self._query = query
        self._deadline = deadline
        self._ways = ways
        self._next_way: float = 0
        self._waiting: dict[Attempt, tuple[int, int]] = {}
        self._answer: Answer | None = None
        self._error = ""

    def advance(self, until: float) -> Answer | None:
        """Go on until there is an answer or it is `until` (monotonic seconds); raises NoAnswer."""
        while True:
            self._try_ways()
            self._wait(min(until, self._deadline, self._next_way))
            now = monotonic()
            if self._answer is not None:
                self.give_up()
                return self._answer
            if now >= self._deadline or (self._next_way == _NEVER and not self._waiting):
                self.give_up()
                raise NoAnswer(self._error or "TimeoutError")
            if now >= until:
                return None

    def give_up(self) -> None:
        for attempt in self._waiting:
            attempt.close()
        self._waiting.clear()

    def _try_ways(self) -> None:
        while self._answer is None and (monotonic() >= self._next_way or not self._waiting):
            connect, self._next_way = next(self._ways, (None, _NEVER))
            if connect is None:
                return
            self._go_on(_attempt(connect, self._query))

    def _wait(self, until: float) -> None:
        poller = select.poll()  # not select(): a busy process has descriptors above 1,023
        for descriptor, event in self._waiting.values():
            poller.register(descriptor, event)
        ready = dict(poller.poll(max(0.0, until - monotonic()) * 1000)) if self._waiting else {}
        for attempt in [each for each, (descriptor, _) in self._waiting.items() if descriptor in ready]:
            if self._answer is None:
                self._go_on(attempt)

    def _go_on(self, attempt: Attempt) -> None:
        try:
            self._waiting[attempt] = next(attempt)
        except StopIteration as end:
            self._waiting.pop(attempt, None)
            self._answer = end.value
        except psycopg2.Error as error:
            self._waiting.pop(attempt, None)
            self._error = type(error).__name__


def _ways(kept: extensions.connection | None, addresses: Addresses, deadline: float) -> Iterator[Way]:
    """Yield what gives a connection, and the time (monotonic seconds) to wait for it before the next is tried."""
    if kept is not None:
        yield lambda: kept, (monotonic() + deadline) / 2
    try:
        parameters = connections["default"].get_connection_params()
    except DatabaseError:  # the embedded server has no place yet
        return
    parameters |= {"application_name": "gatehouse-health", "async_": True}
    targets = addresses.targets(parameters)
    for number, target in enumerate(targets):
        now = monotonic()
        yield partial(psycopg2.connect, **target), now + (deadline - now) / (len(targets) - number)


def _attempt(connect: Callable[[], extensions.connection], query: str) -> Attempt:
    """Connect, ask and read; yields the descriptor and the event to wait for. Given up, it closes its connection."""
    connection = connect()
    try:
        yield from _until_idle(connection)
        cursor = connection.cursor()
        cursor.execute(query)
        yield from _until_idle(connection)
        return connection, cursor.fetchall()
    except psycopg2.Error as error:
        if error.pgcode and not connection.closed:
            return connection, error  # also an answer, of a server that is well
        connection.close()
        raise
    except GeneratorExit:
        connection.close()
        raise


def _until_idle(connection: extensions.connection) -> Iterator[tuple[int, int]]:
    while (state := connection.poll()) != extensions.POLL_OK:
        yield connection.fileno(), _EVENTS[state]
