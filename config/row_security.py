"""Row-level security: PostgreSQL itself keeps a person's rows from another's, also for hand-written SQL.

An app says in `AppConfig.ready` who owns the rows of a table. With ``ROW_SECURITY=on`` each page then reads and writes
the rows of whoever is signed in; the admin, and what is no page, those of everybody. ``docs/extending.md`` ("Rows of
one person") says what it does not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest

from auditlog import channel, context
from config.database.roles import OWNER_ALIAS

SETTING = "gatehouse.person"  # a user's id, or one of the next two; unset as nobody
EVERYBODY = "*"
NOBODY = ""
ForeignKey: TypeAlias = "models.ForeignKey[Any, Any]"
_KEYS = {
    "uuid": ("00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"),
    "bigint": (str(-(2**63)), str(2**63 - 1)),
    "integer": (str(-(2**31)), str(2**31 - 1)),
    "smallint": (str(-(2**15)), str(2**15 - 1)),
}
_chosen: ContextVar[str | None] = ContextVar("rows_of", default=None)
_outside_requests = EVERYBODY
_protected: dict[type[models.Model], list[ForeignKey]] = {}


class NotProtectable(ValueError):
    """A model cannot be protected in this way; the message says why."""


def protect(model: type[models.Model], owner: str = "owner") -> None:
    """Keep the rows of `model` to their owners, from the next `migrate` on with ``ROW_SECURITY=on``.

    `owner` is the name of its foreign key to the user, or a path over foreign keys like ``machine__owner``. The tables
    that Django makes for its many-to-many fields are kept with it. Raises NotProtectable for a model without a table of
    ours, and for a path that leads elsewhere, may end on its way, or leads over keys of text.
    """
    if model._meta.proxy or model._meta.abstract or not model._meta.managed:
        raise NotProtectable(f"{model._meta.label} has no table of its own: protect the model that has.")
    _protected[model] = _path(model, owner)
    for field in model._meta.local_many_to_many:
        through: Any = field.remote_field.through
        if through._meta.auto_created:
            _protected[through] = _path(through, f"{field.m2m_field_name()}__{owner}")
    if settings.ROW_SECURITY:
        channel.bring_along(SETTING, _told_to)


def protected() -> dict[type[models.Model], list[ForeignKey]]:
    """Return the path from each protected model to its owner; none while the mode is off."""
    return dict(_protected) if settings.ROW_SECURITY else {}


def _path(model: type[models.Model], owner: str) -> list[ForeignKey]:
    path, place = [], model
    for name in owner.split("__"):
        try:
            field = place._meta.get_field(name)
        except FieldDoesNotExist:
            field = None
        if not isinstance(field, models.ForeignKey) or field not in place._meta.local_fields:
            raise NotProtectable(f"{place._meta.label} has no foreign key of its own called {name}.")
        if kind_of(field) not in _KEYS:
            raise NotProtectable(f"{place._meta.label}.{name} is neither a number nor a UUID.")
        if field.null:
            raise NotProtectable(f"{place._meta.label}.{name} may be empty: such a row would be nobody's.")
        path.append(field)
        place = field.remote_field.model
    if place is not get_user_model():
        raise NotProtectable(f"{owner} of {model._meta.label} leads to {place._meta.label} and to no user.")
    return path


def kind_of(field: ForeignKey) -> str:
    """The type of the column in PostgreSQL."""
    return str(field.db_type(connections[DEFAULT_DB_ALIAS]))


def keys_of(field: ForeignKey) -> tuple[str, str]:
    """The first and the last key that the column can hold."""
    return _KEYS[kind_of(field)]


@contextmanager
def only(user: Any) -> Iterator[None]:
    """Read and write the rows of `user` only in the block; of a stranger there are none."""
    with _choose(str(user.pk) if user.is_authenticated else NOBODY):
        yield


@contextmanager
def everybody() -> Iterator[None]:
    """Read and write all rows in the block."""
    with _choose(EVERYBODY):
        yield


@contextmanager
def _choose(person: str) -> Iterator[None]:
    token = _chosen.set(person)
    try:
        yield
    finally:
        _chosen.reset(token)


def show_everybody(request: HttpRequest) -> None:
    """Let `request` see all rows from here on: its page has rules of its own."""
    request.sees_everybody = True  # type: ignore[attr-defined]


def serve_requests_only() -> None:
    """Let this process see nobody's rows outside a request: what a page has left running must not see everybody's."""
    global _outside_requests  # noqa: PLW0603 - a process serves pages or it does not
    _outside_requests = NOBODY


def rows_of() -> str:
    """Whose rows are read and written at this moment, in the words of `SETTING`."""
    chosen, request = _chosen.get(), context.current().request
    if chosen is not None:
        return chosen
    if request is None:
        return _outside_requests
    if getattr(request, "sees_everybody", False):
        return EVERYBODY
    return context.visitor_of(request).id or NOBODY


def _told_to(connection: BaseDatabaseWrapper) -> str | None:
    """The owner of the tables is above the policies, and some of what it does cannot have a statement in front."""
    return None if is_owner(connection) else rows_of()


def is_owner(connection: BaseDatabaseWrapper) -> bool:
    """Whether the tables belong to the role of `connection`."""
    return bool(connection.settings_dict["USER"] == connections.settings[OWNER_ALIAS]["USER"])
