"""A trail in another database, as a dump brings it there: it proves itself, and what was done to it there is found."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

import auditlog
from accounts.models import User
from auditlog import Actor, erasing, sealing
from auditlog.events import record
from auditlog.models import Record, Seal
from config.embedded_postgres import OWNER_ROLE, SUPERUSER
from tests.auditlog.storage.conftest import Trail
from tests.auditlog.storage.database import used_by_django
from tests.live import Database

NAME = "restored"


def run(database: Database, program: str, *arguments: str | Path, **options: str) -> str:
    cluster = database.cluster
    path = cluster.binaries / program
    if not path.exists():
        pytest.skip(f"this PostgreSQL comes without {program}")
    where = ("-h", cluster.socket_directory(), "-U", SUPERUSER)
    done = cluster._account.run(path, *where, *arguments, cwd="/", **options)
    assert done.returncode == 0, done.stdout[-500:]
    return done.stdout


@pytest.fixture
def restored(trail: Trail) -> Iterator[Trail]:
    """A copy of a trail of three records, by pg_dump and psql; one of them has something erased, one is not sealed."""
    with auditlog.acting_as(Actor("user", "7", "ada"), reason="tab\t and \\ and ünïcode"):
        record("one", "test", label="a", old={"n": 1.50}, new={"at": "x"}, personal={"p": 1})
    sealing.seal()
    record("two", "test", label="erase me")
    sealing.seal()
    erasing.erase(User(pk=uuid.uuid4()), labels=["erase me"])
    dump = run(trail.database, "pg_dump", "--dbname", trail.database.name)
    connection.close()
    server = Database(trail.database.cluster, "postgres")
    server.rows(f"CREATE DATABASE {NAME} OWNER {OWNER_ROLE}")
    run(trail.database, "psql", "--dbname", NAME, "-q", "-v", "ON_ERROR_STOP=1", input=dump)
    copy = Database(trail.database.cluster, NAME)
    try:
        with used_by_django(copy):
            yield Trail(copy)
    finally:
        server.rows(f"DROP DATABASE {NAME} WITH (FORCE)")


def test_a_restored_trail_verifies_and_goes_on(restored: Trail) -> None:
    report = restored.verify()
    assert (report.ok, report.seals, report.records, report.erased, report.unsealed) == (True, 2, 2, 1, 1)
    # Transactions count anew here: what was not sealed there is, and what comes now too.
    (number,) = restored.record("three")
    assert Record.objects.get(pk=number).epoch == 2
    assert sealing.seal() == 2
    assert sorted(Seal.objects.values_list("epoch", flat=True)) == [1, 1, 1, 2]
    report = restored.verify()
    assert (report.ok, report.records, report.unsealed) == (True, 4, 0)


@pytest.mark.parametrize("off", ["SET session_replication_role = replica", "ALTER TABLE {} DISABLE TRIGGER ALL"])
@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("UPDATE auditlog_record SET reason = 'x' WHERE id = {}", "changed"),
        ("DELETE FROM auditlog_record WHERE id = {}", "removed"),
    ],
)
def test_what_a_superuser_does_to_it_there_is_found(restored: Trail, off: str, change: str, fault: str) -> None:
    (number, table) = restored.rows("SELECT id, tableoid::regclass FROM auditlog_record WHERE action = 'one'")[0]
    restored.rows(f"{off.format(table)}; {change.format(number)}")
    assert restored.faults() == [(fault, number)]
