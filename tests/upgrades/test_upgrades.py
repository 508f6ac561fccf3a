"""Today's code on the database of every earlier release, and back to nothing. `README.md` says how dumps are made."""

from __future__ import annotations

import json
import lzma
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from accounts.rehearsal import in_parallel
from config.embedded_postgres import OWNER_ROLE, SUPERUSER
from config.scratch import clean_environment
from tests.live import PASSWORD, ROOT, Database, own_database
from tests.upgrades.make import KEYS

HERE = Path(__file__).parent
RELEASES = sorted(path.stem for path in HERE.glob("*.json"))
# What an upgrade writes to by itself: rights, roles, what a start records. Of all else not a row may come or go.
GROWS = ("auth_", "django_", "auditlog_", "accounts_user_groups")


def run(database: Database, work: str) -> Any:
    keys = {**KEYS, "PASSWORD": PASSWORD, "BCRYPT_ROUNDS": "4", "DEBUG": "off", "LOG_LEVEL": "error"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.upgrades.upgrade", work],
        cwd=ROOT,
        env=clean_environment({**database.environment, **keys, "DJANGO_SETTINGS_MODULE": "config.settings"}),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def restored(fresh: Database, release: str) -> Database:
    database = Database(fresh.cluster, release.replace("-", "_"))
    fresh.rows(f"CREATE DATABASE {database.name} OWNER {OWNER_ROLE}")
    program, socket = fresh.cluster.binaries / "psql", str(fresh.cluster.socket_directory())
    options = ("--quiet", "--set=ON_ERROR_STOP=1", "--single-transaction", "--output=/dev/null")
    subprocess.run(
        [program, *options, "--host", socket, "--username", SUPERUSER, database.name],
        check=True,
        input=lzma.decompress((HERE / f"{release}.sql.xz").read_bytes()),
    )
    return database


@pytest.fixture(scope="module")
def fresh() -> Iterator[Database]:
    with own_database() as database:
        yield database


@pytest.fixture(scope="module")
def databases(fresh: Database) -> dict[str, Database]:
    return dict(zip(RELEASES, in_parallel([partial(restored, fresh, release) for release in RELEASES]), strict=True))


@pytest.fixture(scope="module")
def wanted(fresh: Database) -> list[str]:
    schema: list[str] = run(fresh, "schema")
    return schema


@pytest.fixture(scope="module")
def upgraded(databases: dict[str, Database]) -> dict[str, Any]:
    works = [partial(run, database, "upgrade") for database in databases.values()]
    return dict(zip(databases, in_parallel(works), strict=True))


@pytest.mark.parametrize("release", RELEASES)
def test_a_database_of_each_release_becomes_one_of_today(
    release: str, upgraded: dict[str, Any], wanted: list[str]
) -> None:
    before, after = json.loads((HERE / f"{release}.json").read_text())["rows"], upgraded[release]
    assert after["schema"] == wanted
    assert after["missing"] == []
    kept = {table: count for table, count in before.items() if not table.startswith(GROWS)}
    assert {table: after["rows"].get(table) for table in kept} == kept
    grown = {table: count for table, count in before.items() if table.startswith(GROWS)}
    assert all(after["rows"][table] >= count for table, count in grown.items())
    assert after["without_role"] == 0
    assert after["let_in"] == ["person6", "person7", "keeper"]
    assert after["trail"]["ok"]
    assert after["trail"]["seals"] == before.get("auditlog_seal", 0)


def test_every_migration_of_ours_reverses_and_applies_again(
    upgraded: dict[str, Any], databases: dict[str, Database], wanted: list[str]
) -> None:
    newest = RELEASES[-1]  # with rows of all kinds
    after = run(databases[newest], "back_and_forth")
    assert after == {"left": [], "schema": wanted, "missing": []}
