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
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--rounds", type=int, default=7, help="alternating rounds of hashes and signups (7)")
    parser.add_argument(
        "--pairs",
        type=int,
        default=15,
        help="signups and logins, each with a known and with an unknown account (15)",
    )
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    with own_database() as database:
        database.be_durable()
        os.environ.update(database.environment)
        figures = _measure(database, options.rounds, options.pairs)
    sys.stdout.write(json.dumps(as_facts(figures), indent=2) + "\n" if options.json else as_table(figures))
    return 1 if any(figure.missed for figure in figures) else 0


def _measure(database: Database, rounds: int, pairs: int) -> list[Figure]:
    import django

    django.setup()
    from django.test.utils import setup_test_environment

    from tests.bench import answers, signup

    setup_test_environment()
    return [
        *signup.throughput(rounds),
        *signup.statements(),
        *signup.answer_times(pairs),
        *answers.answer_times(database, pairs),
    ]


if __name__ == "__main__":
    sys.exit(main())
