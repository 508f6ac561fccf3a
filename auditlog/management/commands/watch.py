"""``manage.py watch``: see records, or new users, within a second of their commit."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import InterfaceError, OperationalError, ProgrammingError, connection
from django.db.models import Q
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from auditlog import following
from auditlog.context import request_uuid
from auditlog.exporting import exact_json
from auditlog.following import Cursor, NoCursor
from auditlog.models import Record
from auditlog.showing import as_facts, as_line

MOST = 500  # records between two moves of the cursor
AWAY = 1.0  # seconds between looks for a database that is away
KEPT_FRESH = 10.0  # seconds that a cursor is kept while nothing happens
CANNOT_RUN = 3
_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Command(BaseCommand):
    help = "Show what is recorded, each record once, within a second of its commit, until Ctrl-C."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "what", nargs="?", choices=("records", "users"), default="records", help="all records, or new users only"
        )
        for option, metavar, help_text in (
            ("--resource", "KIND", "what it is about, like accounts.user or user"),
            ("--action", "ACTION", "like create, update or login"),
            ("--actor", "WHO", "id or name of who acted, or a kind: user, anonymous, command, migration, database"),
            ("--object", "OBJECT", "id or name of what it is about"),
            ("--origin", "ORIGIN", f"the path it came by: {', '.join(Record.Origin.values)}"),
            ("--request", "ID", "the request it came from"),
        ):
            parser.add_argument(option, action="append", default=[], metavar=metavar, help=f"{help_text}; repeatable")
        parser.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
        begin = parser.add_mutually_exclusive_group()
        begin.add_argument(
            "--since", type=_moment, metavar="TIME", help="begin there: 2026-01-31T12:00, or 90m, 2d ago"
        )
        begin.add_argument("--from-start", action="store_true", help="begin with the oldest record")
        parser.add_argument("--cursor", type=Path, metavar="FILE", help="go on where this file says, and keep it there")
        parser.add_argument("--once", action="store_true", help="show what there is, then end")
        parser.add_argument("--interval", type=_interval, default=0.5, help="seconds between two looks (0.5)")

    def handle(self, *args: Any, **options: Any) -> None:
        self.options = options
        self.printing = self.stopping = self.away = False
        self.kept_at = float("-inf")
        handlers = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            with suppress(KeyboardInterrupt):
                self._watch()
        except BrokenPipeError:  # whoever read has seen enough, and nobody is left to complain to
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except ProgrammingError as error:
            raise CommandError("There is no audit trail in this database yet: run manage.py migrate.") from error
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        """Finish a batch that is being printed, so that none of it comes again; the second time end at once."""
        if not self.printing or self.stopping:
            raise KeyboardInterrupt
        self.stopping = True

    def _watch(self) -> None:
        where = _where(self.options)
        cursor = self._kept_cursor()
        while not self.stopping:
            try:
                cursor = cursor or self._first_cursor()
                cursor = self._show_news(cursor, where)
            except (OperationalError, InterfaceError) as error:
                self._wait_for_database(error)
                continue
            if self.away:
                self.away = False
                self.stderr.write("The database is back.")
            if cursor.until is None and self.options["once"]:
                return
            if cursor.until is None:
                time.sleep(self.options["interval"])

    def _show_news(self, cursor: Cursor, where: Q) -> Cursor:
        records, reached = following.read(cursor, MOST, where)
        self.printing = True
        for record in records:
            self.stdout.write(
                exact_json(as_facts(record), ensure_ascii=True) if self.options["json"] else as_line(record)
            )
        self.stdout.flush()
        if records or self.options["once"] or time.monotonic() - self.kept_at > KEPT_FRESH:
            self._keep(reached)
        self.printing = False
        return reached

    def _keep(self, cursor: Cursor) -> None:
        if self.options["cursor"]:
            _replace(self.options["cursor"], f"{cursor}\n")
        self.kept_at = time.monotonic()

    def _wait_for_database(self, error: Exception) -> None:
        if self.options["once"]:
            raise CommandError(f"The database does not answer: {str(error).strip()}", returncode=CANNOT_RUN) from error
        if not self.away:
            self.away = True
            self.stderr.write("The database is away; waiting for it.")
        connection.close()
        time.sleep(AWAY)

    def _kept_cursor(self) -> Cursor | None:
        file: Path | None = self.options["cursor"]
        if file is None or not file.exists():
            return None
        try:
            return Cursor.from_text(file.read_text())
        except (NoCursor, OSError, UnicodeDecodeError) as error:
            raise CommandError(f"{file} is no cursor of this command. Remove it to begin anew.") from error

    def _first_cursor(self) -> Cursor:
        if self.options["from_start"]:
            return following.from_start()
        since: datetime | None = self.options["since"]
        return following.from_start(since) if since else following.from_now()


def _where(options: dict[str, Any]) -> Q:
    where = Q()
    if options["what"] == "users":
        where &= Q(resource=settings.AUTH_USER_MODEL.lower(), action=Record.Action.CREATE)
    if options["since"]:
        where &= Q(at__gte=options["since"])
    kinds = options["resource"]
    where &= _any_of(["resource"], kinds) | _any_of(["resource__endswith"], [f".{kind}" for kind in kinds])
    for option, columns in {
        "action": ["action"],
        "actor": ["actor_id", "actor_label", "actor_kind"],
        "object": ["object_id", "object_label"],
        "origin": ["origin"],
    }.items():
        where &= _any_of(columns, options[option])
    requests = [request_uuid(request) for request in options["request"]]
    return where & _any_of(["request"], requests)


def _any_of(columns: Iterable[str], values: Iterable[Any]) -> Q:
    """True for a record with one of the values in one of the columns; without values for every record."""
    return Q(*((column, value) for column in columns for value in values), _connector=Q.OR)


def _replace(file: Path, text: str) -> None:
    """Write the file as a whole or not at all, readable for its owner only."""
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as new:
            new.write(text)
            new.flush()
            os.fsync(new.fileno())
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


def _moment(text: str) -> datetime:
    if ago := _AGO.fullmatch(text):
        return timezone.now() - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a time like 2026-01-31T12:00 nor an age like 90m or 2d")
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0.05 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"must be a number from 0.05 to 60, not {text!r}")
    return seconds
