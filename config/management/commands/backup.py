"""``manage.py backup``: write a backup of the database, list them, or prove that one can be restored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat

from config.database import backups
from config.database.backups import Backup, BackupError
from config.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Write a backup of the whole database, sessions apart, while the site runs on; then remove all but the newest. "
        "With --verify, restore one into a scratch database instead, compare the rows of every table and check the "
        "seals of the audit trail; exit code 1 when anything differs."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        where = settings.BACKUP_DIRECTORY
        parser.add_argument("--directory", type=Path, default=where, help=f"where they are (default: {where})")
        parser.add_argument(
            "--keep",
            type=int,
            default=settings.BACKUPS_KEPT,
            help="how many of the newest stay (default: BACKUPS_KEPT); 0: all",
        )
        action = parser.add_mutually_exclusive_group()
        action.add_argument("--list", action="store_true", dest="as_list", help="the newest first")
        action.add_argument(
            "--verify", nargs="?", const="newest", metavar="FILE", help="prove this one (default: the newest)"
        )
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")

    def handle(
        self,
        *args: Any,
        directory: Path,
        keep: int,
        as_list: bool,
        verify: str | None,
        as_json: bool,
        **options: Any,
    ) -> None:
        if keep < 0:
            raise CommandError("--keep takes a number from 0 on.")
        try:
            if as_list:
                self._list(directory, as_json)
            elif verify:
                self._verify(_newest(directory) if verify == "newest" else backups.read(Path(verify)), as_json)
            else:
                self._make(directory, keep, as_json)
        except BackupError as fault:
            raise CommandError(str(fault)) from fault

    def _make(self, directory: Path, keep: int, as_json: bool) -> None:
        with progress_bar() as tell:
            made = backups.make(directory, tell=tell)
        removed = backups.remove_old(directory, keep=keep) if keep else []
        if as_json:
            self._print_json(made.facts | {"removed": [str(old.path) for old in removed]})
            return
        self.stdout.write(f"{made.path}  {_about(made)}")
        self.stdout.writelines(f"removed {old.path}\n" for old in removed)

    def _list(self, directory: Path, as_json: bool) -> None:
        found = backups.every(directory)
        if as_json:
            self._print_json([backup.facts for backup in found])
            return
        self.stdout.writelines(f"{backup.path}  {_about(backup)}\n" for backup in found)
        if not found:
            self.stdout.write(f"There is no backup in {directory}.")

    def _verify(self, backup: Backup, as_json: bool) -> None:
        with progress_bar() as tell:
            proof = backups.prove(backup, tell=tell)
        if as_json:
            self._print_json({"file": str(backup.path), **proof.facts})
        else:
            self.stdout.write("\n".join(proof.lines()))
        if not proof.ok:
            raise SystemExit(1)

    def _print_json(self, facts: Any) -> None:
        self.stdout.write(json.dumps(facts, indent=2, default=str))


def _newest(directory: Path) -> Backup:
    if found := backups.every(directory):
        return found[0]
    raise CommandError(f"There is no backup in {directory}. Make one with `manage.py backup`.")


def _about(backup: Backup) -> str:
    manifest = backup.manifest
    return f"{filesizeformat(manifest.bytes)}, {sum(manifest.rows.values()):,} rows, {manifest.seals:,} seals"
