"""A record for a terminal, and for programs."""

from __future__ import annotations

from typing import Any

from auditlog.describing import visible
from auditlog.exporting import exact_json
from auditlog.models import Record

LONGEST_VALUE = 60  # characters of a value on a terminal


def as_facts(record: Record) -> dict[str, Any]:
    """Return all that is in a record, for JSON; personal values stand among the others."""
    return {
        "id": record.id,
        "at": record.at.isoformat(),
        "action": record.action,
        "resource": record.resource,
        "object_id": record.object_id,
        "object": record.object_label,
        "old": record.before,
        "new": record.after,
        "actor_kind": record.actor_kind,
        "actor_id": record.actor_id,
        "actor": record.actor_label,
        "on_behalf_of_id": record.on_behalf_id,
        "on_behalf_of": record.on_behalf_label,
        "reason": record.reason,
        "origin": record.origin,
        "address": record.address,
        "request_id": record.request.hex if record.request else None,
        "transaction": record.transaction,
        "epoch": record.epoch,
    }


def as_line(record: Record) -> str:
    """Return a record on one line for a person: when, what, by whom, the change, why."""
    what = f"{record.action:<8} {record.resource} {_name(record.object_label, record.object_id)}"
    who = _name(record.actor_label, record.actor_id) or record.actor_kind
    if record.actor_kind not in (Record.ActorKind.USER, who):
        who = f"{who} ({record.actor_kind})"
    if record.on_behalf_id:
        who += f" for {_name(record.on_behalf_label, record.on_behalf_id)}"
    parts = [f"{record.at:%Y-%m-%d %H:%M:%S}", what.rstrip(), f"by {who}", _change(record)]
    if record.reason:
        parts.append(f"[{visible(record.reason, LONGEST_VALUE)}]")
    return "  ".join(part for part in parts if part)


def _name(label: str | None, identity: str | None) -> str:
    return visible(label or identity or "", LONGEST_VALUE)


def _change(record: Record) -> str:
    old, new = record.before, record.after
    changes = []
    for name in {**old, **new}:
        values = [_value(side[name]) for side in (old, new) if name in side]
        changes.append(f"{visible(name, LONGEST_VALUE)}: {' → '.join(values)}")
    return ", ".join(changes)


def _value(value: Any) -> str:
    if isinstance(value, dict) and value.keys() == {"masked"}:
        return "(masked)"
    if isinstance(value, dict) and value.keys() == {"beginning", "length", "sha256"}:
        value = value["beginning"]
    return visible(value if isinstance(value, str) else exact_json(value), LONGEST_VALUE)
