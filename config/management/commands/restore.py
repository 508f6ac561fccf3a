"""``manage.py restore``: bring an empty database to what a backup holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from config.database import backups
from config.database.backups import BackupError
from config.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Restore a backup into the configured database, which must be empty: all of it, or nothing. Everybody is "
        "signed out by it. Exit code 1 when the rows or the seals of the audit trail are not those of the backup."
    )
    requires_system_checks: list[str] = []  # there is nothing to check before it

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="a file that `manage.py backup` wrote; its manifest lies beside it")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(self, *args: Any, file: Path, yes: bool, as_json: bool, **options: Any) -> None:
        name = connection.settings_dict["NAME"]
        try:
            backup = backups.read(file)
            question = f"Restore {file} of {backup.manifest.made_at} into “{name}”? Type the database's name to go on: "
            if not yes and input(question).strip() != name:
                raise CommandError("Nothing was changed.")
            with progress_bar() as tell:
                proof = backups.restore(backup, tell=tell)
        except BackupError as fault:
            raise CommandError(str(fault)) from fault
        if as_json:
            self.stdout.write(json.dumps({"file": str(file), "database": name, **proof.facts}, indent=2, default=str))
        else:
            self.stdout.write("\n".join(proof.lines()))
            self.stdout.write(f"“{name}” is restored. Run `manage.py migrate`, then start Gatehouse.")
        if not proof.ok:
            raise SystemExit(1)
