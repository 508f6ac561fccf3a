"""A session of one's own that cannot hang: for what has to be the same session from one statement to the next."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import psycopg2
from django.db import DatabaseError, connections
from psycopg2 import extensions

from healthcheck.addresses import Addresses
from healthcheck.ping import NoAnswer

_EVENTS = {extensions.POLL_READ: select.POLLIN, extensions.POLL_WRITE: select.POLLOUT}
Parameters = Sequence[Any] | Mapping[str, Any] | None


class Session:
    """One session of a database `alias`; not thread-safe.

    Unlike a `Ping`'s it is not replaced in silence: what it held is lost with it, and `is_open` tells.
    """

    def __init__(self, alias: str, application_name: str, *, idle_seconds: float = 0) -> None:
        """The server ends a session that asks nothing for `idle_seconds`, as one of a lost machine does; 0: never."""
        self._alias = alias
        self._application_name = application_name
        self._options = f" -c idle_session_timeout={round(idle_seconds * 1000)}"
        self._addresses = Addresses()
        self._tries = 0
        self._connection: extensions.connection | None = None

    @property
    def is_open(self) -> bool:
        return self._connection is not None

    def ask(self, query: str, parameters: Parameters = None, *, seconds: float) -> list[tuple[Any, ...]]:
        """Return the rows of the (last) statement within `seconds`; several statements are one transaction.

        Raises NoAnswer, and ends the session, when there is no answer in time or the answer is an error.
        """
        deadline = monotonic() + seconds
        try:
            return self._ask(query, parameters, deadline)
        except (psycopg2.Error, DatabaseError) as error:
            self.close()
            raise NoAnswer(type(error).__name__) from error

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(psycopg2.Error):
                self._connection.close()
            self._connection = None

    def _ask(self, query: str, parameters: Parameters, deadline: float) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = psycopg2.connect(**self._target())
            _wait(self._connection, deadline)
        cursor = self._connection.cursor()
        cursor.execute(query, parameters)
        _wait(self._connection, deadline)
        return cursor.fetchall() if cursor.description else []

    def _target(self) -> dict[str, Any]:
        """Return where to connect to: of several hosts and addresses another one at each try."""
        parameters = connections[self._alias].get_connection_params()
        parameters |= {"application_name": self._application_name, "async_": True}
        parameters["options"] = parameters.get("options", "") + self._options
        targets = self._addresses.targets(parameters)
        if not targets:
            raise psycopg2.OperationalError("nobody knows where the host is")
        self._tries += 1
        return targets[(self._tries - 1) % len(targets)]


def _wait(connection: extensions.connection, deadline: float) -> None:
    while (state := connection.poll()) != extensions.POLL_OK:
        left = deadline - monotonic()
        if left <= 0:
            raise psycopg2.OperationalError("no answer within the deadline")
        poller = select.poll()
        poller.register(connection.fileno(), _EVENTS[state])
        poller.poll(left * 1000)
