"""A question to the database that cannot hang.

It is asked over an asynchronous psycopg2 connection of its own, so that a frozen server costs the deadline
and no more: no thread, no session and no descriptor is left behind.
"""

from __future__ import annotations

import contextlib
import select
from time import monotonic
from typing import Any

import psycopg2
from django.db import DatabaseError, connections
from psycopg2 import extensions

_EVENTS = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}


class NoAnswer(Exception):
    """The database refused the question or did not answer it in time."""


class Ping:
    """One kept connection; not thread-safe, the caller asks one question at a time."""

    def __init__(self) -> None:
        self._connection: extensions.connection | None = None

    def ask(self, query: str, seconds: float) -> list[tuple[Any, ...]]:
        """Return the rows of `query` within `seconds`, over a new connection if the kept one has gone stale.

        Raises NoAnswer.
        """
        deadline = monotonic() + seconds
        kept = self._connection is not None
        try:
            return self._ask(query, deadline)
        except (psycopg2.Error, DatabaseError) as error:
            self.close()
            if not kept:
                raise NoAnswer(type(error).__name__) from error
        try:
            return self._ask(query, deadline)
        except (psycopg2.Error, DatabaseError) as error:
            self.close()
            raise NoAnswer(type(error).__name__) from error

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None

    def _ask(self, query: str, deadline: float) -> list[tuple[Any, ...]]:
        if self._connection is None:
            parameters = connections["default"].get_connection_params()
            parameters |= {"application_name": "gatehouse-health", "async_": True}
            self._connection = psycopg2.connect(**parameters)
            _wait(self._connection, deadline)
        cursor = self._connection.cursor()
        cursor.execute(query)
        _wait(self._connection, deadline)
        return cursor.fetchall()


def _wait(connection: extensions.connection, deadline: float) -> None:
    while (state := connection.poll()) != extensions.POLL_OK:
        left = deadline - monotonic()
        if left <= 0:
            raise psycopg2.OperationalError("no answer within the deadline")
        poller = select.poll()
        poller.register(connection.fileno(), _EVENTS[state])
        poller.poll(left * 1000)
