"""Uptime, incidents and series, as they are read from the history."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from healthcheck import history
from healthcheck.history import Day, Overview, Point
from healthcheck.models import ConnectionSample, Incident, Sample
from healthcheck.ping import NoAnswer
from healthcheck.results import Status

# Asked over a connection of its own, which sees what is committed only.
pytestmark = pytest.mark.django_db(transaction=True)

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def samples(begin: datetime, *states: str, milliseconds: float | None = 1.0) -> None:
    """One a minute from `begin` on."""
    Sample.objects.bulk_create(
        Sample(at=begin + timedelta(minutes=minute), status=status, milliseconds=milliseconds)
        for minute, status in enumerate(states)
    )


def test_a_day_counts_its_minutes_by_state_and_those_that_nobody_saw() -> None:
    samples(NOON - timedelta(hours=12), *["pass"] * 600, *["warn"] * 60, *["fail"] * 30)
    (day,) = history.uptime(1, until=NOON)
    assert day == Day(date(2026, 3, 2), passed=600, warned=60, failed=30, unknown=30)
    assert day.up == 660 / 690
    assert day.as_facts() == {
        "date": "2026-03-02",
        "minutes": {"pass": 600, "warn": 60, "fail": 30, "unknown": 30},
        "up": 0.95652,
    }


def test_days_end_at_midnight_and_are_told_also_when_nobody_looked() -> None:
    samples(NOON - timedelta(hours=12, minutes=2), "pass", "fail", "warn")
    before, yesterday, today = history.uptime(3, until=NOON)
    assert (before.date, before.unknown, before.up) == (date(2026, 2, 28), 1440, None)
    assert (yesterday.passed, yesterday.failed, yesterday.unknown) == (1, 1, 1438)
    assert (today.warned, today.unknown, today.up) == (1, 719, 1.0)


@pytest.mark.parametrize("until", [datetime(2026, 4, 2, 12, tzinfo=UTC), datetime(2025, 10, 28, 12, tzinfo=UTC)])
def test_days_are_those_of_utc_also_on_a_server_that_has_summer_time(
    until: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGTZ", "Europe/Berlin")
    days = history.uptime(5, until=until)
    assert [day.date for day in days] == [until.date() - timedelta(days=ago) for ago in (4, 3, 2, 1, 0)]


def test_there_are_as_many_days_as_were_asked_for_the_last_one_today() -> None:
    days = history.uptime()
    assert len(days) == 45
    assert days[-1].date == datetime.now(UTC).date()
    assert days[0].date == days[-1].date - timedelta(days=44)


def incident(check: str, began: datetime, ended: datetime | None = None, status: str = "fail") -> None:
    Incident.objects.create(check_name=check, status=status, code="slow", began_at=began, ended_at=ended)


def test_open_incidents_come_first_and_last_until_now() -> None:
    now = datetime.now(UTC)
    incident("cache", now - timedelta(hours=1), now - timedelta(minutes=50))
    incident("mail", now - timedelta(hours=2))
    incident("disk", now - timedelta(hours=3), now - timedelta(hours=2), status="warn")
    mail, cache, disk = history.incidents()
    assert (mail.check_name, mail.is_open, cache.is_open) == ("mail", True, False)
    assert timedelta(hours=2) <= mail.lasted < timedelta(hours=2, minutes=1)
    assert (cache.check_name, cache.lasted, cache.label) == ("cache", timedelta(minutes=10), "Cache")
    assert (disk.check_name, disk.status) == ("disk", Status.WARN)
    assert disk.as_facts() == {
        "check": "disk",
        "host": "",
        "status": "warn",
        "code": "slow",
        "began": (now - timedelta(hours=3)).isoformat(),
        "ended": (now - timedelta(hours=2)).isoformat(),
        "seconds": 3600.0,
    }


def test_incidents_are_bounded_by_number_and_age_but_an_open_one_is_always_told() -> None:
    now = datetime.now(UTC)
    incident("mail", now - timedelta(days=100))
    incident("disk", now - timedelta(days=50), now - timedelta(days=49))
    for hours in (3, 2, 1):
        incident("cache", now - timedelta(hours=hours), now)
    assert [each.check_name for each in history.incidents()] == ["mail", "cache", "cache", "cache"]
    assert [each.began_at for each in history.incidents(2)] == [now - timedelta(days=100), now - timedelta(hours=1)]


def test_response_times_are_percentiles_of_their_part_of_the_time() -> None:
    samples(NOON, "pass", milliseconds=1.0)
    samples(NOON + timedelta(minutes=1), "pass", milliseconds=3.0)
    samples(NOON + timedelta(minutes=9), "fail", milliseconds=None)
    samples(NOON + timedelta(minutes=10), "pass", milliseconds=7.0)
    samples(NOON + timedelta(minutes=30), "pass", milliseconds=99.0)
    points = history.response_times(NOON, NOON + timedelta(minutes=30), 3)
    assert points == [
        Point(NOON, {"p50": 2.0, "p95": 2.9}),
        Point(NOON + timedelta(minutes=10), {"p50": 7.0, "p95": 7.0}),
        Point(NOON + timedelta(minutes=20), {"p50": None, "p95": None}),
    ]
    assert points[0].as_facts() == {"at": NOON.isoformat(), "p50": 2.0, "p95": 2.9}


def test_connections_are_the_most_of_their_part_of_the_time() -> None:
    for minute, active in ((0, 4), (1, 2), (5, 1)):
        ConnectionSample.objects.create(
            at=NOON + timedelta(minutes=minute),
            active=active,
            idle=6 - active,
            idle_in_transaction=0,
            waiting=1,
            most=97,
        )
    first, second = history.connections(NOON, NOON + timedelta(minutes=10), 2)
    assert first.values == {"active": 4, "idle": 4, "idle_in_transaction": 0, "waiting": 1, "most": 97}
    assert (second.at, second.values["active"]) == (NOON + timedelta(minutes=5), 1)


@pytest.mark.parametrize(("minutes", "points", "found"), [(60, 7, 7), (61, 60, 31), (3, 100, 3), (5000, 10**9, 1000)])
def test_there_are_at_most_so_many_points_whole_minutes_apart(minutes: int, points: int, found: int) -> None:
    series = history.response_times(NOON, NOON + timedelta(minutes=minutes), points)
    assert len(series) == found
    assert all((point.at - NOON) % timedelta(minutes=1) == timedelta() for point in series)


def test_the_overview_outlives_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    samples(datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5), "pass", "pass")
    known = overview()
    assert known.known and len(known.days) == 45 and len(known.response_times) == 144
    assert known.as_facts()["uptime"][-1]["date"] == datetime.now(UTC).date().isoformat()
    assert history.overview.current() is known  # shared

    def silent(*question: object) -> None:
        raise NoAnswer("TimeoutError")

    monkeypatch.setattr("healthcheck.ping.Ping.ask", silent)
    assert overview() is known
    monkeypatch.setattr(history.overview, "_value", None)
    unknown = overview()
    assert (unknown.known, unknown.days) == (False, [])
    with pytest.raises(NoAnswer):
        history.uptime()


def overview() -> Overview:
    """Taken anew."""
    history.overview.forget()
    return history.overview.current()
