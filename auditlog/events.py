"""Records of what is no change of a row."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Collection, Mapping
from typing import Any

import structlog
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections, models, transaction

from auditlog import context, registry

MASK = "********"
LONGEST_TEXT = 1000
MOST_ERRORS = 30
log = structlog.get_logger("auditlog")


def record(
    action: str,
    resource: models.Model | str,
    *,
    label: str = "",
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
    personal: Mapping[str, Any] | None = None,
    reason: str = "",
    clear: Collection[str] = (),
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Record that `action` happened to `resource`, an object or a name of one's own, in the current transaction.

    Raises ProgrammingError for the name of a change of rows (`Record.Action`), which triggers alone record.
    Values are what JSON can hold, dates and decimals; those that bear the name of a secret are masked, unless `clear`
    says that it is none. `personal` is what can be erased when the person asks for it, as ``new``.
    """
    kind, object_id, name = _about(resource)
    values = [_json(each, clear) for each in (old, new, {"new": personal} if personal else None)]
    with context.acting_as(reason=reason), connections[using].cursor() as cursor:
        cursor.execute(
            "SELECT auditlog_record_event(%s, %s, %s, %s, %s, %s, %s)",
            [action, kind, object_id, (label or name)[: context.LONGEST_LABEL] or None, *values],
        )


def _about(resource: models.Model | str) -> tuple[str, str | None, str]:
    if isinstance(resource, str):
        return resource, None, ""
    audited = registry.of_model(resource._meta.model)  # its type may be that of a lazy `request.user`
    names = [str(getattr(resource, name)) for name in audited.label] if audited else []
    return resource._meta.label_lower, str(resource.pk), " ".join(names) or str(resource)


def _json(values: Mapping[str, Any] | None, clear: Collection[str]) -> str | None:
    return None if values is None else json.dumps(masked(values, clear=clear), cls=DjangoJSONEncoder)


def masked(value: Any, name: str = "", clear: Collection[str] = ()) -> Any:
    """Return `value` for a record: what bears the name of a secret is masked, long texts are cut."""
    if value is not None and name not in clear and registry.looks_secret(name):
        return MASK
    if isinstance(value, Mapping):
        return {str(key): masked(item, str(key), clear) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(item, clear=clear) for item in value]
    return value.replace("\0", "")[:LONGEST_TEXT] if isinstance(value, str) else value


class _Allowance:
    """So many a minute, in this process."""

    def __init__(self, most: int) -> None:
        self.most, self.minute, self.used = most, float("-inf"), 0

    def take(self) -> bool:
        now = time.monotonic()
        if now - self.minute >= 60:
            self.minute, self.used = now, 0
        self.used += 1  # two threads may count as one here, which does no harm
        return self.used <= self.most


_errors = _Allowance(MOST_ERRORS)


def record_error(request: Any) -> None:
    """Record that a request met an error which nobody had foreseen, and what kind. Never makes it worse.

    At most `MOST_ERRORS` a minute and process: whoever can provoke one must not be able to fill the trail. Each is
    in the log anyway.
    """
    error = sys.exc_info()[1]
    if error is None or isinstance(error, DatabaseError | InterfaceError):
        return  # the database that would hold the record is what failed
    try:
        if _errors.take():
            route = getattr(getattr(request, "resolver_match", None), "route", "")
            with transaction.atomic():
                record("error", "request", label=route, new={"error": type(error).__qualname__})
    except Exception:  # the answer to this request is being made: whatever happens here must not stop it
        log.warning("audit.error_not_recorded", exc_info=True)
