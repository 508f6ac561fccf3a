"""The parts of the bench."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Callable

from tests.bench.figures import Figure
from tests.live import Database, own_database

# Whatever .env says, so that two runs measure the same thing.
ENVIRONMENT = {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "ENVIRONMENT": "development",
    "SECRET_KEY": secrets.token_urlsafe(64),
    "SIGNUP_MODE": "open",
    "PASSWORD_HASHER": "bcrypt",
    "BCRYPT_ROUNDS": "12",
    "LOG_LEVEL": "warning",
    "DEBUG": "off",
}


def measure(part: str, options: argparse.Namespace) -> list[Figure]:
    """Measure one of `PARTS` on a database of its own; once in a process, whose settings name that database."""
    os.environ.update(ENVIRONMENT)
    with own_database(migrated=False) as database:
        os.environ.update(database.environment)
        _set_up()
        return PARTS[part](database, options)


def _set_up() -> None:
    """Let this process use the part's database, with the sample app that the audited writes need."""
    import django
    from django.conf import settings

    settings.INSTALLED_APPS.append("tests.hostapp")
    django.setup()

    from django.core.management import call_command
    from django.test.utils import setup_test_environment

    from config import assets

    assets.collect()
    call_command("migrate", verbosity=0, run_syncdb=True)
    setup_test_environment()


def _signups(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import answers, signup

    database.be_durable()
    return [
        *signup.throughput(options.rounds),
        *signup.statements(),
        *signup.answer_times(options.pairs),
        *answers.answer_times(database, options.pairs),
    ]


def _audited_writes(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import audit

    return audit.write_ratios(options.turns)  # nothing waits for a disk, which would hide the price


def _audit_reading(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import audit_reading

    return audit_reading.reading_times(database)


def _audit_storage(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import audit_storage

    database.be_durable()
    return audit_storage.figures(database)


def _watch(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import audit_watch

    return audit_watch.polls(database)


def _probes(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import health

    return health.probes(database)


def _health_figures(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import health_figures

    return health_figures.measure(database)


def _passwords(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import passwords

    return passwords.meter_times()


def _backups(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import backups

    database.be_durable()
    return backups.drill(database)


def _people(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import accounts_at_scale, people_pages

    accounts_at_scale.fill(database)
    return [*people_pages.page_times(), *accounts_at_scale.measure()]


def _seeding(database: Database, options: argparse.Namespace) -> list[Figure]:
    from tests.bench import seeding

    database.be_durable()
    return seeding.rates(database)


PARTS: dict[str, Callable[[Database, argparse.Namespace], list[Figure]]] = {
    "signups": _signups,
    "writes": _audited_writes,
    "reading": _audit_reading,
    "storage": _audit_storage,
    "watch": _watch,
    "probes": _probes,
    "statistics": _health_figures,
    "passwords": _passwords,
    "people": _people,
    "backups": _backups,
    "seeding": _seeding,
}
