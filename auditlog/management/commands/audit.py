"""``manage.py audit``: prove the trail, seal it, export it, and look after its weeks."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DataError
from django.utils import timezone
from django.utils.dateparse import parse_date

from auditlog import care, exporting, partitions, sealing, verifying
from auditlog.filters import FilterForm
from auditlog.models import Seal
from auditlog.partitions import Partition
from auditlog.verifying import Report

BAR = 40  # characters
FEWEST_WEEKS_AHEAD = 4


def _json(parser: CommandParser) -> None:
    parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")


def _of_export(parser: CommandParser) -> None:
    parser.add_argument("--format", choices=sorted(exporting.FORMATS), default="jsonl")
    parser.add_argument("--output", default="-", help="a file, readable by its owner only; - is standard output")
    for name, field in FilterForm.base_fields.items():
        parser.add_argument(f"--{name}", help=str(field.help_text or field.label))


def _of_verify(parser: CommandParser) -> None:
    _json(parser)
    parser.add_argument(
        "--expect", default="", metavar="DIGEST", help="a digest noted earlier, which must be in the chain"
    )


def _of_partitions(parser: CommandParser) -> None:
    _json(parser)
    parser.add_argument("--make", action="store_true", help="make those that are missing first")


def _of_purge(parser: CommandParser) -> None:
    _json(parser)
    moment = parser.add_mutually_exclusive_group()
    moment.add_argument("--days", type=int, help="keep so many days (default: AUDITLOG_RETENTION_DAYS)")
    moment.add_argument(
        "--before", type=_date, metavar="DATE", help="keep everything from this day on (2026-01-31, UTC)"
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would go")


def _date(text: str) -> datetime:
    day = parse_date(text)
    if day is None:
        raise ValueError(text)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# Name, what it does, and its own arguments; the method of the same name runs it.
ACTIONS: list[tuple[str, str, Callable[[CommandParser], None]]] = [
    (
        "verify",
        "check the seals against the records; exit code 1 and the first broken record when they differ",
        _of_verify,
    ),
    ("seal", "seal what no running transaction can still write", _json),
    ("export", "write records to a file, the newest first", _of_export),
    ("partitions", "list the weeks; exit code 1 when the trail is not kept as it should be", _of_partitions),
    ("purge", "drop whole weeks that are older than the retention, and give their disk back", _of_purge),
]


class Command(BaseCommand):
    help = "Prove the audit trail, seal it, export it, and look after its weeks."

    def add_arguments(self, parser: CommandParser) -> None:
        actions = parser.add_subparsers(dest="subcommand", required=True, metavar="ACTION")
        for name, text, add_own in ACTIONS:
            action = actions.add_parser(name, help=text, description=text)
            add_own(action)

    def handle(self, *args: Any, subcommand: str, **options: Any) -> None:
        getattr(self, f"_{subcommand}")(**options)

    def _verify(self, *, expect: str, as_json: bool, **options: Any) -> None:
        with _progress_bar("verifying", self._sealed) as progress:
            report = verifying.verify(expect=expect, progress=progress)
        if as_json:
            facts = report.facts() | {"findings": [asdict(each) | {"says": str(each)} for each in report.findings]}
            self._print_json(facts)
        else:
            self._print_report(report)
        if not report.ok:
            raise SystemExit(1)

    def _print_report(self, report: Report) -> None:
        for finding in report.findings:
            self.stdout.write(f"BROKEN  {finding}")
        purged = f", {report.purged} of them purged" if report.purged else ""
        erased = f", {report.erased} of them with something erased" if report.erased else ""
        self.stdout.write(f"{report.seals:,} seals{purged}; {report.records:,} sealed records{erased}.")
        if report.unsealed_since:
            self.stdout.write(
                f"Not sealed yet: {report.unsealed:,}, since {report.unsealed_since:%Y-%m-%d %H:%M:%S} UTC."
            )
        if report.newest:
            self.stdout.write(f"Newest digest: {report.newest}")
        self.stdout.write("The trail is what it was when it was sealed." if report.ok else "The trail is BROKEN.")

    @staticmethod
    def _sealed() -> int:
        return sum(Seal.objects.values_list("records", flat=True))

    def _seal(self, *, as_json: bool, **options: Any) -> None:
        with _progress_bar(
            "sealing", lambda: sum(each.records for each in sealing.unsealed(running=False))
        ) as progress:
            try:
                sealed = sealing.seal(progress=progress)
            except sealing.CannotSeal as reason:
                raise CommandError(str(reason)) from reason
        newest = Seal.objects.order_by("-id").values_list("digest", flat=True).first()
        digest = bytes(newest).hex() if newest else ""
        if as_json:
            self._print_json({"sealed": sealed, "newest": digest})
            return
        self.stdout.write(f"Sealed {sealed:,} records.")
        if digest:
            self.stdout.write(f"Newest digest: {digest}")

    def _export(self, **options: Any) -> None:
        asked = {name: options[name] for name in FilterForm.base_fields if options[name]}
        try:
            exporting.save(asked, options["format"], options["output"], progress=self._tell_progress)
        except ValidationError as refusal:
            raise CommandError("\n".join(refusal.messages)) from refusal
        except OSError as error:
            raise CommandError(f"{options['output']}: {error.strerror}") from error
        if self.stderr.isatty():
            self.stderr.write("\n", ending="")

    def _tell_progress(self, count: int) -> None:
        if self.stderr.isatty():
            self.stderr.write(f"\r{count:,} records", ending="")

    def _partitions(self, *, make: bool, as_json: bool, **options: Any) -> None:
        made = self._or_explain(partitions.make_ahead) if make else 0
        every, state = partitions.every(), care.state()
        if as_json:
            self._print_json({"made": made, "partitions": [asdict(each) for each in every], **asdict(state)})
        else:
            self._print_partitions(every)
            self.stdout.write(f"Made {made}." if make else "")
            for name, value in asdict(state).items():
                self.stdout.write(f"{name.replace('_', ' '):<17} {'-' if value is None else value}")
        amiss = state.weeks_ahead < FEWEST_WEEKS_AHEAD or state.in_default or state.triggers_missing
        if amiss or state.triggers_unknown:
            raise SystemExit(1)

    def _purge(
        self, *, days: int | None, before: datetime | None, dry_run: bool, as_json: bool, **options: Any
    ) -> None:
        if days is not None:
            before = timezone.now() - timedelta(days=days)
        before = before or partitions.retention_ends()
        purge = partitions.purgeable if dry_run else partitions.purge
        gone = self._or_explain(lambda: purge(before))
        if as_json:
            weeks = [asdict(each) for each in gone]
            self._print_json({"before": before, "dry_run": dry_run, "partitions": weeks})
            return
        self._print_partitions(gone)
        verb = "would go" if dry_run else "are gone"
        count = "1 week" if len(gone) == 1 else f"{len(gone)} weeks"
        self.stdout.write(f"{count} before {before:%Y-%m-%d} {verb}; the numbers of records are estimates.")

    @staticmethod
    def _or_explain(work: Callable[[], Any]) -> Any:
        try:
            return work()
        except partitions.Busy as reason:
            raise CommandError(str(reason)) from reason
        except DataError as error:
            raise CommandError(str(error).strip().split("\n")[0]) from error

    def _print_partitions(self, every: list[Partition]) -> None:
        for each in every:
            records = "?" if each.records is None else f"{each.records:,}"
            size = "" if each.bytes is None else f"{each.bytes / 1024:,.0f} kB"
            self.stdout.write(f"{each.name:<24}  {each.opens:%Y-%m-%d}  {records:>12}  {size:>14}")

    def _print_json(self, facts: dict[str, Any]) -> None:
        self.stdout.write(json.dumps(facts, indent=2, cls=DjangoJSONEncoder))


@contextmanager
def _progress_bar(what: str, total: Callable[[], int]) -> Iterator[Callable[[int], None] | None]:
    """On a terminal, a line that fills up; in a pipe, nothing."""
    if not sys.stderr.isatty():
        yield None
        return
    whole, done = max(1, total()), 0

    def progress(records: int) -> None:
        nonlocal done
        done += records
        share = min(1.0, done / whole)
        sys.stderr.write(f"\r{what} [{'#' * round(BAR * share):<{BAR}}] {share:4.0%}")
        sys.stderr.flush()

    try:
        yield progress
    finally:
        sys.stderr.write("\n")
