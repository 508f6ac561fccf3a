"""Plots and words of the health pages."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from django.template import Context, Template

from healthcheck import advice, overall
from healthcheck.history import Day, Point
from healthcheck.overall import Finding
from healthcheck.results import Status
from healthcheck.templatetags import health, plots

MINUTE = datetime(2026, 3, 1, 12, tzinfo=UTC)


# Plots


def day(**minutes: int) -> Day:
    return Day(date(2026, 3, 1), **{"passed": 0, "warned": 0, "failed": 0, "unknown": 0} | minutes)


def test_a_single_bad_minute_of_a_day_is_seen() -> None:
    days = [day(passed=1439, failed=1), day(unknown=1440), day(failed=1440), day(warned=1, passed=1), day(passed=1)]
    bars = plots.uptime_bars(days)
    assert [bar.parts for bar in bars["others"]] == [
        (("fail", 0, 6), ("pass", 6, 34)),
        (("unknown", 0, 40),),
        (("fail", 0, 40),),
        (("warn", 0, 20), ("pass", 20, 20)),
    ]
    assert [bar.x for bar in (*bars["others"], *bars["whole"])] == [0, 10, 20, 30, 40]
    assert bars["up"] == pytest.approx(1442 / 2883)
    assert plots.uptime_bars([])["up"] is None


def measured(*numbers: float | None) -> list[Point]:
    return [
        Point(MINUTE + timedelta(minutes=place), {"p50": number, "p95": number and number * 2})
        for place, number in enumerate(numbers)
    ]


def test_a_line_has_a_gap_where_nothing_was_measured_and_a_dot_for_a_single_number() -> None:
    drawn = plots.lines("response", measured(1, 2, None, None, 4))
    assert drawn["top"] == "10"
    assert drawn["drawn"][0][2] == "M100 180h0l200 -20M900 120h0"
    assert drawn["gaps"] == [(400, 400)]
    assert [numbers for _, numbers in drawn["table"]] == [["1", "2"], ["2", "4"], ["–", "–"], ["–", "–"], ["4", "8"]]


def test_the_table_behind_a_plot_is_short_and_tells_the_highest() -> None:
    table = plots.lines("response", measured(*range(1, 145)))["table"]
    assert len(table) == 12
    assert table[-1] == (MINUTE + timedelta(minutes=132), ["144", "288"])


@pytest.mark.parametrize("points", [[], measured(None, None)])
def test_a_plot_of_nothing_says_so(points: list[Point]) -> None:
    drawn = Template('{% load plots %}{% lines "response" points %}').render(Context({"points": points}))
    assert "Nothing was measured" in drawn


@pytest.mark.parametrize(
    ("highest", "top"),
    [(0, 0.1), (0.04, 0.1), (0.3, 0.5), (1, 1), (1.01, 2), (9, 10), (11, 20), (97, 100), (501, 1000)],
)
def test_the_scale_ends_at_a_round_number(highest: float, top: float) -> None:
    assert plots._round_up(highest) == pytest.approx(top)


# Words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3600, "1 h"),
        (3605, "1 h"),
        (7530, "2 h 5 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_lengths_of_time(seconds: float, words: str) -> None:
    assert health.lasting(seconds) == health.lasting(timedelta(seconds=seconds)) == words


def test_a_share_is_whole_only_when_nothing_is_missing() -> None:
    assert [health.percent(share) for share in (None, 0, 0.5, 0.99999, 1)] == [
        "–",
        "0.00 %",
        "50.00 %",
        "99.99 %",
        "100 %",
    ]


def test_every_code_of_the_probes_has_advice_of_its_own() -> None:
    for name, code in overall.CODES.items():
        assert advice.advice(name, code) is advice._ADVICE[name, code]
    for code in ("not_run", "timeout", "error", "unknown"):
        assert advice.advice("mail", code) is advice._GENERAL[code]
    assert advice.advice("mail", "unreachable") is advice._ADVICE["mail", ""]
    assert advice.advice("weather", "rain") is advice._LOOK


def test_an_advice_is_given_once_and_the_worst_first() -> None:
    names = [("mail", Status.WARN, "not_run"), ("cache", Status.PASS, "ok"), ("disk", Status.WARN, "not_run")]
    found = [Finding(name, status, code, 1.0) for name, status, code in (*names, ("audit", Status.FAIL, "error"))]
    told = [(status, [finding.name for finding in of]) for _, status, of in health.todos(found)]
    assert told == [(Status.FAIL, ["audit"]), (Status.WARN, ["mail", "disk"])]
