"""How fast `manage.py seed` makes people up, each with its records, on a durable server; ``SIZE`` says how many."""

from __future__ import annotations

from accounts import seeding
from accounts.seeding import Plan
from tests.bench.figures import Figure
from tests.bench.people import SIZE
from tests.live import Database

GOAL = 20_000  # people a second, on two cores that nobody else uses


def rates(database: Database) -> list[Figure]:
    outcome = seeding.fill(Plan(people=SIZE, invitations=SIZE // 10, seed=1, until=seeding.today(), days=365))
    size = int(database.value("SELECT pg_database_size(current_database())"))
    records = int(database.value("SELECT count(*) FROM auditlog_record WHERE reason = %s", seeding.REASON))
    return [
        Figure("people made up a second", outcome.people / outcome.people_seconds, digits=0, at_least=GOAL),
        Figure("with their invitations", outcome.people / outcome.seconds, digits=0),
        Figure("bytes of each, with its records", size / outcome.people, digits=0),
        Figure("records of each", records / outcome.people, digits=2, at_least=2),
    ]
