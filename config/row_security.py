"""Row-level security: PostgreSQL itself keeps a person's rows from another's, also for hand-written SQL.

An app says in `AppConfig.ready` who owns the rows of a table. With ``ROW_SECURITY=on`` each page then reads and writes
the rows of whoever is signed in; the admin, and what is no page, those of everybody. ``docs/extending.md`` ("Rows of
one person") says what it does not do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import FieldDoesNotExist
from django.db import models

EVERYBODY = "*"
NOBODY = ""
_chosen: ContextVar[str | None] = ContextVar("rows_of", default=None)
_protected: dict[type[models.Model], list[models.ForeignKey[Any, Any]]] = {}


class NotProtectable(ValueError):
    """A model cannot be protected in this way; the message says why."""


def protect(model: type[models.Model], owner: str = "owner") -> None:
    """Keep the rows of `model` to their owners, from the next `migrate` on with ``ROW_SECURITY=on``.

    `owner` is the name of its foreign key to the user, or a path over foreign keys like ``machine__owner``. The tables
    that Django makes for its many-to-many fields are kept with it. Raises NotProtectable for a model without a table of
    ours, and for a path that leads elsewhere or may end on its way.
    """
    if model._meta.proxy or model._meta.abstract or not model._meta.managed:
        raise NotProtectable(f"{model._meta.label} has no table of its own: protect the model that has.")
    path = _path(model, owner)
    _protected[model] = path
    for field in model._meta.local_many_to_many:
        through: Any = field.remote_field.through
        if through._meta.auto_created:
            _protected[through] = [through._meta.get_field(field.m2m_field_name()), *path]


def _path(model: type[models.Model], owner: str) -> list[models.ForeignKey[Any, Any]]:
    path, place = [], model
    for name in owner.split("__"):
        try:
            field = place._meta.get_field(name)
        except FieldDoesNotExist:
            field = None
        if not isinstance(field, models.ForeignKey) or field not in place._meta.local_fields:
            raise NotProtectable(f"{place._meta.label} has no foreign key of its own called {name}.")
        if field.null:
            raise NotProtectable(f"{place._meta.label}.{name} may be empty: such a row would be nobody's.")
        path.append(field)
        place = field.remote_field.model
    if place is not get_user_model():
        raise NotProtectable(f"{owner} of {model._meta.label} leads to {place._meta.label} and to no user.")
    return path


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
