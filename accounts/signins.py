"""Who signed in to an account, tried to, or was locked out of it, out of the audit trail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts import lockout, user_agents
from accounts.models import User
from accounts.second_factor import proving
from auditlog import describing, reading
from auditlog.models import Record

# action -> (words, the style sheet's class of its mark)
_OUTCOMES: dict[str, tuple[str | Promise, str]] = {
    "login": (_("Signed in"), "open"),
    "second_factor_asked": (_("Right password, asked for the second factor"), "expired"),
    "login_failed": (_("Wrong password"), "expired"),
    "locked_out": (_("Locked for a while"), "failed"),
}
# why one failed -> words
_FAILURES: dict[str, str | Promise] = {
    proving.WRONG: _("Wrong second factor"),
    lockout.ASKED_AGAIN: _("Wrong password when asked again"),
    lockout.NOT_CONFIRMED: _("Right password, but the address was not confirmed yet"),
    lockout.NOT_OPEN: _("Right password, but the account was shut"),
    lockout.NOT_STAFF: _("Right password, but the console is for staff only"),
}


@dataclass(frozen=True)
class SignIn:
    """One line of the page. `device` is a guess out of `agent`, which is what the browser called itself."""

    at: datetime
    outcome: str | Promise
    tone: str
    address: str
    device: str
    agent: str
    is_known: bool


def page_of(user: User, asked: Mapping[str, str]) -> tuple[reading.Page, list[SignIn]]:
    """Return the page of `user`'s own sign-ins that the query string asks for, the newest first."""
    about = reading.of_object(User._meta.label_lower, str(user.pk)).where
    page = reading.page_at(reading.Query(about & Q(action__in=list(_OUTCOMES))), asked)
    named = describing.browsers(page.records)
    lines = []
    for record in page.records:
        outcome, tone = _outcome(record)
        agent = describing.visible(named.get(record.agent or 0, ""), user_agents.LONGEST_AGENT)
        lines.append(
            SignIn(
                record.at,
                outcome,
                tone,
                record.address or "",
                user_agents.readable(agent),
                agent,
                user_agents.is_known(agent),
            )
        )
    return page, lines


def _outcome(record: Record) -> tuple[str | Promise, str]:
    words, tone = _OUTCOMES[record.action]
    return why_failed(record) or words, tone


def why_failed(record: Record) -> str | Promise:
    """Say what a failed try was, unless it was a wrong password at a door."""
    return _FAILURES.get(record.reason or "", "") if record.action == "login_failed" else ""
