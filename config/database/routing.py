"""Where the reads of a page go: a view that only looks may look at a standby (`replicas`), everything else may not.

What one request has read, written and met is in a `Reading`. Outside of one, and in every write, nothing is asked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, InterfaceError, InternalError, OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model
from django.http import Http404

from auditlog import channel
from config.database import replicas
from config.database.deadline import Budget, charged_to
from config.database.positions import Position
from config.database.replicas import Replica

# A standby went away, or ended a question that was in the way of replaying; or a write came there.
_NOT_THE_VIEWS_FAULT = (OperationalError, InterfaceError, InternalError)
log = structlog.get_logger("gatehouse.replicas")

_always_primary: set[type[Model]] = set()
_current: ContextVar[Reading | None] = ContextVar("database_reading", default=None)


def read_from_primary(*models: type[Model]) -> None:
    """Never read these models from a standby: who is let in, and for how long, must not depend on its lag."""
    _always_primary.update(models)


@contextmanager
def on_primary() -> Iterator[None]:
    """Read everything in the block from the primary."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def connection_for_reading() -> BaseDatabaseWrapper:
    """Return where hand-written SQL of a page may read, as the router does for a model's: a standby, or the primary."""
    request = _current.get()
    return connections[(request and request.alias()) or DEFAULT_DB_ALIAS]


class Reading:
    """From which server one request reads, and whether it wrote. `written`: where the session's last write ended."""

    def __init__(self, written: Position | None) -> None:
        self._written = written
        self._writes_before = channel.of(DEFAULT_DB_ALIAS).writes
        self._is_open = self._is_asked = self._is_sticky = False
        self._replica: Replica | None = None
        self.again: Callable[[], Any] | None = None  # the view, once more
        self._budget = Budget(settings.DATABASE_DEADLINE / 2, apart=True)
        self.statements = 0  # that a standby answered
        self.fault: Exception | None = None  # that came from a standby

    @property
    def has_written(self) -> bool:
        return channel.of(DEFAULT_DB_ALIAS).writes != self._writes_before

    def open(self, view: Callable[[], Any]) -> None:
        """From now on a standby may be read; `view` does the same again."""
        self._is_open, self.again = True, view

    def close(self) -> None:
        """From now on only the primary is read."""
        self._is_open = False
        replica, self._replica = self._replica, None
        if replica is None:
            return
        connection = connections[replica.alias]
        connection.execute_wrappers.remove(self._watched)
        if self.fault is not None:
            error = self.fault.__cause__ or self.fault
            log.warning("replica.failed", replica=replica.alias, error=type(error).__name__)
        if connection.errors_occurred:  # Django would try it between two requests, where nothing bounds the time
            replica.drop_connection()  # and who comes next asks first whether it lives

    def can_be_repeated(self, error: Exception) -> bool:
        """Whether the view met what is a matter of the standby: its end, or that it does not have a row yet."""
        is_missing = isinstance(error, Http404) and self.statements > 0
        return (self.fault is not None or is_missing) and not self.has_written

    def prefer_primary(self) -> None:
        """Read from the primary for the rest of the request, as after a write."""
        self._is_sticky = True

    def alias(self) -> str | None:
        """Return the standby to read from now, None for the primary. Chosen when it is first wanted, and for good."""
        if not self._is_open or self._is_sticky or self.fault or self.has_written:
            return None
        if connections[DEFAULT_DB_ALIAS].in_atomic_block:
            return None
        if not self._is_asked:
            self._is_asked = True
            self._replica = replicas.of_settings().choose(self._written)
            if self._replica is not None:
                connections[self._replica.alias].execute_wrappers.append(self._watched)
        return self._replica.alias if self._replica else None

    def _watched(
        self, execute: Callable[..., Any], statement: str, parameters: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Give each statement at a standby what is left of the time for standbys, and keep what went wrong there."""
        try:
            with charged_to(self._budget):
                result = execute(statement, parameters, many, context)
        except _NOT_THE_VIEWS_FAULT as error:
            self.fault = error
            raise
        self.statements += 1
        return result


@contextmanager
def reading(written: Position | None) -> Iterator[Reading]:
    """Let the block be one request, which begins at the primary."""
    made = Reading(written)
    token = _current.set(made)
    try:
        yield made
    finally:
        made.close()
        _current.reset(token)


def current() -> Reading | None:
    return _current.get()


class ReplicaRouter:
    """Django's question for each read and write (`DATABASE_ROUTERS`)."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        request, loaded_from = _current.get(), _loaded_from(hints)
        # What hangs on a row of the primary comes from there too: it may be newer than any standby.
        is_free = model not in _always_primary and loaded_from in (None, *settings.DATABASE_REPLICAS)
        return (request.alias() if request and is_free else None) or _home(loaded_from)

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """Also asked by what locks rows."""
        if request := _current.get():
            request.prefer_primary()
        return _home(_loaded_from(hints))

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool | None:
        """A row and its copy are one."""
        places = {_loaded_from({"instance": row}) for row in (one, other)}
        return True if places <= {DEFAULT_DB_ALIAS, *settings.DATABASE_REPLICAS} else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        return False if db in settings.DATABASE_REPLICAS else None


def _home(loaded_from: str | None) -> str | None:
    """A row that was read from a standby belongs to the primary; of others Django knows where they belong."""
    return DEFAULT_DB_ALIAS if loaded_from in settings.DATABASE_REPLICAS else None


def _loaded_from(hints: dict[str, Any]) -> str | None:
    instance = hints.get("instance")
    return instance._state.db if instance is not None else None  # noqa: SLF001 - as Django's own routing
