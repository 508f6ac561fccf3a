"""One structured log line for each record: what happened, to what, by whom. Values only where they are declared."""

from __future__ import annotations

from typing import Any

import structlog

from auditlog import registry
from auditlog.models import Record

_HAPPENED = {
    Record.Action.CREATE: "created",
    Record.Action.UPDATE: "changed",
    Record.Action.DELETE: "deleted",
    Record.Action.ADD: "added",
    Record.Action.REMOVE: "removed",
    Record.Action.TRUNCATE: "emptied",
}
_told_elsewhere: set[str] = set()
log = structlog.get_logger("auditlog")


def leave_out(*actions: str) -> None:
    """Write no line for the events called `actions`: somebody else does, at once."""
    _told_elsewhere.update(actions)


def write(record: Record) -> None:
    """Write the line of `record`, unless somebody else does."""
    if record.action not in _told_elsewhere:
        event, facts = line_of(record)
        log.info(event, **facts)


def line_of(record: Record) -> tuple[str, dict[str, Any]]:
    """Return the line's event, like ``user.created``, and its facts.

    An event's facts are what it was recorded with. A change's are the names of what changed and what the registry's
    `line` declares for the model; when that names the thing whole, as for a new user, it stands alone.
    """
    kind = record.resource.rpartition(".")[2]
    happened = _HAPPENED.get(record.action, record.action)  # type: ignore[call-overload]
    facts = {"id": record.object_id, **_facts(record), "by": _by(record)}
    facts |= {
        "on_behalf_of": record.on_behalf_id,
        "reason": record.reason,
        "request_id": record.request.hex if record.request else None,
        "record": record.id,
    }
    return f"{kind}.{happened}", {name: value for name, value in facts.items() if value is not None}


def _facts(record: Record) -> dict[str, Any]:
    if record.origin == Record.Origin.EVENT:
        # What a line calls its event is taken.
        return {"event_" if name == "event" else name: value for name, value in (record.new or {}).items()}
    audited = registry.of_resource(record.resource)
    declared = audited.line(record) if audited and audited.line else {}
    quiet = audited.quiet if audited else frozenset()
    return dict(declared) or {"fields": sorted({*record.before, *record.after} - quiet)}


def _by(record: Record) -> str:
    """The id of the user, or what else acted."""
    if record.actor_kind == Record.ActorKind.USER:
        return record.actor_id or ""
    return f"{record.actor_kind} {record.actor_id or ''}".rstrip()
