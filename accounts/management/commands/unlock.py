"""``manage.py unlock``: let locked-out people try again."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import lockout, services
from accounts.models import User
from config.client_address import network_of
from config.database import retry


class Command(BaseCommand):
    help = "Forget login attempts, so that whoever they locked out can try again, and print how many there were."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("names", nargs="*", metavar="NAME_OR_EMAIL", help="whose account was tried")
        parser.add_argument("--network", metavar="ADDRESS", help="an address from which accounts were tried")
        parser.add_argument("--all", action="store_true", dest="everything", help="forget all of them")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, names: list[str], network: str | None, everything: bool, **options: Any) -> None:
        if [bool(names), network is not None, everything].count(True) != 1:
            raise CommandError("Say whom to unlock: one or more names, or --network ADDRESS, or --all.")
        if names:
            accounts = {name: lockout.account_of(name) for name in names}
            forgotten = {name: _unlock(account=each) for name, each in accounts.items()}
        elif network is not None:
            forgotten = {network: _unlock(network=_network(network))}
        else:
            forgotten = {"all": _unlock()}
        unknown = [name for name in names if not forgotten[name] and User.objects.by_login_name(name) is None]
        self._print(forgotten, unknown, as_json=options["json"])

    def _print(self, forgotten: dict[str, int], unknown: list[str], *, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"forgotten": forgotten, "unknown": unknown}, indent=2))
        else:
            for whose, count in forgotten.items():
                if whose not in unknown:
                    self.stdout.write(f"{whose}: {count} {'attempt' if count == 1 else 'attempts'} forgotten")
            for name in unknown:
                self.stderr.write(f"{name}: there is no such account, and nobody tried that name lately")
        if unknown:
            raise SystemExit(1)


def _unlock(**whose: str) -> int:
    unlock = partial(services.unlock, **whose, acting_user=None)
    return retry.run(unlock, idempotent=False, patience=retry.BACKGROUND)  # twice would count nothing


def _network(address: str) -> str:
    try:
        return network_of(address)
    except ValueError as error:
        raise CommandError(f"{address}: this is no network address, like 192.0.2.7 or 2001:db8::1.") from error
