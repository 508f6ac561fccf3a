"""``manage.py invite``: invite addresses by mail, or print links to hand over."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

import auditlog
from accounts import identity, invitations, links, rules
from accounts.errors import AccountError, words_of
from accounts.models import Invitation, User
from config.database import retry


class Command(BaseCommand):
    help = (
        "Invite the given addresses by mail, all of them or none; without an address, print links that may be "
        "handed over. Nobody can guess a link: print it where only its receiver looks."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", nargs="*", help="send a mail to this e-mail address")
        parser.add_argument("--count", type=int, metavar="N", help="print so many links, one a line")
        parser.add_argument("--uses", type=int, metavar="N", help="print a link that may be used so often")
        parser.add_argument("--domain", default="", help="print a link for addresses at this domain only")
        parser.add_argument(
            "--days", type=int, default=settings.INVITATION_DAYS, metavar="N", help="days until it expires"
        )
        parser.add_argument("--role", action="append", default=[], metavar="NAME", help="may be given several times")
        parser.add_argument("--note", default="", help="shown in the mail and on the page")
        parser.add_argument("--by", metavar="USERNAME", help="invite in this user's name, rights and quota")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._invite(**options)
        except ValidationError as error:
            self._refuse("invalid", _lines(error), options["json"])
        except AccountError as refusal:
            self._refuse(refusal.code, [refusal.message], options["json"])

    def _invite(self, *, address: list[str], count: int | None, uses: int | None, **options: Any) -> None:
        for_links = (count, uses, options["domain"]) != (None, None, "")
        if address and for_links:
            raise CommandError("--count, --uses and --domain are for links. An address is invited once, by mail.")
        if not address and not for_links:
            raise CommandError("Name an address to invite, or ask for links with --count, --uses or --domain.")
        if count is not None and count < 1:
            raise CommandError("--count must be 1 or more.")
        inviter = _inviter(options["by"])
        terms = invitations.Terms(
            domain=options["domain"],
            max_uses=1 if uses is None else uses,
            days=options["days"],
            roles=_roles(options["role"]),
            note=options["note"],
        )
        with auditlog.acting_as(on_behalf_of=inviter):
            self._make(address, count or 1, terms, inviter, as_json=options["json"])

    def _make(
        self, address: list[str], count: int, terms: invitations.Terms, inviter: User | None, *, as_json: bool
    ) -> None:
        if address:
            address = list({identity.canonical_email(email): email for email in address}.values())
            _refuse_bad_addresses(address, inviter)
            invite = partial(invitations.invite_addresses, address, terms, acting_user=inviter)
            self._print_sent(retry.run(invite, idempotent=True, patience=retry.BACKGROUND), as_json)
        else:
            make = partial(invitations.make_links, count, terms, acting_user=inviter)
            self._print_links(retry.run(make, idempotent=False, patience=retry.BACKGROUND), as_json)

    def _print_sent(self, made: list[Invitation], as_json: bool) -> None:
        if as_json:
            facts = [
                {
                    "id": str(one.pk),
                    "email": one.email,
                    "was_open": one.was_open,
                    "expires_at": one.expires_at.isoformat(),
                }
                for one in made
            ]
            self.stdout.write(json.dumps(facts, indent=2))
            return
        for one in made:
            done = "invited before: the same link again, with its old terms" if one.was_open else "on its way"
            self.stdout.write(f"{one.email}  {done}, open until {one.expires_at:%Y-%m-%d %H:%M} UTC")

    def _print_links(self, made: list[Invitation], as_json: bool) -> None:
        if as_json:
            facts = [
                {
                    "id": str(one.pk),
                    "link": links.invitation_url(one, mailed=False),
                    "max_uses": one.max_uses,
                    "expires_at": one.expires_at.isoformat(),
                }
                for one in made
            ]
            self.stdout.write(json.dumps(facts, indent=2))
            return
        for one in made:
            self.stdout.write(links.invitation_url(one, mailed=False))

    def _refuse(self, code: str, reasons: list[str], as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"error": code, "messages": reasons}, indent=2))
            raise SystemExit(1)
        raise CommandError("\n".join([*reasons, "Nobody was invited."]))


def _inviter(username: str | None) -> User | None:
    if username is None:
        return None
    inviter = User.objects.by_login_name(username)
    if inviter is None or not rules.may(inviter, "invite"):
        raise CommandError(f"There is no user {username!r} who may invite.")
    return inviter


def _roles(names: list[str]) -> list[Group]:
    known = {group.name.lower(): group for group in Group.objects.all()}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        offered = ", ".join(sorted(group.name for group in known.values()))
        raise CommandError(f"There is no role {unknown[0]!r}. There are: {offered}.")
    return [known[name.lower()] for name in names]


def _refuse_bad_addresses(addresses: list[str], inviter: User | None) -> None:
    """Raise ValidationError with a line for every address that cannot be invited."""
    refusals = invitations.address_refusals(addresses, acting_user=inviter)
    lines = [f"{email}: {words_of(refusal)}" for email, refusal in refusals.items()]
    if lines:
        raise ValidationError(lines)


def _lines(error: ValidationError) -> list[str]:
    """Return what is wrong, a line each, with the option that it is about."""
    options = {"max_uses": "--uses", "lifetime_days": "--days"}
    if not hasattr(error, "error_dict"):
        return list(error.messages)
    return [f"{options.get(field, f'--{field}')}: {' '.join(words)}" for field, words in error.message_dict.items()]
