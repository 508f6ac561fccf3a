"""``make bench``: measure what the project promises, as ratios within one run, and compare with the goals.

Runs on a throw-away PostgreSQL of its own with the durability of the persistent one; it ends with the run.
Exit code 0 when every goal is met, else 1. ``--json`` is for programs.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from collections.abc import Callable

from tests.bench.figures import Figure, as_facts, as_table
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help=f"of {', '.join(PARTS)}; all without any")
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds of hashes and signups (7)")
    parser.add_argument(
        "--pairs",
        type=int,
        default=15,
        help="signups and logins, each with a known and with an unknown account (15)",
    )
    parser.add_argument("--turns", type=int, default=400, help="of each write, audited and not (400)")
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    figures: list[Figure] = []
    for part in options.parts or PARTS:
        with own_database(migrated=False) as database:
            os.environ.update(database.environment)
            _set_up()
            figures += PARTS[part](database, options)
    sys.stdout.write(json.dumps(as_facts(figures), indent=2) + "\n" if options.json else as_table(figures))
    return 1 if any(figure.missed for figure in figures) else 0


def _set_up() -> None:
    """Let this process use the part's database, with the sample app that the audited writes need."""
    import django
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    from config.database import embedded

    if not settings.configured or "tests.hostapp" not in settings.INSTALLED_APPS:
        settings.INSTALLED_APPS.append("tests.hostapp")
        django.setup()
    embedded.cluster.cache_clear()
    connections.close_all()
    call_command("migrate", verbosity=0, run_syncdb=True)


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


PARTS: dict[str, Callable[[Database, argparse.Namespace], list[Figure]]] = {
    "signups": _signups,
    "writes": _audited_writes,
    "reading": _audit_reading,
    "storage": _audit_storage,
    "watch": _watch,
}


if __name__ == "__main__":
    sys.exit(main())
