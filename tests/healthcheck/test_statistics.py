"""The database's figures come from its catalogue, whatever others do to its tables, and hold nobody's values."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg2
import pytest
from django.contrib.auth.models import Group
from django.db import connection

from config.database.roles import OWNER_ALIAS, as_owner
from config.database.settings import databases
from config.env import Environment
from healthcheck import statistics
from healthcheck.ping import LIMITS, NoAnswer, Ping
from healthcheck.statistics import Statistics, Table

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 5.0  # seconds that a loaded machine may take


def take() -> Statistics:
    return statistics.take(PATIENCE)


def table(name: str) -> Table:
    (found,) = (table for table in take().tables if table.name == name)
    return found


def as_owner_run(statement: str) -> None:
    with as_owner(), connection.cursor() as cursor:
        cursor.execute(statement)


@contextmanager
def session(**changes: Any) -> Iterator[Any]:
    """Another session of the test database."""
    parameters = connection.get_connection_params() | changes
    with closing(psycopg2.connect(**parameters)) as other:
        other.autocommit = True
        yield other


def test_a_table_is_known_by_its_estimates_and_sizes() -> None:
    Group.objects.bulk_create(Group(name=f"group {number}") for number in range(500))
    as_owner_run("VACUUM ANALYZE auth_group")
    groups = table("auth_group")
    assert groups.rows == Group.objects.count()
    sizes = "SELECT pg_relation_size('auth_group'), pg_indexes_size('auth_group')"
    with connection.cursor() as cursor:
        cursor.execute(sizes)
        assert (groups.bytes, groups.index_bytes) == cursor.fetchone()
    assert groups.total_bytes == groups.bytes + groups.index_bytes
    assert groups.vacuumed and groups.analyzed


def test_the_size_of_the_database_is_right_within_a_few_percent() -> None:
    as_owner_run("VACUUM")
    assert take().database.bytes == pytest.approx(value("SELECT pg_database_size(current_database())"), rel=0.2)


def test_partitions_are_summed_up_into_their_table() -> None:
    Group.objects.bulk_create(Group(name=f"group {number}") for number in range(50))
    as_owner_run("ANALYZE auditlog_record")
    trail = table("auditlog_record")
    assert trail.partitions > 26
    assert trail.rows >= 50
    assert not [each.name for each in take().tables if each.name.startswith("auditlog_record_")]


def test_a_table_that_somebody_rebuilds_is_not_waited_for() -> None:
    with session() as other, other.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE auth_group IN ACCESS EXCLUSIVE MODE")
        assert table("auth_group").index_bytes > 0


def test_sessions_of_another_role_are_counted_though_what_they_do_is_not_visible() -> None:
    owner = databases(Environment())[OWNER_ALIAS]["USER"]
    with session(user=owner), session():
        found = take().connections
    assert found.states["not visible"] >= 1
    assert found.states["idle"] >= 1
    server = next(cap for cap in found.caps if cap.of == "server")
    assert server.used == sum(found.states.values())


def test_each_limit_of_sessions_is_told() -> None:
    name = connection.settings_dict["NAME"]
    as_owner_run(f'ALTER DATABASE "{name}" CONNECTION LIMIT 40')
    try:
        found = take().connections
    finally:
        as_owner_run(f'ALTER DATABASE "{name}" CONNECTION LIMIT -1')
    most = {cap.of: cap.most for cap in found.caps}
    assert most["database"] == 40
    assert most["role"] is None
    assert most["server"] == int(value("SHOW max_connections")) - int(value("SHOW superuser_reserved_connections"))


def value(statement: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchone()[0]


def test_what_runs_for_long_and_who_waits_is_listed_without_values() -> None:
    with session(application_name="slowcoach") as other, other.cursor() as cursor:
        running = threading.Thread(target=sleep, args=(cursor,))
        running.start()
        deadline = time.monotonic() + PATIENCE
        while not (found := take().running) and time.monotonic() < deadline:
            time.sleep(0.05)
        other.cancel()
        running.join()
    ((pid, text, seconds),) = ((each.pid, each.text, each.seconds) for each in found if each.application == "slowcoach")
    assert pid and text == "SELECT pg_sleep(?), ?" and seconds >= statistics.RUNNING_SECONDS


def sleep(cursor: Any) -> None:
    with pytest.raises(psycopg2.Error):
        cursor.execute("SELECT pg_sleep(30), 'hunter2'")


def test_the_oldest_transaction_and_waiting_locks_show() -> None:
    Group.objects.create(name="one")
    with session() as first, session() as second, first.cursor() as holder, second.cursor() as waiter:
        holder.execute("BEGIN; UPDATE auth_group SET name = 'two' WHERE name = 'one'")
        waiting = threading.Thread(target=update, args=(waiter,))
        waiting.start()
        deadline = time.monotonic() + PATIENCE
        while not take().activity.lock_waits and time.monotonic() < deadline:
            time.sleep(0.02)
        activity = take().activity
        holder.execute("ROLLBACK")
        waiting.join()
    assert activity.lock_waits >= 1  # of the whole server, where other tests wait too
    assert activity.oldest_transaction and activity.oldest_transaction > 0
    assert activity.replicas == () and activity.own_lag is None


def update(cursor: Any) -> None:
    cursor.execute("UPDATE auth_group SET name = 'three' WHERE name = 'one'")


def test_indexes_that_are_invalid_or_large_and_unused_are_named() -> None:
    as_owner_run(
        "CREATE TABLE big (a int, b int); INSERT INTO big SELECT n, 7 FROM generate_series(1, 60000) n;"
        "CREATE INDEX unused ON big (a); ANALYZE big"
    )
    try:
        with pytest.raises(Exception, match="could not create unique index"):
            as_owner_run("CREATE UNIQUE INDEX CONCURRENTLY broken ON big (b)")
        found = take()
    finally:
        as_owner_run("DROP TABLE big")
    assert [(index.name, index.table) for index in found.unused_indexes] == [("unused", "big")]
    assert [index.name for index in found.invalid_indexes] == ["broken"]


def test_pg_stat_statements_is_used_where_it_is_and_shows_no_values() -> None:
    assert take().slow is None
    as_owner_run(
        "CREATE VIEW pg_stat_statements AS SELECT d.oid AS dbid, 'CREATE ROLE x PASSWORD ''hunter2'''::text AS query,"
        " 7::bigint AS calls, 70::float8 AS total_exec_time, 20::float8 AS max_exec_time, 0::bigint AS rows"
        " FROM pg_database d WHERE datname = current_database();"
        " GRANT SELECT ON pg_stat_statements TO PUBLIC"
    )
    try:
        (slow,) = take().slow or ()
        as_owner_run("REVOKE SELECT ON pg_stat_statements FROM PUBLIC")
        assert take().slow is None  # not readable
    finally:
        as_owner_run("DROP VIEW pg_stat_statements")
    assert (slow.text, slow.calls, slow.slowest) == ("CREATE ROLE x PASSWORD ?", 7, 20)


def test_the_timeouts_are_the_questions_own_and_end_with_it() -> None:
    ping = Ping()
    try:
        ((statement, lock),) = ping.ask(
            LIMITS + "SELECT current_setting('statement_timeout'), current_setting('lock_timeout')", PATIENCE
        )
        assert (statement, lock) == ("2s", "500ms")
        assert ping.ask("SHOW lock_timeout", PATIENCE) == [("5s",)]
        with session() as other, other.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE auth_group IN ROW SHARE MODE")
            with pytest.raises(NoAnswer, match="LockNotAvailable"):
                ping.ask(f"{LIMITS} LOCK TABLE auth_group; SELECT 1", PATIENCE)
    finally:
        ping.close()


def test_the_figures_are_shared_and_the_last_ones_stay_while_the_database_is_away(settings: Any) -> None:
    statistics._shared.forget()
    first = statistics.current()
    assert first is not None and statistics.current() is first
    settings.HEALTH_STATISTICS_SECONDS = 0
    statistics._shared.forget()
    second = statistics.current()
    assert second is not None and second is not first
    port = connection.settings_dict["PORT"]
    connection.settings_dict["PORT"] = "1"
    try:
        statistics._shared.forget()
        assert statistics.current() is second
    finally:
        connection.settings_dict["PORT"] = port
        statistics._shared.forget()
    assert second.age > 0
