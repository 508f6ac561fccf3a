"""``manage.py database``: look at, prepare, check and reset the database."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection, connections
from django.template.defaultfilters import filesizeformat
from psycopg2 import errorcodes

from config.database import branches, embedded, operations
from config.database.branches import Branch, BranchError


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
            ("branch", "copy the development database for a feature branch; list, switch between and drop copies"),
        ):
            action = actions.add_parser(name, help=text, description=text)
            if name in ("status", "verify", "upgrade", "branch"):
                action.add_argument("--json", action="store_true", help="for programs")
            if name == "branch":
                _of_branch(action)
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

    def _branch(self, *, name: str | None, as_list: bool, switch: str | None, drop: str | None, **options: Any) -> None:
        self._require_embedded("branch")
        if sum(map(bool, (name, as_list, switch, drop))) != 1:
            raise CommandError("Say one of NAME, --list, --switch NAME and --drop NAME.")
        embedded.ensure_running(None)
        used, where = settings.DATABASE_BRANCH, embedded.socket_directory()
        try:
            if name:
                branches.make(name, source=used, socket_directory=where)
                self.stdout.write(
                    f"“{name}” is a copy of “{used}”. Use it with `manage.py database branch --switch {name}`."
                )
            elif switch:
                branches.switch(settings.BASE_DIR, switch, socket_directory=where)
                self.stdout.write(f"“{switch}” is used from now on. Start Gatehouse again if it runs.")
            elif drop:
                branches.drop(drop, used=used, socket_directory=where)
                self.stdout.write(f"“{drop}” is dropped.")
            else:
                self._list_branches(branches.every(socket_directory=where), as_json=options["json"])
        except BranchError as fault:
            raise CommandError(str(fault)) from fault

    def _list_branches(self, found: list[Branch], *, as_json: bool) -> None:
        facts = [asdict(branch) | {"used": branch.name == settings.DATABASE_BRANCH} for branch in found]
        if as_json:
            self.stdout.write(json.dumps(facts, indent=2))
            return
        width = max(len(branch.name) for branch in found)
        for branch, fact in zip(found, facts, strict=True):
            mark = "*" if fact["used"] else " "
            self.stdout.write(f"{mark} {branch.name:<{width}}  {filesizeformat(branch.size):>10}  {branch.database}")

    def _require_embedded(self, action: str) -> None:
        if not embedded.is_embedded():
            raise CommandError(f"“{action}” is for the embedded server; this project uses the one of DATABASE_URL.")


def _of_branch(parser: CommandParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="make a copy of the one in use, with this name")
    of_one = parser.add_mutually_exclusive_group()
    of_one.add_argument("--list", action="store_true", dest="as_list", help="all of them, with a star at the used one")
    of_one.add_argument("--switch", metavar="NAME", help=f"use this one from now on; the first is {branches.MAIN}")
    of_one.add_argument("--drop", metavar="NAME", help="delete this one with all in it")
