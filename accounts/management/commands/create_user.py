"""``manage.py create_user``: add a person whose address is verified at once."""

from __future__ import annotations

import getpass
import json
import os
import sys
from functools import partial
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connections

from accounts import identity, links, services
from accounts.errors import AccountError
from accounts.models import User
from config.database import retry

PASSWORD_VARIABLE = "GATEHOUSE_PASSWORD"  # noqa: S105 - the name of a variable


class Command(BaseCommand):
    help = (
        "Add a user with a verified address, read the row back over a second connection, and print it. "
        f"The password comes from a prompt, standard input or {PASSWORD_VARIABLE}; without one, a one-use "
        "link to choose it is printed."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("email")
        parser.add_argument("--full-name", default="")
        parser.add_argument("--staff", action="store_true", help="may enter the admin")
        parser.add_argument("--superuser", action="store_true", help="may do everything; implies --staff")
        password = parser.add_mutually_exclusive_group()
        password.add_argument("--password-prompt", action="store_true", help="ask for the password")
        password.add_argument("--password-stdin", action="store_true", help="read it from standard input")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        if not identity.is_storable(options["full_name"]):
            raise CommandError("The full name holds characters that cannot be stored. Nothing was changed.")
        user = User(
            username=options["username"],
            email=options["email"],
            full_name=options["full_name"],
            is_staff=options["staff"] or options["superuser"],
            is_superuser=options["superuser"],
        )
        try:
            if password := self._password(options):
                services.choose_password(user, password)
            add = partial(services.add_user, user, acting_user=None)
            retry.run(add, idempotent=True, patience=retry.BACKGROUND)
        except ValidationError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"error": "invalid", "messages": error.messages}, indent=2))
                raise SystemExit(1) from error
            raise CommandError(" ".join(error.messages)) from error
        except AccountError as refusal:
            self._print_existing(user, refusal, options["json"])
        self._print_created(user, options["json"])

    def _password(self, options: dict[str, Any]) -> str | None:
        if options["password_prompt"]:
            password = getpass.getpass("Password: ")
            if getpass.getpass("Password again: ") != password:
                raise CommandError("The two passwords differ. Nothing was changed.")
        elif options["password_stdin"]:
            password = sys.stdin.readline().rstrip("\r\n")
        else:
            return os.environ.get(PASSWORD_VARIABLE)
        if not password:
            raise CommandError("The password is empty. Nothing was changed.")
        return password

    def _print_existing(self, user: User, refusal: AccountError, as_json: bool) -> None:
        twin = services.find_twin(user, refusal)
        about = {"id": str(twin.pk), "created": twin.created_at.isoformat()} if twin else {}
        if as_json:
            self.stdout.write(json.dumps({"error": refusal.code, **about}, indent=2))
            raise SystemExit(1)
        existing = f" Existing user: id={about['id']} created={about['created']}" if twin else ""
        raise CommandError(f"{refusal.message}{existing}")

    def _print_created(self, user: User, as_json: bool) -> None:
        facts = _read_back(user)
        if not user.has_usable_password():
            facts["set_password_link"] = links.set_password_url(user)
        if as_json:
            self.stdout.write(json.dumps(facts, indent=2))
            return
        self.stdout.write("Created and read back:")
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            self.stdout.write(f"  {name.replace('_', ' '):<{width}}  {value}")


def _read_back(user: User) -> dict[str, Any]:
    """Read the row over a connection that did not write it: what it sees is committed."""
    second = connections.create_connection("default")
    try:
        with second.cursor() as cursor:
            cursor.execute(
                "SELECT id, username, email, created_at, email_verified_at IS NOT NULL, is_staff,"
                " is_superuser FROM accounts_user WHERE id = %s",
                [user.pk],
            )
            row = cursor.fetchone()
    finally:
        second.close()
    if row is None:
        raise CommandError("The row was written but cannot be read back. Please look at the database.")
    names = ("id", "username", "email", "created", "verified", "staff", "superuser")
    return {**dict(zip(names, row, strict=True)), "id": str(row[0]), "created": row[3].isoformat()}
