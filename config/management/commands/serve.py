"""``manage.py serve``: everything a site needs, in one process group that ends together."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from auditlog import delivering
from config import assets, configuration, lifeline

GRACE = 30  # seconds that requests begun and jobs begun have to finish


class Command(BaseCommand):
    help = "Migrate, then run the web server and the worker until Ctrl-C."
    requires_system_checks: list[str] = []  # migrate runs them, once the database is up

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--demo", action="store_true", help="in development, on an empty database, add an administrator"
        )
        parser.add_argument("--reload", action="store_true", help="restart on a change of the code")

    def handle(self, *args: Any, demo: bool, reload: bool, **options: Any) -> None:
        self._refuse_busy_port(settings.BIND, settings.PORT)
        if settings.HEALTH_PORT:
            self._refuse_busy_port(settings.HEALTH_BIND, settings.HEALTH_PORT)
        call_command("migrate", verbosity=0, interactive=False, skip_checks=False)
        configuration.record_changes()
        delivering.deliver()  # from now on, if it is the first start: the administrator below is news
        if not settings.DEBUG:
            assets.collect()
        link = self._demo_link() if demo and settings.DEVELOPMENT else None
        children = self._start()
        self._wait_until_listening(children)
        self._say_where(link)
        self._run_until_stopped(children, reload)

    @staticmethod
    def _refuse_busy_port(bind: str, port: int) -> None:
        with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((bind.strip("[]"), port))
            except OSError as error:
                raise CommandError(
                    f"Port {port} on {bind} cannot be used: {error.strerror}. "
                    "Choose another one, for example: PORT=8001 make run"
                ) from error

    def _demo_link(self) -> str | None:
        from accounts.demo import add_first_administrator

        return add_first_administrator()

    def _start(self) -> list[subprocess.Popen[bytes]]:
        root = str(settings.BASE_DIR)
        web = ["-m", "gunicorn", "--config", "python:config.gunicorn", "--chdir", root]
        commands = [web, [f"{root}/manage.py", "worker"]]
        if settings.HEALTH_PORT:
            commands.append([f"{root}/manage.py", "health", "serve"])
        return [lifeline.start([sys.executable, *command]) for command in commands]

    def _wait_until_listening(self, children: list[subprocess.Popen[bytes]]) -> None:
        deadline = time.monotonic() + 60
        address = (settings.BIND.strip("[]"), settings.PORT)
        while time.monotonic() < deadline and all(child.poll() is None for child in children):
            try:
                socket.create_connection(address, timeout=1).close()
                return
            except OSError:
                time.sleep(0.1)
        self._end(children)
        raise CommandError("The web server did not start; its own words are above.")

    def _say_where(self, link: str | None) -> None:
        base = settings.BASE_URL
        lines = [
            "",
            "Gatehouse runs.",
            f"  Site     {base}/",
            f"  Sign up  {base}/accounts/signup/",
            f"  Admin    {base}/admin/",
            f"  Health   {base}/health/",
        ]
        if settings.DEVELOPMENT:
            lines.append(f"  Mail     {base}/dev/mail/")
        if link:
            lines += [
                "",
                "The administrator is called “gatekeeper”. Choose a password here (works once):",
                f"  {link}",
            ]
        self.stdout.write("\n".join([*lines, "", "Stop with Ctrl-C.", ""]))
        self.stdout.flush()

    def _run_until_stopped(self, children: list[subprocess.Popen[bytes]], reload: bool) -> None:
        """Wait for Ctrl-C, SIGTERM or the end of a child, then end all of them."""
        stopping = False

        def stop(signum: int, frame: FrameType | None) -> None:
            nonlocal stopping
            stopping = True

        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGTERM, stop)
        seen = _newest_change() if reload else 0.0
        # Under --reload, code that does not start waits for its next change instead of ending everything.
        while not stopping and (reload or all(child.poll() is None for child in children)):
            time.sleep(0.2 if not reload else 1)
            if reload and (change := _newest_change()) > seen:
                self.stdout.write("The code has changed: starting again.")
                self._end(children)
                seen, children = change, self._start()
        self._end(children)
        if not stopping:
            raise CommandError("A part of Gatehouse ended by itself; its own words are above.")
        self.stdout.write("Stopped.")

    @staticmethod
    def _end(children: list[subprocess.Popen[bytes]]) -> None:
        for child in children:
            child.terminate()
        deadline = time.monotonic() + GRACE
        for child in children:
            try:
                child.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _newest_change() -> float:
    """Return the newest modification time of the project's Python files."""
    apps = ("config", "accounts", "auditlog", "healthcheck")
    return max(path.stat().st_mtime for app in apps for path in (settings.BASE_DIR / app).rglob("*.py"))
