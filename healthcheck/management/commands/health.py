"""``manage.py health``: take this host out or bring it back, and answer probes in a process of its own."""

from __future__ import annotations

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from healthcheck import serving
from healthcheck.draining import drain, end_drain


class Command(BaseCommand):
    help = "Look after the health probes of this host."
    requires_system_checks: list[str] = []  # it has to work when little else does

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="command", required=True)
        draining = commands.add_parser("drain", help="let no process of this host be ready, from its next probe on")
        draining.add_argument("--off", action="store_true", help="let them be ready again")
        server = commands.add_parser("serve", help="answer /health/ on a port of its own, whatever the site does")
        server.add_argument("--port", type=int, default=settings.HEALTH_PORT, help="default: HEALTH_PORT")
        server.add_argument("--bind", default=settings.HEALTH_BIND, help="address; default: HEALTH_BIND, else BIND")

    def handle(self, *args: Any, command: str, **options: Any) -> None:
        getattr(self, f"_{command}")(**options)

    def _drain(self, *, off: bool, **options: Any) -> None:
        try:
            end_drain() if off else drain()
        except OSError as error:
            raise CommandError(f"{settings.HEALTH_DRAIN_FILE}: {error.strerror}.", returncode=3) from error
        self.stdout.write(
            "This host is ready again." if off else "This host is being drained: it is not ready any more."
        )

    def _serve(self, *, port: int, bind: str, **options: Any) -> None:
        if not port:
            raise CommandError("Say where to listen: --port 8001, or HEALTH_PORT in the environment.", returncode=3)
        try:
            serving.serve(port, bind)
        except OSError as error:
            reason = os.strerror(error.errno or 0)  # asyncio's own text repeats the address
            raise CommandError(f"Port {port} on {bind} cannot be used: {reason}.", returncode=3) from error
