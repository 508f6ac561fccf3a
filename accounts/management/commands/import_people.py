"""``manage.py import_people``: import people or invitations from a CSV file of any size."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO

from django.core.exceptions import PermissionDenied
from django.core.management.base import BaseCommand, CommandError, CommandParser

import auditlog
from accounts import importing
from accounts.errors import AccountError
from accounts.import_verdicts import EXISTS, OK, REFUSED, Verdict, words_for
from accounts.importing import Options
from accounts.models import User
from auditlog.exporting import csv_line

BAR = 30  # characters
SHOWN = 50  # refused rows on the screen; the report has all
WIPE = "\r\033[K"  # the terminal's line


class Command(BaseCommand):
    help = (
        "Import people (columns username, email, full_name, roles) or invitations (email, roles, note, "
        "expires_in_days) from a CSV file with a header. Who exists is left alone. A file with a fault is refused "
        "whole, a row with a fault alone. Exit code 0 when no row was refused, 1 when some were, 3 when nothing was "
        "imported."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a CSV file, or - for standard input")
        kind = parser.add_mutually_exclusive_group(required=True)
        kind.add_argument("--users", action="store_const", dest="kind", const="users", help="people")
        kind.add_argument("--invitations", action="store_const", dest="kind", const="invitations", help="invitations")
        parser.add_argument("--dry-run", action="store_true", help="only say what would happen")
        parser.add_argument("--resume", action="store_true", help="go on where an import of this file was interrupted")
        parser.add_argument("--update", action="store_true", help="change name and roles of people who exist")
        parser.add_argument("--mail", action="store_true", help="send new people a link to choose a password")
        parser.add_argument("--by", metavar="USERNAME", help="import in this user's name, rights and quota")
        parser.add_argument("--report", metavar="CSV", help="write the verdict on every row to this file")
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(
        self, *args: Any, file: str, kind: str, update: bool, mail: bool, dry_run: bool, resume: bool, **options: Any
    ) -> None:
        if kind == "invitations" and (update or mail):
            raise CommandError("--update and --mail are for people. Invitations are always mailed.")
        self._as_json = options["json"]
        by = _acting_user(options["by"])
        what = Options(kind=kind, update=update, mail=mail)
        try:
            with _opened(file) as opened, _report(options["report"], append=resume) as report:
                facts = self._import(opened, file, what, by, report, dry_run=dry_run, resume=resume)
        except (AccountError, PermissionDenied, OSError) as error:
            self._refuse(error, options["report"])
        self._print(facts)
        if facts["counts"][REFUSED]:
            raise SystemExit(1)

    def _import(
        self,
        file: BinaryIO,
        name: str,
        what: Options,
        by: User | None,
        report: IO[str] | None,
        *,
        dry_run: bool,
        resume: bool,
    ) -> dict[str, Any]:
        refused: list[Verdict] = []
        counts: Counter[str] = Counter({OK: 0, EXISTS: 0, REFUSED: 0})
        with auditlog.acting_as(on_behalf_of=by):
            if dry_run:
                facts: dict[str, Any] = {"dry_run": True, "rows": importing.survey(file, what).rows, "resumed_after": 0}
                batches = importing.dry_run(file, what, acting_user=by)
            else:
                begun = importing.begin(file, name, what, acting_user=by, resume=resume)
                facts = {"id": str(begun.pk), "rows": begun.rows, "resumed_after": begun.position}
                batches = importing.write(begun, file, acting_user=by)
            done = facts["resumed_after"]
            for verdicts in batches:
                counts.update(each.result for each in verdicts)
                refused += [each for each in verdicts if each.result == REFUSED][: SHOWN - len(refused)]
                if report:
                    report.writelines(csv_line(_cells(each, planned=dry_run)) for each in verdicts)
                done += len(verdicts)
                self._progress(done, facts["rows"])
        self._progress_ends()
        return facts | {"counts": dict(counts), "refused": [vars(each) for each in refused]}

    def _progress(self, done: int, rows: int) -> None:
        if not self._as_json and sys.stderr.isatty():
            full = round(BAR * done / (rows or 1))
            sys.stderr.write(f"{WIPE}[{'█' * full}{'·' * (BAR - full)}] {done:,} of {rows:,} rows")
            sys.stderr.flush()

    def _progress_ends(self) -> None:
        if not self._as_json and sys.stderr.isatty():
            sys.stderr.write(WIPE)

    def _refuse(self, error: Exception, report: str | None) -> None:
        if isinstance(error, AccountError):
            words = error.message
        elif isinstance(error, OSError):
            words = _words_of_fault(error, report)
        else:
            words = str(error) or "You may not import this."
        if self._as_json:
            code = error.code if isinstance(error, AccountError) else "failed"
            self.stdout.write(json.dumps({"error": code, "message": str(words)}, indent=2))
            raise SystemExit(3) from error
        raise CommandError(str(words), returncode=3) from error

    def _print(self, facts: dict[str, Any]) -> None:
        if self._as_json:
            self.stdout.write(json.dumps(facts, indent=2))
            return
        counts = facts["counts"]
        for each in facts["refused"]:
            self.stdout.write(f"line {each['line']}, {each['who'] or 'nobody'}: {each['words']} ({each['code']})")
        if more := counts[REFUSED] - len(facts["refused"]):
            self.stdout.write(f"and {more} more; --report FILE writes all of them")
        if facts["resumed_after"]:
            self.stdout.write(f"Went on behind row {facts['resumed_after']:,}, where the last import stopped.")
        would = "would be imported" if "dry_run" in facts else "imported"
        self.stdout.write(
            f"{facts['rows']:,} rows: {counts[OK]:,} {would}, {counts[EXISTS]:,} there already, "
            f"{counts[REFUSED]:,} refused"
        )


def _acting_user(name: str | None) -> User | None:
    if name is None:
        return None
    user = User.objects.by_login_name(name)
    if user is None:
        raise CommandError(f"There is no user {name!r}.", returncode=3)
    return user


def _words_of_fault(error: OSError, report: str | None) -> str:
    why = error.strerror or str(error)
    if error.filename is None:  # a disk that is full or broken, in the midst
        return f"{why}."
    cannot = "written" if error.filename == report else "read"
    return f"The file {error.filename!r} cannot be {cannot}: {why}."


def _cells(verdict: Verdict, *, planned: bool) -> list[object]:
    words = words_for(verdict.code, verdict.words, planned=planned)
    return [verdict.line, verdict.who, verdict.result, verdict.code, words]


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    """Open the file; standard input is kept in a temporary one first, because it is read twice."""
    if path != "-":
        with open(path, "rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as kept:
        shutil.copyfileobj(sys.stdin.buffer, kept)
        yield kept


@contextmanager
def _report(path: str | None, *, append: bool) -> Iterator[IO[str] | None]:
    """Open the report (mode 0600: it names people); an import that goes on adds to it."""
    if path is None:
        yield None
        return
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    with open(os.open(path, flags, 0o600), "w", encoding="utf-8", newline="") as file:
        os.fchmod(file.fileno(), 0o600)
        if not file.tell() and not os.fstat(file.fileno()).st_size:
            file.write(csv_line(["line", "who", "result", "code", "words"]))
        yield file
