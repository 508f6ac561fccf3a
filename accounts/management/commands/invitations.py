"""``manage.py invitations``: list them, send them again, revoke them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q

from accounts import identity, invitations, roles
from accounts.errors import AccountError
from accounts.models import Invitation
from config.database import retry

LONGEST_CELL = 64  # characters
State, Delivery = Invitation.State, Invitation.Delivery


class Command(BaseCommand):
    help = "Look after invitations. Links are never shown here; `manage.py invite` prints new ones."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True)
        listing = actions.add_parser("list", help="newest first")
        listing.add_argument("--state", choices=State.values, help="only these")
        listing.add_argument("--not-delivered", action="store_true", help="only those whose mail did not go out")
        listing.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many (100)")
        for name, about in (("resend", "send the same link again"), ("replace", "end the old link and send a new one")):
            action = actions.add_parser(name, help=f"{about}; opens an expired one for its full time")
            action.add_argument("invitation", nargs="*", help="its id, or the address it is for")
            action.add_argument("--not-delivered", action="store_true", help="all whose mail did not go out")
        revoking = actions.add_parser("revoke", help="end an invitation")
        revoking.add_argument("invitation", nargs="+", help="its id, or the address it is for")
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        if action == "list":
            self._list(**options)
        else:
            self._act(getattr(invitations, action), **options)

    def _list(self, *, state: str | None, not_delivered: bool, limit: int, as_json: bool, **options: Any) -> None:
        if limit < 1:
            raise CommandError("--limit must be 1 or more.")
        found = Invitation.objects.prefetch_related("roles").order_by("-id")
        if state:
            found = Invitation.objects.in_state(state).prefetch_related("roles").order_by("-id")
        if not_delivered:
            found = found.filter(delivery=Delivery.FAILED)
        rows = [_facts(invitation) for invitation in found[: limit + 1]]
        self._print(rows[:limit], as_json)
        if len(rows) > limit:
            self.stderr.write(f"There are more than these {limit}; --limit shows more.")

    def _act(
        self,
        act: Callable[..., Invitation],
        *,
        invitation: list[str],
        as_json: bool,
        not_delivered: bool = False,
        **_: Any,
    ) -> None:
        wanted = [_find(text) for text in invitation]
        if not_delivered:
            wanted += Invitation.objects.filter(delivery=Delivery.FAILED, revoked_at=None, lapsed_at=None)
        if not wanted and not not_delivered:
            raise CommandError("Name an invitation by its id or address, or use --not-delivered.")
        verdicts = [_verdict(act, one) for one in wanted]
        self._print(verdicts, as_json)
        if any(verdict["result"] != "done" for verdict in verdicts):
            raise SystemExit(1)

    def _print(self, rows: list[dict[str, Any]], as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(rows, indent=2, default=str))
            return
        self.stdout.writelines(_table(rows))


def _find(text: str) -> Invitation:
    """Return the invitation with this id, or the newest for this address. Raises CommandError."""
    try:
        meant = Q(pk=UUID(text))
    except ValueError:
        meant = Q(email_canonical=identity.canonical_email(text)) & ~Q(email_canonical="")
    found = Invitation.objects.filter(meant).order_by("-id").first() if identity.is_storable(text) else None
    if found is None:
        raise CommandError(f"There is no invitation {text!r}. Nothing was changed.")
    return found


def _verdict(act: Callable[..., Invitation], invitation: Invitation) -> dict[str, Any]:
    try:
        # Not twice: having been revoked or sent a moment ago would refuse the repetition.
        retry.run(partial(act, invitation.pk, acting_user=None), idempotent=False, patience=retry.BACKGROUND)
    except AccountError as refusal:
        result = refusal.message
    else:
        result = "done"
    return {"id": str(invitation.pk), "for": str(invitation), "result": result}


def _facts(invitation: Invitation) -> dict[str, Any]:
    return {
        "id": str(invitation.pk),
        "for": str(invitation),
        "state": invitation.state,
        "uses": invitation.uses,
        "max_uses": invitation.max_uses,
        "delivery": invitation.delivery or "link",
        "roles": sorted(group.name for group in invitation.roles.all()) or [roles.MEMBER],
        "by": invitation.invited_by_name,
        "expires_at": invitation.expires_at.isoformat(timespec="seconds"),
        "note": invitation.note,
    }


def _table(rows: list[dict[str, Any]]) -> Iterable[str]:
    """Return the lines of a table with a heading; one line that says so when there is nothing to show."""
    if not rows:
        return ["There are none.\n"]
    titles = {name: name.upper() for name in rows[0]}
    rows = [{name: _cell(value) for name, value in row.items()} for row in rows]
    width = {name: max(len(str(row[name])) for row in [titles, *rows]) for name in titles}
    return ["  ".join(f"{row[name]:<{width[name]}}" for name in titles).rstrip() + "\n" for row in [titles, *rows]]


def _cell(value: object) -> str:
    text = ", ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST_CELL else f"{text[: LONGEST_CELL - 1]}…"
