"""``manage.py seed``: fill a database of development with made-up people and their history."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from datetime import date
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError

from accounts import seeding
from accounts.seeding import Outcome, Plan
from config.progress import progress_bar

MOST = 50_000_000


class Command(BaseCommand):
    help = (
        "Make up people who cannot sign in, their invitations, sign-ins and lock-outs: always the same ones for the "
        "same seed. Who is there already is left alone, so a run that was interrupted goes on, and one with a greater "
        "number adds the rest. Every row is recorded in the audit trail as made up. Exit code 130: interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("people", type=_number, metavar="PEOPLE", help="how many people there shall be")
        parser.add_argument(
            "--invitations", type=_number, metavar="N", help="at most a quarter of the people; default: a tenth"
        )
        parser.add_argument("--seed", type=_number, default=1, metavar="N", help="which people (1)")
        parser.add_argument("--days", type=_number, metavar="N", help="over which they came; as last time, else 365")
        parser.add_argument(
            "--until", type=_day, metavar="DATE", help="before which they came; as last time with this seed, else today"
        )
        parser.add_argument("--json", action="store_true", dest="as_json", help="for programs")
        parser.add_argument(
            "--yes-make-up-people", action="store_true", help="outside development: yes, into this database"
        )

    def handle(self, *args: Any, as_json: bool, **options: Any) -> None:
        if not (settings.DEVELOPMENT or options["yes_make_up_people"]):
            raise CommandError(
                "Made-up people stay among the real ones. If this database may have them, say --yes-make-up-people."
            )
        plan = _plan(options)
        try:
            with progress_bar() as tell:
                outcome = seeding.fill(plan, tell=tell)
        except IntegrityError as error:
            raise CommandError(
                "Somebody who was not made up with this seed, --until and --days has one of these names or addresses. "
                f"What is whole stays. The database says: {str(error).splitlines()[0]}"
            ) from error
        self.stdout.write(json.dumps(outcome.facts, indent=2, default=str) if as_json else _words(outcome))
        if outcome.interrupted:
            raise SystemExit(130)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) > MOST:
        raise ArgumentTypeError(f"must be a number up to {MOST:,}")
    return int(text)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError("must be a date like 2026-11-30") from None


def _plan(options: dict[str, Any]) -> Plan:
    people, seed = options["people"], options["seed"]
    most = people // seeding.PEOPLE_PER_INVITATION
    invitations = min(people // 10, most) if options["invitations"] is None else options["invitations"]
    if invitations > most:
        raise CommandError(f"Of {people:,} people at most {most:,} can be said to have come by an invitation.")
    until, days = seeding.remembered(seed) or (seeding.today(), 365)
    plan = Plan(
        people=people,
        invitations=invitations,
        seed=seed,
        until=options["until"] or until,
        days=days if options["days"] is None else options["days"],
    )
    if not 1 <= plan.days <= (plan.until - date(1970, 1, 1)).days or plan.until > seeding.today():
        raise CommandError("People come on days between 1970 and today: see --until and --days.")
    return plan


def _words(outcome: Outcome) -> str:
    plan = outcome.plan
    there = plan.people - outcome.people
    words = f"Made up {outcome.people:,} people and {outcome.invitations:,} invitations in {outcome.seconds:.1f} s"
    if outcome.interrupted:
        return f"{words}, then interrupted. The same command goes on."
    rate = f" ({outcome.facts['people_per_second']:,} people a second)" if outcome.people else ""
    return f"{words}{rate}; {there:,} people were there. Nobody of them can sign in."
