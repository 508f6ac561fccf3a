"""``manage.py audit``: what operators do with the trail."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from auditlog import exporting
from auditlog.filters import FilterForm


class Command(BaseCommand):
    help = "Export records of the audit trail."

    def add_arguments(self, parser: CommandParser) -> None:
        subcommands = parser.add_subparsers(dest="subcommand", required=True)
        self._add_export(subcommands.add_parser("export", help="Write records to a file, the newest first."))

    def handle(self, *args: Any, **options: Any) -> None:
        {"export": self._export}[options["subcommand"]](options)

    def _add_export(self, parser: CommandParser) -> None:
        parser.add_argument("--format", choices=sorted(exporting.FORMATS), default="jsonl")
        parser.add_argument("--output", default="-", help="a file, readable by its owner only; - is standard output")
        for name, field in FilterForm.base_fields.items():
            parser.add_argument(f"--{name}", help=str(field.help_text or field.label))

    def _export(self, options: dict[str, Any]) -> None:
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
