"""The weeks of the trail: made ahead, drained of strays, dropped by retention, and looked after by the worker."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import psycopg2
import pytest
from django.apps import apps
from django.db import DataError, connection
from django.utils import timezone
from pytest_django.fixtures import Settings

import auditlog
from auditlog import Actor, care, partitions, sealing, triggers
from auditlog.models import Record, Seal
from config import schedule
from tests.auditlog.storage.conftest import Trail

WEEK = timedelta(weeks=1)


def monday(weeks: int = 0) -> datetime:
    """When the week so many weeks from now opens."""
    today = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    return today - timedelta(days=today.weekday()) + weeks * WEEK


def name_of(opens: datetime) -> str:
    year, week, _day = opens.isocalendar()
    return f"auditlog_record_{year}w{week:02}"


def put(trail: Trail, at: datetime, number: int = 1) -> None:
    trail.rows(
        "INSERT INTO auditlog_record (at, transaction, epoch, origin, action, actor_kind, resource)"
        " SELECT %s, pg_current_xact_id()::text::bigint, auditlog_epoch(),"
        f" 'event', 'old', 'command', 'test' FROM generate_series(1, {number})",
        at,
    )


def places(trail: Trail) -> list[str]:
    found = trail.rows("SELECT tableoid::regclass::text FROM auditlog_record WHERE action = 'old' ORDER BY at")
    return [name for (name,) in found]


def exists(trail: Trail, opens: datetime) -> bool:
    return bool(trail.rows("SELECT to_regclass(%s) IS NOT NULL", name_of(opens))[0][0])


@pytest.fixture
def weeks(trail: Trail) -> Iterator[Trail]:
    """Partitions for the last twelve weeks; afterwards only those of last week and later are left."""
    trail.rows(
        "SELECT auditlog_make_week(date_trunc('week', now(), 'UTC') - make_interval(weeks => w))"
        " FROM generate_series(1, 12) w"
    )
    yield trail
    for partition in partitions.every():
        if partition.closes < monday() and partition.bytes is not None:
            trail.tamper(f"DROP TABLE {partition.name}")


def test_there_is_a_partition_for_each_of_the_next_26_weeks_and_more_when_asked(trail: Trail) -> None:
    assert partitions.make_ahead() == 0
    assert partitions.make_ahead(weeks=28) == 2
    assert partitions.make_ahead(weeks=28) == 0
    opens = [partition.opens for partition in partitions.every() if partition.opens >= monday()]
    assert opens == [monday(week) for week in range(29)]
    for week in (27, 28):
        trail.tamper(f"DROP TABLE {name_of(monday(week))}")


def test_every_partition_refuses_to_be_emptied_and_has_the_indexes_of_all(trail: Trail) -> None:
    partitions.make_ahead(weeks=27)
    indexes = "SELECT count(*) FROM pg_index WHERE indrelid = %s::regclass AND indisvalid"
    expected = trail.rows(indexes, "auditlog_record_default")
    for partition in partitions.every():
        assert trail.rows(indexes, partition.name) == expected
        with trail.another() as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute(f"TRUNCATE {partition.name}")
    trail.tamper(f"DROP TABLE {name_of(monday(27))}")


def test_what_lies_in_the_default_partition_moves_to_its_week_in_the_past_and_in_the_future(trail: Trail) -> None:
    for week in (-5, 27):
        put(trail, monday(week))
        put(trail, monday(week + 1) - timedelta(microseconds=1))
    sealing.seal()
    assert set(places(trail)) == {"auditlog_record_default"}
    assert partitions.make_ahead(weeks=27) == 2
    assert places(trail) == 2 * [name_of(monday(-5))] + 2 * [name_of(monday(27))]
    assert trail.verify().ok
    for week in (-5, 27):
        trail.tamper(f"DROP TABLE {name_of(monday(week))}")


def test_two_who_make_partitions_at_once_make_each_once(trail: Trail) -> None:
    barrier = Barrier(2)

    def make() -> int:
        barrier.wait()
        try:
            return partitions.make_ahead(weeks=30)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        made = [each.result() for each in [threads.submit(make) for _ in range(2)]]
    assert sorted(made) == [0, 4]
    for week in range(27, 31):
        trail.tamper(f"DROP TABLE {name_of(monday(week))}")


def test_purging_drops_whole_weeks_and_keeps_the_one_that_is_only_partly_older(weeks: Trail) -> None:
    for week in (-12, -11, -8, -7):
        put(weeks, monday(week), 100)
    put(weeks, monday(-20))  # in the default partition
    sealing.seal()
    size = sum(partition.bytes or 0 for partition in partitions.every())
    gone = partitions.purge(monday(-7) - timedelta(days=3))
    assert [partition.opens for partition in gone] == [monday(-20), *(monday(week) for week in range(-12, -8))]
    assert sum(partition.bytes or 0 for partition in gone) > 0
    assert size - sum(partition.bytes or 0 for partition in partitions.every()) == sum(each.bytes or 0 for each in gone)
    assert not exists(weeks, monday(-9)) and exists(weeks, monday(-8))
    assert Record.objects.filter(action="old").count() == 200


def test_a_purge_is_recorded_with_who_and_what_and_the_seals_of_the_rest_hold(weeks: Trail) -> None:
    for week in (-12, -6):
        put(weeks, monday(week), 5)
    sealing.seal()
    with auditlog.acting_as(Actor("user", "7", "ada")):
        partitions.purge(monday(-8))
    purge = Record.objects.get(action="purge")
    assert (purge.actor_id, purge.resource, purge.origin) == ("7", "auditlog.record", "event")
    assert purge.new == {
        "before": f"{monday(-8):%Y-%m-%dT%H:%M:%SZ}",
        "weeks": [f"{each:%G}w{each:%V}" for each in (monday(week) for week in range(-12, -8))],
    }
    report = weeks.verify()
    assert (report.ok, report.seals, report.purged, report.records) == (True, 2, 1, 5)
    oldest = Seal.objects.get(week=monday(-12))
    assert (oldest.ids, oldest.prefixes, oldest.salts, oldest.records) == (None, None, None, 5)


def test_what_a_purge_dropped_stays_accounted_for_when_its_record_is_gone_too(weeks: Trail) -> None:
    put(weeks, monday(-12))
    sealing.seal()
    partitions.purge(monday(-8))
    sealing.seal()
    assert Seal.objects.order_by("-id")[0].purged_before == monday(-8)
    (purge,) = Record.objects.filter(action="purge").values_list("id", flat=True)
    weeks.tamper(f"DELETE FROM auditlog_record WHERE id = {purge}")
    assert weeks.faults() == [("removed", purge)]


def test_what_comes_late_for_a_purged_week_is_sealed_and_guarded_like_the_rest(weeks: Trail) -> None:
    put(weeks, monday(-12))
    sealing.seal()
    partitions.purge(monday(-8))
    put(weeks, monday(-12) + timedelta(days=1))
    sealing.seal()
    report = weeks.verify()
    assert (report.ok, report.purged, report.unsealed) == (True, 1, 0)
    (late,) = Record.objects.filter(action="old").values_list("id", flat=True)
    weeks.tamper(f"UPDATE auditlog_record SET origin = 'sql' WHERE id = {late}")
    assert weeks.faults() == [("changed", late)]


def test_a_week_that_goes_without_a_purge_is_missed(weeks: Trail) -> None:
    put(weeks, monday(-12), 3)
    put(weeks, monday(-6))
    sealing.seal()
    weeks.rows(f"DROP TABLE {name_of(monday(-12))}")
    (finding,) = weeks.verify().findings
    assert (finding.fault, finding.week) == ("week_missing", monday(-12))


def test_a_purge_that_the_database_cannot_have_done_excuses_no_missing_week(weeks: Trail) -> None:
    put(weeks, monday(-2))
    sealing.seal()
    weeks.tamper(f"DROP TABLE {name_of(monday(-2))}")
    weeks.tamper(f"UPDATE auditlog_seal SET ids = NULL, prefixes = NULL, salts = NULL WHERE week = '{monday(-2)}'")
    weeks.tamper(
        "INSERT INTO auditlog_record (transaction, epoch, origin, action, actor_kind, resource, new)"
        " SELECT pg_current_xact_id()::text::bigint, auditlog_epoch(), 'event', 'purge', 'command', 'auditlog.record',"
        f" jsonb_build_object('before', '{monday():%Y-%m-%dT%H:%M:%SZ}')"
    )
    assert [fault for fault, _record in weeks.faults()] == ["week_missing"]


def test_nothing_to_purge_leaves_no_record(trail: Trail) -> None:
    assert partitions.purge(monday(-40)) == []
    assert not Record.objects.filter(action="purge").exists()


def test_the_database_itself_refuses_to_drop_what_is_younger_than_30_days(weeks: Trail) -> None:
    put(weeks, monday(-3))
    with pytest.raises(DataError, match="last 30 days"):
        partitions.purge(timezone.now() - timedelta(days=29, hours=23))
    with weeks.another("gatehouse_app") as cursor, pytest.raises(psycopg2.DataError):
        cursor.execute("SELECT auditlog_drop_partitions(now())")
    assert Record.objects.filter(action="old").count() == 1


def test_a_purge_outside_the_application_is_recorded_with_the_role(weeks: Trail) -> None:
    with weeks.another("gatehouse_app") as cursor:
        cursor.execute("SELECT auditlog_drop_partitions(%s)", [monday(-9)])
        cursor.connection.commit()
    purge = Record.objects.get(action="purge")
    assert (purge.actor_kind, purge.actor_id) == ("database", "gatehouse_app")


def test_a_purge_gives_way_to_whoever_reads_and_never_keeps_writers_waiting(
    weeks: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(weeks, monday(-12))
    monkeypatch.setattr(partitions, "TRIES", 2)
    with weeks.another() as reader, ThreadPoolExecutor(1) as threads:
        reader.execute("SELECT count(*) FROM auditlog_record")
        purging = threads.submit(partitions.purge, monday(-8))
        slowest = 0.0
        while not purging.done():
            begun = time.perf_counter()
            weeks.rows("SELECT auditlog_note('noted', 'test', NULL, NULL)")
            slowest = max(slowest, time.perf_counter() - begun)
        with pytest.raises(partitions.Busy):
            purging.result()
    assert slowest < 1
    assert exists(weeks, monday(-12))
    assert partitions.purge(monday(-8))


def test_a_lock_that_is_let_go_in_time_only_delays_the_purge(weeks: Trail) -> None:
    put(weeks, monday(-12))
    with weeks.another() as reader, ThreadPoolExecutor(1) as threads:
        reader.execute("SELECT count(*) FROM auditlog_record")

        def purge() -> int:
            try:
                return len(partitions.purge(monday(-8)))
            finally:
                connection.close()

        purging = threads.submit(purge)
        time.sleep(0.15)
        reader.connection.rollback()
        assert purging.result() == 4


def test_the_worker_makes_purges_and_seals_once_an_hour(
    weeks: Trail, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert care.tend in schedule._work
    settings.AUDITLOG_RETENTION_DAYS = 50
    weeks.tamper(f"DROP TABLE {name_of(monday(26))}")
    put(weeks, monday(-12))
    put(weeks, monday(-2))
    monkeypatch.setattr(care, "_due", 0.0)
    assert care.tend()
    assert exists(weeks, monday(26)) and not exists(weeks, monday(-12)) and exists(weeks, monday(-2))
    assert Seal.objects.exists()
    weeks.record("later")
    assert not care.tend()
    assert weeks.verify().unsealed


def test_what_the_worker_could_not_do_it_tries_again_at_the_next_turn(
    weeks: Trail, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(weeks, monday(-12))
    settings.AUDITLOG_RETENTION_DAYS = 50
    monkeypatch.setattr(care, "_due", 0.0)
    monkeypatch.setattr(partitions, "TRIES", 1)
    with weeks.another() as reader:
        reader.execute("SELECT count(*) FROM auditlog_record")
        assert care.tend()
    assert exists(weeks, monday(-12))
    assert care.tend()
    assert not exists(weeks, monday(-12))
    assert not care.tend()


def test_the_state_of_the_trail_is_told(trail: Trail) -> None:
    put(trail, monday(-40), 3)
    state = care.state()
    assert (state.weeks_ahead, state.in_default, state.unsealed, state.sealed_at) == (26, 3, 3, None)
    assert state.unsealed_since == monday(-40)
    samples = {config.label for config in apps.get_app_configs() if config.name.startswith("tests.")}
    of_samples = [each for each in triggers.declared(connection) if each.table.partition("_")[0] in samples]
    assert (state.triggers_missing, state.triggers_unknown) == (len(of_samples), 0)  # which this database is without
    sealing.seal()
    state = care.state()
    assert state.unsealed == 0 and state.sealed_at and timezone.now() - state.sealed_at < timedelta(minutes=1)


def test_retention_counts_from_now() -> None:
    assert partitions.retention_ends(datetime(2026, 4, 1, tzinfo=UTC)) == datetime(2026, 1, 1, tzinfo=UTC)
