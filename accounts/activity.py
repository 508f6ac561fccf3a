"""What happened to an account and what its owner did, in plain sentences, out of the audit trail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.text import capfirst
from django.utils.translation import gettext as _

from accounts import signins, user_agents
from accounts.models import User
from auditlog import filters, reading
from auditlog.describing import Described, Difference, browsers, describe, is_stand_in
from auditlog.models import Record

BATCH = 1000  # records read at once for a copy


@dataclass(frozen=True)
class Entry:
    """One line of the page. `by` is empty when the person did it; `agent` is all that `browser` said of itself."""

    at: datetime
    title: str
    details: list[str]
    by: str
    address: str
    browser: str
    agent: str


def page_of(user: User, asked: Mapping[str, str]) -> tuple[reading.Page, list[Entry]]:
    """Return the page of `user`'s own activity that the query string asks for, the newest first."""
    page = reading.page_at(filters.of_user(str(user.pk)), asked)
    return page, [_entry(described, user) for described in describe(page.records)]


def _entry(described: Described, user: User) -> Entry:
    record = described.record
    is_own, tells_where = _is_own(record, user), _tells_where(record, user)
    agent = described.browser if tells_where else ""
    return Entry(
        at=record.at,
        title=_title(described, is_own=is_own),
        details=_details(described, is_own=is_own) if _is_change(record) else [],
        by=_by(record, user),
        address=(record.address or "") if tells_where else "",
        browser=user_agents.readable(agent) if agent else "",
        agent=agent,
    )


def _is_own(record: Record, user: User) -> bool:
    return record.resource == User._meta.label_lower and record.object_id == str(user.pk)


def _tells_where(record: Record, user: User) -> bool:
    """Where somebody else was is theirs; where a stranger was who did something to the account is not."""
    return record.actor_id == str(user.pk) or record.actor_kind == Record.ActorKind.ANONYMOUS


def _details(described: Described, *, is_own: bool) -> list[str]:
    """What changed; of other people's data only which fields, for who saw it then may not see it any more."""
    if not is_own:
        return [capfirst(described.changed)]
    return [_sentence(line) for line in described.differences if not line.quiet]


def _is_change(record: Record) -> bool:
    return record.action in (Record.Action.UPDATE, Record.Action.ADD, Record.Action.REMOVE)


def _title(described: Described, *, is_own: bool) -> str:
    action, record = capfirst(described.action), described.record
    if is_own:
        if record.action == Record.Action.CREATE:
            return _("Account created")
        if _is_change(record):
            return _("Your account was changed")
        return str(signins.why_failed(record)) or action
    if record.object_id is None:
        return action
    about = {"action": action, "resource": described.resource, "object": described.object}
    return _("%(action)s: %(resource)s “%(object)s”") % about


def _sentence(line: Difference) -> str:
    about = {"field": capfirst(line.label), "old": line.old, "new": line.new}
    if (line.old and line.old.is_hidden) or (line.new and line.new.is_hidden):
        return _("%(field)s changed") % about
    if line.old and line.old.text and line.new and line.new.text:
        return _("%(field)s changed from “%(old)s” to “%(new)s”") % about
    if line.new and line.new.text:
        return _("%(field)s: “%(new)s” added") % about
    if line.old and line.old.text:
        return _("%(field)s: “%(old)s” removed") % about
    return _("%(field)s changed") % about


def _by(record: Record, user: User) -> str:
    """Who did it when it was not `user`. Not by name: a name to sign in with is not for everybody to know."""
    if record.actor_id == str(user.pk) or record.action == Record.Action.CREATE:
        return ""
    if record.actor_kind == Record.ActorKind.USER:
        return _("by a member of staff")
    if record.actor_kind == Record.ActorKind.ANONYMOUS:
        return _("by somebody who was not signed in")
    return _("by those who run this site")


# As plain values, for a copy of one's own data


def facts_of(user: User) -> Iterator[dict[str, Any]]:
    """All that the page would show, the newest first, as what JSON can hold; read a batch at a time."""
    for records in reading.batches(filters.of_user(str(user.pk)), BATCH):
        named = browsers(records)
        for record in records:
            yield {name: value for name, value in _facts(record, user, named).items() if value}


def _facts(record: Record, user: User, named: Mapping[int, str]) -> dict[str, Any]:
    is_own, tells_where = _is_own(record, user), _tells_where(record, user)
    is_row = record.action in Record.Action
    return {
        "at": record.at,
        "action": record.action,
        "about": record.resource,
        "id": record.object_id,
        "name": record.object_label,
        "old": _shown(record.before) if is_own and is_row else None,
        "new": _shown(record.after) if is_own and is_row else None,
        "changed": None if is_own or not _is_change(record) else sorted({*record.before, *record.after}),
        "by": "you" if record.actor_id == str(user.pk) else record.actor_kind,
        "address": record.address if tells_where else None,
        "browser": named.get(record.agent or 0) if tells_where else None,
    }


def _shown(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without the fingerprints that stand in place of secrets."""
    return {name: "(not shown)" if is_stand_in(value) else value for name, value in values.items()}
