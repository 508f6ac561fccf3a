"""``manage.py generate_password``: random passwords that the policy takes."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts import policy

MOST = 1000


class Command(BaseCommand):
    help = "Print random passwords that the password policy of this site takes. Nothing is stored."
    requires_system_checks = []  # it asks no database, and pages are none of its matters

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--count", type=int, default=1, help=f"how many, at most {MOST} (1)")
        parser.add_argument(
            "--length", type=int, default=policy.GENERATED_LENGTH, help=f"characters ({policy.GENERATED_LENGTH})"
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        count, length = options["count"], options["length"]
        if not 1 <= count <= MOST:
            raise CommandError(f"--count must be from 1 to {MOST}.")
        shortest = policy.shortest_length()
        if not shortest <= length <= policy.LONGEST_GENERATED:
            raise CommandError(f"--length must be from {shortest} to {policy.LONGEST_GENERATED}.")
        passwords = [policy.generate(length) for _each in range(count)]
        self.stdout.write(json.dumps({"passwords": passwords}, indent=2) if options["json"] else "\n".join(passwords))
