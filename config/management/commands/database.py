"""``manage.py database``: look at, prepare, check and reset the database."""

from __future__ import annotations

import json
import os
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection, connections
from psycopg2 import errorcodes

from config.database import embedded, operations


class Command(BaseCommand):
    help = "Look at, prepare, check and reset the database."
    requires_system_checks: list[str] = []  # most of these are for when the database is not well

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for name, text in (
            ("status", "say which server this is, whether it runs, and what it holds"),
            ("stop", "stop the embedded server"),
            ("shell", "open psql (as the runtime role; --owner as the owner)"),
            ("init", "bring an empty or older database to this code's schema, with both roles"),
            ("verify", "compare the live schema with what the migrations make"),
            ("reset", "delete everything in the database and make it anew"),
            ("upgrade", "apply the migrations that are missing, and report each step"),
        ):
            action = actions.add_parser(name, help=text, description=text)
            if name in ("status", "verify", "upgrade"):
                action.add_argument("--json", action="store_true", help="for programs")
            if name == "shell":
                action.add_argument("--owner", action="store_true", help="with the rights of the owner role")
            if name == "reset":
                action.add_argument("--yes", action="store_true", help="do not ask")
                action.add_argument("--force", action="store_true", help="also on a server that is not embedded")

    def handle(self, *args: Any, action: str, **options: Any) -> None:
        getattr(self, f"_{action}")(**options)

    def _print(self, facts: dict[str, Any], as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps(facts, indent=2, default=str))
            return
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            self.stdout.write(f"{name.replace('_', ' '):<{width}}  {value}")

    def _status(self, **options: Any) -> None:
        facts = operations.status()
        self._print(facts, options["json"])
        if not facts["running"]:
            raise SystemExit(1)

    def _stop(self, **options: Any) -> None:
        self._require_embedded("stop")
        embedded.cluster().stop()
        self.stdout.write("The embedded PostgreSQL is stopped.")

    def _shell(self, *, owner: bool, **options: Any) -> None:
        alias = "direct" if owner else "default"
        if embedded.is_embedded():
            embedded.ensure_running(None)
            connections[alias].settings_dict["HOST"] = embedded.socket_directory()
            os.environ["PATH"] = f"{embedded.cluster().binaries}{os.pathsep}{os.environ['PATH']}"
        call_command("dbshell", database=alias)

    def _init(self, **options: Any) -> None:
        self._upgrade(json=False)
        self._verify(json=False)

    def _upgrade(self, **options: Any) -> None:
        missing = operations.missing_migrations()
        # Django's own report: a line before each step, its verdict behind it.
        call_command("migrate", verbosity=0 if options["json"] else 1, interactive=False)
        if options["json"]:
            self.stdout.write(json.dumps({"applied": missing}, indent=2))

    def _verify(self, **options: Any) -> None:
        missing, unexpected = operations.schema_differences()
        if options["json"]:
            self.stdout.write(json.dumps({"missing": missing, "unexpected": unexpected}, indent=2))
        else:
            self.stdout.writelines(f"missing     {line}\n" for line in missing)
            self.stdout.writelines(f"unexpected  {line}\n" for line in unexpected)
            if not missing and not unexpected:
                self.stdout.write("The schema is what the migrations make.")
        if missing or unexpected:
            raise SystemExit(1)

    def _reset(self, *, yes: bool, force: bool, **options: Any) -> None:
        name = connection.settings_dict["NAME"]
        if not embedded.is_embedded() and not force:
            raise CommandError(
                f"“{name}” is on a server that Gatehouse did not start, so it is not reset. If you are sure "
                "that nobody needs what is in it, say --force."
            )
        if not yes and input(f"Delete everything in “{name}”? Type its name to go on: ").strip() != name:
            raise CommandError("Nothing was changed.")
        try:
            operations.make_anew()
        except OperationalError as error:
            if getattr(error.__cause__, "pgcode", "") != errorcodes.OBJECT_IN_USE:
                raise
            raise CommandError("Somebody is connected to it. Stop Gatehouse first; nothing was changed.") from error
        self.stdout.write(f"“{name}” is empty, with this code's schema.")

    def _require_embedded(self, action: str) -> None:
        if not embedded.is_embedded():
            raise CommandError(f"“{action}” is for the embedded server; this project uses the one of DATABASE_URL.")
