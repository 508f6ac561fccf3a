"""What happened to an account and what its owner did, in plain sentences, out of the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.utils.text import capfirst
from django.utils.translation import gettext as _

from accounts.models import User
from auditlog import filters, reading
from auditlog.describing import Described, Difference, describe
from auditlog.models import Record


@dataclass(frozen=True)
class Entry:
    """One line of the page. `by` is empty when the person did it."""

    at: datetime
    title: str
    details: list[str]
    by: str
    address: str
    browser: str


def page_of(user: User, asked: Mapping[str, str]) -> tuple[reading.Page, list[Entry]]:
    """Return the page of `user`'s own activity that the query string asks for, the newest first."""
    page = reading.page_at(filters.of_user(str(user.pk)), asked)
    return page, [_entry(described, user) for described in describe(page.records)]


def _entry(described: Described, user: User) -> Entry:
    record = described.record
    is_own = record.resource == User._meta.label_lower and record.object_id == str(user.pk)
    # Where somebody else was is theirs; where a stranger was who did something to the account is not.
    tells_where = record.actor_id == str(user.pk) or record.actor_kind == Record.ActorKind.ANONYMOUS
    return Entry(
        at=record.at,
        title=_title(described, is_own=is_own),
        details=_details(described, is_own=is_own) if _is_change(record) else [],
        by=_by(record, user),
        address=(record.address or "") if tells_where else "",
        browser=described.browser if tells_where else "",
    )


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
        return _("Your account was changed") if _is_change(record) else action
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
