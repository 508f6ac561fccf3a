"""``manage.py rehearse_signups``: many signups at the same moment, on a scratch copy of this site."""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import psycopg2
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import Error as DatabaseError

from accounts.rehearsal import (
    MODES,
    Progress,
    Result,
    Scenario,
    Stage,
    in_words,
    rehearse,
    running_stage,
    scenarios,
    scratch_stage,
)
from config import assets
from config.browser import NoForm
from config.embedded_postgres import OWNER_ROLE, EmbeddedPostgresError
from config.env import Faults
from config.scratch import Database, ScratchError, migrate, own_database

CANNOT_RUN = 3
MOST_PEOPLE = 1000
MOST_CONNECTIONS = 180  # the scratch server takes 200, some of them kept for its administrator and for us
LOG_LINES = 20
BAR = 30  # characters
WIPE = "\r\033[K"  # the terminal's line
# Also of the database, whose exit code would be that of a failed verdict.
OBSTACLES = (
    DatabaseError,
    psycopg2.Error,
    ScratchError,
    EmbeddedPostgresError,
    Faults,
    NoForm,
    OSError,
    http.client.HTTPException,
    subprocess.SubprocessError,
)

StageOf = Callable[[Scenario], AbstractContextManager[Stage]]


class Command(BaseCommand):
    help = (
        "Let many people sign up at the same moment, over real HTTP, on a scratch copy of this site: this code, "
        "these settings, a throw-away PostgreSQL. The site's own data is not touched. Exit code 0 when exactly those "
        "got in who must, 1 when not, 3 when it cannot run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("-n", type=_within(1, MOST_PEOPLE), default=200, metavar="N", help="how many people (200)")
        parser.add_argument("--processes", type=_within(1, 16), default=2, metavar="N", help="of the web server (2)")
        parser.add_argument(
            "--mode", choices=MODES, default="all", help="one name, distinct names, one invitation, or all of them"
        )
        parser.add_argument("--json", action="store_true", help="for programs")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--keep", action="store_true", help="keep the scratch database until Ctrl-C")
        where.add_argument("--url", help="a site that runs already, open to everybody; its new accounts stay")
        parser.add_argument(
            "--yes-make-accounts", action="store_true", help="with --url outside development: yes, make them"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        self._refuse_what_cannot_be(options)
        # A polite end clears up as Ctrl-C does.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            results = self._on_running_site(options) if options["url"] else self._on_scratch_site(options)
        except KeyboardInterrupt:
            self.stderr.write("Stopped.")
            raise SystemExit(130) from None
        except OBSTACLES as error:
            raise CommandError(f"The rehearsal cannot run: {error}", returncode=CANNOT_RUN) from error
        if not all(result.holds for result in results):
            raise SystemExit(1)

    def _refuse_what_cannot_be(self, options: dict[str, Any]) -> None:
        refusal = ""
        if options["url"] and not (settings.DEVELOPMENT or options["yes_make_accounts"]):
            refusal = "--url makes accounts that stay. If that site may have them, say --yes-make-accounts."
        elif options["url"] and options["mode"] == "invitation":
            refusal = "Invitations are rehearsed on a scratch site only; leave --url out."
        elif options["processes"] * (settings.WEB_THREADS + 1) > MOST_CONNECTIONS:
            refusal = (
                f"{options['processes']} processes with WEB_THREADS={settings.WEB_THREADS} want more connections than "
                "the scratch database has. Choose fewer of either."
            )
        if refusal:
            raise CommandError(refusal, returncode=CANNOT_RUN)

    def _on_running_site(self, options: dict[str, Any]) -> list[Result]:
        wanted = [each for each in scenarios(options["mode"], options["n"]) if not each.uses]
        results = [self._rehearse(each, partial(running_stage, options["url"])) for each in wanted]
        self._print(results, options["json"])
        return results

    def _on_scratch_site(self, options: dict[str, Any]) -> list[Result]:
        if not settings.DEBUG:
            assets.collect()
        with own_database(migrated=False) as database:
            database.be_durable()  # production refuses any other
            migrate(database.environment)
            stage_of = partial(scratch_stage, database, processes=options["processes"])
            results = [self._rehearse(each, stage_of) for each in scenarios(options["mode"], options["n"])]
            self._print(results, options["json"])
            if options["keep"]:
                self._keep(database)
        return results

    def _rehearse(self, scenario: Scenario, stage_of: StageOf) -> Result:
        with self._progress_bar(scenario.name, scenario.people) as progress, stage_of(scenario) as stage:
            result = rehearse(scenario, stage, progress)
            words = stage.log().splitlines()[-LOG_LINES:] if result.facts["server_errors"] else []
        if words:
            self.stderr.write("\n".join(["The site's last words:", *words]))
        return result

    @contextmanager
    def _progress_bar(self, name: str, total: int) -> Iterator[Progress]:
        """On a terminal a bar, which is wiped away at the end; nothing in a pipe."""
        if not sys.stderr.isatty():
            yield lambda done, total: None
            return

        def show(done: int, total: int) -> None:
            bar = "#" * (BAR * done // total)
            sys.stderr.write(f"{WIPE}{name:<12} [{bar:<{BAR}}] {done}/{total}")
            sys.stderr.flush()

        show(0, total)
        try:
            yield show
        finally:
            sys.stderr.write(WIPE)
            sys.stderr.flush()

    def _print(self, results: list[Result], as_json: bool) -> None:
        if as_json:
            rehearsals = [{**each.facts, "holds": each.holds, "faults": each.faults} for each in results]
            holds = all(each.holds for each in results)
            self.stdout.write(json.dumps({"holds": holds, "rehearsals": rehearsals}, indent=2))
        else:
            self.stdout.write("\n".join([*_table(results), "", *_verdict(results)]))
        self.stdout.flush()

    def _keep(self, database: Database) -> None:
        psql = database.cluster.binaries / "psql"
        self.stderr.write(
            "The scratch database is kept until Ctrl-C. Look at it with:\n"
            f"  {psql} -h {database.cluster.socket_directory()} -U {OWNER_ROLE} {database.name}"
        )
        try:
            while True:
                signal.pause()
        except KeyboardInterrupt:
            self.stderr.write("Removed.")


def _within(low: int, high: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"must be a number from {low} to {high}, not {text!r}")
        return int(text)

    return number


def _table(results: list[Result]) -> list[str]:
    """A line for each figure, a column for each rehearsal."""
    rows = list(_rows([result.facts for result in results]))
    rows.append(("verdict", ["holds" if result.holds else "FAILS" for result in results]))
    first = max(len(name) for name, _cells in rows)
    width = max(len(result.scenario.name) for result in results) + 2
    return [f"{name:<{first}}" + "".join(f"{cell!s:>{width}}" for cell in cells) for name, cells in rows]


def _rows(columns: list[dict[str, Any]]) -> Iterator[tuple[str, list[Any]]]:
    for name in columns[0]:
        cells = [column[name] for column in columns]
        if not isinstance(cells[0], dict):
            yield in_words(name), ["-" if cell is None else cell for cell in cells]
            continue
        kinds = sorted({kind for cell in cells for kind in cell})
        yield in_words(name), [sum(cell.values()) for cell in cells]
        yield from ((f"  {kind}", [cell.get(kind, 0) for cell in cells]) for kind in kinds)


def _verdict(results: list[Result]) -> list[str]:
    failed = [f"{each.scenario.name} fails: {'; '.join(each.faults)}." for each in results if not each.holds]
    return failed or ["All verdicts hold: exactly those got in who must."]
