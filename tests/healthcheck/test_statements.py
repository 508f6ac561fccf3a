"""Every statement is counted by its shape, and runs as if nobody counted."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError, OperationalError, connection, transaction
from structlog.testing import capture_logs

from config.database.deadline import blocking_copy
from healthcheck.metrics import statements
from healthcheck.metrics.tallies import Tallies

pytestmark = pytest.mark.django_db
Counts = dict[tuple[str, str, str], float]


def counts(counted: Tallies, kind: str = "statement") -> Counts:
    found: Counts = {}
    for (of_kind, *labels), pairs in counted.of_host().items():
        if of_kind == kind:
            operation, table, text = labels
            found[operation, table, text] = sum(count for count, _seconds in pairs)
    return found


def by_table(counted: Tallies, operation: str, table: str = "auth_group") -> float:
    return sum(count for (of, about, _text), count in counts(counted).items() if (of, about) == (operation, table))


def test_equal_statements_count_as_one_shape_with_their_time(counted: Tallies) -> None:
    for name in ("one", "two", "three"):
        list(Group.objects.filter(name=name))
    ((labels, times),) = counts(counted).items()
    assert labels[:2] == ("select", "auth_group") and times == 3
    ((_count, seconds),) = counted.of_host()["statement", *labels]
    ((slowest, _hour),) = counted.of_host()["slowest", *labels]
    assert 0 < slowest <= seconds < 1


def test_what_took_most_time_comes_first(counted: Tallies) -> None:
    with connection.cursor() as cursor:
        for _time in range(3):
            cursor.execute("SELECT 'quick'")
        cursor.execute("SELECT pg_sleep(0.05)")
    first, second = statements.of_host(counted.of_host())
    assert (first.shape.text, first.count) == ("SELECT pg_sleep(?)", 1)
    assert (second.shape.text, second.count, second.errors) == ("SELECT ?", 3, 0)
    assert first.slowest == first.seconds >= 0.05


def test_literals_that_somebody_wrote_into_sql_are_in_no_shape(counted: Tallies) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT id FROM auth_group WHERE name = 'hunter2' OR id = 4711")
    assert counts(counted) == {("select", "auth_group", "SELECT id FROM auth_group WHERE name = ? OR id = ?"): 1}


def test_one_that_fails_is_counted_as_such_and_its_error_is_the_callers(counted: Tallies) -> None:
    with pytest.raises(DatabaseError, match="division by zero"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT 1 / 0")
    assert counts(counted, "failure") == {("select", "other", "SELECT ? / ?"): 1}


def test_many_at_once_server_side_cursors_and_copy_work_as_before(counted: Tallies) -> None:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO auth_group (name) VALUES (%s)", [("one",), ("two",)])
        with blocking_copy():
            cursor.copy_expert("COPY auth_group (name) FROM STDIN", io.StringIO("three\n"))
    with transaction.atomic():
        assert {group.name for group in Group.objects.iterator(chunk_size=1)} >= {"one", "two", "three"}
    assert by_table(counted, "insert") == 1  # executemany is one call
    assert by_table(counted, "select") == 1


def test_a_connection_is_wrapped_once_however_often_it_is_opened(counted: Tallies) -> None:
    for _time in range(3):
        statements._connected(None, connection)
    assert connection.execute_wrappers.count(statements.measured) == 1
    assert counted.of_host()["connection", "opened"] == [(3, 0)]


def test_whoever_connects_within_a_wrapper_of_their_own_takes_just_that_away_again() -> None:
    other = connection.copy()
    with other.execute_wrapper(lambda execute, *about: execute(*about)):
        other.ensure_connection()
    other.close()
    assert other.execute_wrappers == [statements.measured]


def test_a_failure_to_count_is_logged_and_the_statement_goes_on(
    counted: Tallies, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> None:
        raise LookupError("a mistake of ours")

    monkeypatch.setattr(counted, "took", fail)
    with capture_logs() as lines:
        assert Group.objects.filter(name="nobody").count() == 0
    assert [line["event"] for line in lines] == ["metrics.statement_not_counted"]


def test_a_connection_that_cannot_be_opened_is_counted(counted: Tallies) -> None:
    other = connection.copy()
    other.settings_dict = connection.settings_dict | {"NAME": "no_such_database"}
    with pytest.raises(OperationalError):
        other.ensure_connection()
    assert counted.of_host()["connection", "failed"] == [(1, 0)]
