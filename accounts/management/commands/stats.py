"""``manage.py stats``: how many people there are, come, sign in and invite; once, live, or for programs."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, ProgrammingError, connection
from django.utils import timezone
from psycopg2 import errorcodes

from accounts import stats
from accounts.stats_text import as_text

CANNOT_RUN = 3
WIDTH = 80  # where nobody says how wide the page is
NAP = 0.1  # seconds until a new size of the terminal, or Ctrl-C, is noticed
# The terminal's second screen: what was on the first is there again at the end (xterm, Control Sequences).
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[H", "\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


class Command(BaseCommand):
    help = "Show the figures of accounts. Exit code 3 when the database does not answer."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--json", action="store_true", dest="as_json", help="for programs; with --watch a line each"
        )
        parser.add_argument(
            "--watch",
            nargs="?",
            type=_seconds,
            const=5.0,
            metavar="SECONDS",
            help="show them again and again, every 5 seconds, until Ctrl-C",
        )
        parser.add_argument("--only", action="append", default=[], metavar="SECTION", help="these only; repeatable")

    def handle(self, *args: Any, as_json: bool, watch: float | None, only: list[str], **options: Any) -> None:
        if unknown := set(only) - set(stats.sections()):
            raise CommandError(
                f"There are no figures called {', '.join(sorted(unknown))}; there are {', '.join(stats.sections())}."
            )
        self.as_json, self.only = as_json, only or list(stats.sections())
        if watch is None:
            self._once()
        else:
            self._watch(watch)

    def _once(self) -> None:
        try:
            text = self._figures()
        except (OperationalError, InterfaceError) as error:
            raise CommandError(f"The database does not answer: {_first_line(error)}", returncode=CANNOT_RUN) from error
        except ProgrammingError as error:
            if getattr(error.__cause__, "pgcode", None) != errorcodes.UNDEFINED_TABLE:
                raise
            message = "This database does not have all of the tables yet: run manage.py migrate."
            raise CommandError(message, returncode=CANNOT_RUN) from error
        self.stdout.write("\n".join(text))

    def _figures(self) -> list[str]:
        taken = stats.take(self.only)
        now = timezone.now()
        if self.as_json:
            return [json.dumps(stats.as_facts(taken, now), indent=None if self.live else 2)]
        width = shutil.get_terminal_size((WIDTH, 24)).columns if self._is_terminal() else WIDTH
        return as_text(taken, now, width=width, plain=not self._has_blocks(), paint=self.style.MIGRATE_HEADING)

    live = False

    def _is_terminal(self) -> bool:
        return self.stdout.isatty()

    def _has_blocks(self) -> bool:
        try:
            "▁±".encode(getattr(self.stdout, "encoding", None) or "utf-8")
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    # Live

    def _watch(self, seconds: float) -> None:
        self.live, self.resized = True, False
        on_screen = self._is_terminal() and not self.as_json
        handlers = {signal.SIGTERM: signal.signal(signal.SIGTERM, _interrupt)}
        if on_screen:
            handlers[signal.SIGWINCH] = signal.signal(signal.SIGWINCH, self._note_size)
            self._put(_ENTER)
        try:
            with suppress(KeyboardInterrupt):
                while True:
                    self._show(on_screen)
                    self._rest(seconds)
        except BrokenPipeError:  # whoever read has seen enough, and nobody is left to complain to
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            if on_screen:
                self._put(_LEAVE)
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _show(self, on_screen: bool) -> None:
        try:
            lines = self._figures()
        except (OperationalError, InterfaceError):
            connection.close()
            if not on_screen:
                self.stderr.write("The database is away; waiting for it.")
                return
            lines = ["The database is away; waiting for it."]
        if not on_screen:
            self._put("\n".join(lines) + ("\n" if self.as_json else "\n\n"))
            return
        height = shutil.get_terminal_size((WIDTH, 24)).lines
        shown = lines[: height - 1]
        self._put(_HOME + "".join(f"{line}{_END_OF_LINE}\n" for line in shown) + _END_OF_SCREEN)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self.resized and (left := until - time.monotonic()) > 0:
            time.sleep(min(NAP, left))
        self.resized = False

    def _note_size(self, number: int, frame: FrameType | None) -> None:
        self.resized = True

    def _put(self, text: str) -> None:
        self.stdout.write(text, ending="")
        self.stdout.flush()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0.2 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"must be a number from 0.2 to 3600, not {text!r}")
    return seconds
