"""A PostgreSQL for tests of how the trail is kept, where a superuser is at hand and no transaction of others runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg2
import pytest
from django.db import connection

from auditlog import sealing, verifying
from auditlog.events import record
from auditlog.verifying import Report
from tests.auditlog.storage.database import used_by_django
from tests.live import Database, own_database

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker


@dataclass
class Trail:
    """The audit trail that Django uses, as the runtime role, and `database` for whoever rules it."""

    database: Database

    def record(self, *labels: str, **values: Any) -> list[int]:
        """Record an event for each label; returns their ids."""
        for label in labels:
            record("noted", "test", label=label, **values)
        return [number for (number,) in self.rows("SELECT id FROM auditlog_record ORDER BY id")][-len(labels) :]

    def sealed(self, *labels: str, **values: Any) -> list[int]:
        ids = self.record(*labels, **values)
        sealing.seal()
        return ids

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.database.rows(statement, *values)

    def tamper(self, statement: str) -> None:
        """As a superuser who has switched the triggers off."""
        self.rows(f"SET session_replication_role = replica; {statement}")

    def verify(self, expect: str = "") -> Report:
        return verifying.verify(expect=expect)

    def faults(self, expect: str = "") -> list[tuple[str, int | None]]:
        """What is broken, with the record that is named."""
        return [(str(each.fault), each.record) for each in self.verify(expect).findings]

    @contextlib.contextmanager
    def another(self, role: str = "postgres") -> Iterator[Any]:
        """A cursor of somebody else's open transaction."""
        host = str(self.database.cluster.socket_directory())
        other = psycopg2.connect(host=host, dbname=self.database.name, user=role)
        try:
            with other.cursor() as cursor:
                yield cursor
        finally:
            other.close()


@pytest.fixture(scope="session")
def own_server() -> Iterator[Database]:
    with own_database() as database:
        yield database


@pytest.fixture
def trail(own_server: Database, django_db_blocker: DjangoDbBlocker) -> Iterator[Trail]:
    """An empty trail, with a week before the present one."""
    trail = Trail(own_server)
    trail.tamper("DELETE FROM auditlog_record; DELETE FROM auditlog_seal")
    trail.rows("SELECT auditlog_make_week(date_trunc('week', now(), 'UTC') - interval '1 week')")
    with django_db_blocker.unblock(), used_by_django(own_server):
        yield trail
        connection.close()
