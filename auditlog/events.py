"""Records of what is no change of a row."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import structlog
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections, models, transaction

from auditlog import context, registry

MASK = "********"
LONGEST_TEXT = 1000
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
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Record that `action` happened to `resource`, an object or a name of one's own, in the current transaction.

    Values are what JSON can hold, dates and decimals; those that bear the name of a secret are masked. `personal` is
    what can be erased when the person asks for it, as ``new``.
    """
    kind, object_id, name = _about(resource)
    values = [_json(old), _json(new), _json({"new": personal} if personal else None)]
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


def _json(values: Mapping[str, Any] | None) -> str | None:
    return None if values is None else json.dumps(masked(values), cls=DjangoJSONEncoder)


def masked(value: Any, name: str = "") -> Any:
    """Return `value` for a record: what bears the name of a secret is masked, long texts are cut."""
    if registry.looks_secret(name) and value is not None:
        return MASK
    if isinstance(value, Mapping):
        return {str(key): masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [masked(item) for item in value]
    return value.replace("\0", "")[:LONGEST_TEXT] if isinstance(value, str) else value


def record_error(request: Any) -> None:
    """Record that a request met an error which nobody had foreseen. Never makes it worse."""
    error = sys.exc_info()[1]
    if error is None or isinstance(error, DatabaseError | InterfaceError):
        return  # the database that would hold the record is what failed
    match = request.resolver_match
    try:
        with transaction.atomic():
            record("error", "request", label=match.route if match else "", new={"error": type(error).__qualname__})
    except (DatabaseError, InterfaceError):
        log.warning("audit.error_not_recorded", exc_info=True)
