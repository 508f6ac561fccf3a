"""``manage.py health``: how the site is, and looking after the probes of this host."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from argparse import SUPPRESS
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from healthcheck import looking, serving
from healthcheck.draining import drain, end_drain
from healthcheck.overall import Finding, Report, overall
from healthcheck.results import Status

FAILS, WARNS, CANNOT_RUN = 1, 2, 3


class Command(BaseCommand):
    help = "Say how the site is. Exit code 0: pass, 1: fail, 2: warn, with --strict; 3: it could not run."
    requires_system_checks: list[str] = []  # it has to work when little else does

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="for programs")
        parser.add_argument("--run", action="store_true", help="run every check now, instead of telling their readings")
        parser.add_argument("--strict", action="store_true", help="exit with 2 when anything warns")
        parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait until it is ready, at most so long")
        commands = parser.add_subparsers(dest="command", metavar="COMMAND")
        draining = commands.add_parser("drain", help="let no process of this host be ready, from its next probe on")
        draining.add_argument("--off", action="store_true", help="let them be ready again")
        server = commands.add_parser("serve", help="answer /health/ on a port of its own, whatever the site does")
        server.add_argument("--port", type=int, default=settings.HEALTH_PORT, help="default: HEALTH_PORT")
        server.add_argument("--bind", default=settings.HEALTH_BIND, help="address; default: HEALTH_BIND, else BIND")
        token = commands.add_parser("token", help="print a fresh token for /health/ and its digest for the settings")
        token.add_argument("--json", action="store_true", default=SUPPRESS, help="for programs")

    def handle(self, *args: Any, command: str | None, **options: Any) -> None:
        getattr(self, f"_{command or 'tell'}")(**options)

    # How it is

    def _tell(self, *, run: bool, strict: bool, wait: float | None, **options: Any) -> None:
        if wait:
            looking.wait_until_ready(wait)
        report = looking.look_now() if run else overall.current()
        self.stdout.write(json.dumps(_facts(report), indent=2) if options["json"] else _table(report))
        if report.status is Status.FAIL:
            raise SystemExit(FAILS)
        if strict and report.status is Status.WARN:
            raise SystemExit(WARNS)

    # The probes of this host

    def _drain(self, *, off: bool, **options: Any) -> None:
        try:
            end_drain() if off else drain()
        except OSError as error:
            raise CommandError(f"{settings.HEALTH_DRAIN_FILE}: {error.strerror}.", returncode=CANNOT_RUN) from error
        self.stdout.write(
            "This host is ready again." if off else "This host is being drained: it is not ready any more."
        )

    def _serve(self, *, port: int, bind: str, **options: Any) -> None:
        if not port:
            message = "Say where to listen: --port 8001, or HEALTH_PORT in the environment."
            raise CommandError(message, returncode=CANNOT_RUN)
        try:
            serving.serve(port, bind)
        except OSError as error:
            reason = os.strerror(error.errno or 0)  # asyncio's own text repeats the address
            raise CommandError(f"Port {port} on {bind} cannot be used: {reason}.", returncode=CANNOT_RUN) from error

    # Who may see it

    def _token(self, **options: Any) -> None:
        token = secrets.token_urlsafe(32)
        digest = hashlib.sha256(token.encode()).hexdigest()
        if options["json"]:
            self.stdout.write(json.dumps({"token": token, "digest": digest}, indent=2))
            return
        self.stdout.write(f"token   {token}\ndigest  {digest}")
        self.stderr.write(
            "Give the token to the program, which sends it as “Authorization: Bearer …”; it is not shown again. Add "
            "the digest to HEALTH_TOKEN_DIGESTS or, if it may start operations, HEALTH_OPERATOR_TOKEN_DIGESTS."
        )


def _facts(report: Report) -> dict[str, Any]:
    return {
        "status": report.status.value,
        "code": report.ready.code,
        "time": report.time.isoformat(),
        "readings_known": report.known,
        "checks": [finding.as_facts() for finding in report.findings],
    }


def _table(report: Report) -> str:
    rows = [("CHECK", "HOST", "STATUS", "CODE", "VALUE", "AGE"), *(_row(finding) for finding in report.findings)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not report.known:
        lines.append("The last readings of the other checks could not be read.")
    return "\n".join([*lines, f"In all: {report.status.value}"])


def _row(finding: Finding) -> tuple[str, ...]:
    value = "" if finding.value is None else f"{finding.value:g} {finding.unit}".rstrip()
    return finding.name, finding.host, finding.status.value, finding.code, value, _age(finding.age)


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
