"""The history of statements: each count once, in its hour, whoever writes and however often."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.core.management import call_command

from healthcheck.metrics import statement_history
from healthcheck.metrics.slots import lock
from healthcheck.metrics.statements import HOUR
from healthcheck.metrics.tallies import Tallies, key_of
from healthcheck.models import Statement, StatementHour

pytestmark = pytest.mark.django_db
SHAPE = ("select", "auth_group", "SELECT ? FROM auth_group")


def this_hour() -> float:
    return datetime.now(UTC).timestamp() // HOUR


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Tallies]:
    made = Tallies()
    made.share(tmp_path)
    yield made
    made.keep_to_oneself()


def count(host: Tallies, times: int = 1, seconds: float = 0.5, failed: int = 0) -> None:
    for _time in range(times):
        host.took((key_of("statement", *SHAPE), ""), (key_of("slowest", *SHAPE), ""), seconds, this_hour())
    for _time in range(failed):
        host.add(key_of("failure", *SHAPE), "")


def test_each_count_is_written_once_into_the_row_of_its_hour(host: Tallies) -> None:
    count(host, 3, failed=1)
    assert statement_history.remember(host) == 1
    assert statement_history.remember(host) == 0
    count(host, 2, seconds=1.0)
    assert statement_history.remember(host) == 1
    row = StatementHour.objects.get()
    assert (row.count, row.milliseconds, row.slowest, row.errors) == (5, 3500, 1000, 1)
    assert (row.host, row.hour.timestamp() // HOUR) == (socket.gethostname(), this_hour())
    assert (row.statement.operation, row.statement.table, row.statement.text) == SHAPE


def test_what_all_processes_had_counted_is_known_to_the_next_writer(host: Tallies, tmp_path: Path) -> None:
    count(host, 3)
    statement_history.remember(host)
    another = Tallies()
    another.share(tmp_path)
    count(another, 4)
    assert statement_history.remember(another) == 1
    assert StatementHour.objects.get().count == 7
    another.keep_to_oneself()


def test_after_a_restart_of_all_counting_begins_again(host: Tallies, tmp_path: Path) -> None:
    count(host, 3)
    statement_history.remember(host)
    host.keep_to_oneself()
    host.share(tmp_path)
    count(host, 2)
    statement_history.remember(host)
    assert StatementHour.objects.get().count == 5


def test_a_lost_file_takes_nothing_back(host: Tallies, tmp_path: Path) -> None:
    count(host, 9)
    statement_history.remember(host)
    host.keep_to_oneself()
    kept = (tmp_path / "written.db").read_bytes()
    host.share(tmp_path)
    (tmp_path / "written.db").write_bytes(kept)  # more than there is now
    count(host, 2)
    statement_history.remember(host)
    assert StatementHour.objects.get().count == 11


def test_while_one_writes_another_leaves_it(host: Tallies, tmp_path: Path) -> None:
    count(host)
    held = lock(tmp_path / "written.lock")
    assert held is not None
    assert statement_history.remember(host) == 0
    os.close(held)
    assert statement_history.remember(host) == 1


def test_who_counts_alone_writes_nothing() -> None:
    alone = Tallies()
    count(alone)
    assert statement_history.remember(alone) == 0


def test_old_hours_are_cleaned_up_and_then_the_statements_that_only_they_had() -> None:
    now = datetime.now(UTC)
    for key, age in (("old", 31), ("new", 29)):
        statement = Statement.objects.create(key=key, operation="select", table="other", text=key)
        StatementHour.objects.create(statement=statement, hour=now - timedelta(days=age), host="a")
    call_command("cleanup", stdout=io.StringIO(), stderr=io.StringIO())
    assert [hour.statement_id for hour in StatementHour.objects.all()] == ["new"]
    assert [statement.key for statement in Statement.objects.all()] == ["new"]
