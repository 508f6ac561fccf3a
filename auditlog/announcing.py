"""Sends `signals.writing` and `written` around the writes that Django does not announce, `failed` for a failed save.

Django has signals for deletions and many-to-many changes, but a receiver makes it read every row first, one round
trip more; `update()` and `bulk_create()` have none; `pre_save` is followed by nothing when the save fails. So the five
methods that all of them pass are wrapped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.db.models import Model, QuerySet
from django.db.models.deletion import Collector

from auditlog.signals import failed, writing, written

_STARTED = "announced_by_auditlog"


def start() -> None:
    """Wrap the methods, once."""
    for owner, name, announce in (
        (QuerySet, "update", _of_queryset),
        (QuerySet, "bulk_create", _of_queryset),
        (QuerySet, "bulk_update", _of_queryset),
        (Collector, "delete", _of_collector),
        (Model, "save_base", _of_save),
    ):
        method = getattr(owner, name)
        if not hasattr(method, _STARTED):
            setattr(owner, name, announce(method))


def _of_queryset(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def announced(self: Any, *args: Any, **kwargs: Any) -> Any:
        self._for_write = True  # as the method itself is about to say: the alias that it will write to
        return _announced(self.model, self.db, "bulk", method, self, *args, **kwargs)

    setattr(announced, _STARTED, True)
    return announced


def _of_collector(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def announced(self: Collector, *args: Any, **kwargs: Any) -> Any:
        origin: Any = self.origin
        model = origin.model if isinstance(origin, QuerySet) else type(origin)
        return _announced(model, self.using, "delete", method, self, *args, **kwargs)

    setattr(announced, _STARTED, True)
    return announced


def _of_save(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def announced(self: Model, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except BaseException:
            failed.send(type(self), instance=self)
            raise

    setattr(announced, _STARTED, True)
    return announced


def _announced(sender: Any, using: str, origin: str, method: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    writing.send(sender, using=using, origin=origin)
    try:
        return method(*args, **kwargs)
    finally:
        written.send(sender, using=using, origin=origin)
