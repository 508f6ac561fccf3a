"""Plots as inline SVG, with the same numbers in a table behind them.

A plot stretches to the width of the page, its words stand in HTML around it: so they are as large as all text. Colours
and dashes come from the style sheet, by class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils.translation import gettext_lazy as _

from healthcheck.history import Day, Point

register = template.Library()
WIDTH, HEIGHT = 1000, 200  # of the drawing, in its own units
DAY_WIDTH, DAY_HEIGHT = 10, 40
LEAST_SEEN = 6  # units: a single bad minute of a day must be seen
MOST_ROWS = 12  # of the table behind a plot
_DAYS_ON_THE_CLOCK = timedelta(days=2)  # a longer plot has dates below it, a shorter one the time of day
Values = dict[str, float | None]


# Days


@dataclass(frozen=True)
class Bar:
    """One day: `parts` are (class, y, height), from the top down."""

    day: Day
    x: int
    parts: tuple[tuple[str, int, int], ...]

    @property
    def is_whole(self) -> bool:
        return self.parts == (("pass", 0, DAY_HEIGHT),)


@register.inclusion_tag("healthcheck/plots/uptime.html")
def uptime_bars(days: Sequence[Day]) -> dict[str, Any]:
    """Draw a bar for each day: how much of it the site was ready, had warnings, was not ready, or nobody knows."""
    known = sum(day.passed + day.warned + day.failed for day in days)
    bars = [Bar(day, place * DAY_WIDTH, tuple(_parts(day))) for place, day in enumerate(days)]
    return {
        "whole": [bar for bar in bars if bar.is_whole],  # drawn as one, which makes the page much lighter
        "others": [bar for bar in bars if not bar.is_whole],
        "height": DAY_HEIGHT,
        "days": days,
        "up": sum(day.passed + day.warned for day in days) / known if known else None,
        "view": f"0 0 {len(days) * DAY_WIDTH} {DAY_HEIGHT}",
        "bar_width": DAY_WIDTH - 2,
    }


def _parts(day: Day) -> Iterator[tuple[str, int, int]]:
    known = day.passed + day.warned + day.failed
    if not known:
        yield "unknown", 0, DAY_HEIGHT
        return
    failed, warned = (_seen(part, known) for part in (day.failed, day.warned))
    top = 0
    for name, height in (("fail", failed), ("warn", warned), ("pass", DAY_HEIGHT - failed - warned)):
        if height > 0:
            yield name, top, min(height, DAY_HEIGHT - top)
            top += height


def _seen(part: int, known: int) -> int:
    return max(LEAST_SEEN, round(part / known * DAY_HEIGHT)) if part else 0


# Lines


@dataclass(frozen=True)
class Line:
    """`value` finds its number in what was measured at one point; `label` explains it in a few words."""

    label: Any
    value: Callable[[Values], float | None]


@dataclass(frozen=True)
class Plot:
    title: Any
    unit: str
    lines: tuple[Line, ...]


def _sessions(values: Values) -> float | None:
    states = [values[state] for state in ("active", "idle", "idle_in_transaction")]
    return None if None in states else sum(filter(None, states))


PLOTS = {
    "response": Plot(
        _("Response time of the database"),
        "ms",
        (
            Line(_("half of the answers were faster (median)"), lambda values: values["p50"]),
            Line(_("19 of 20 answers were faster (95th percentile)"), lambda values: values["p95"]),
        ),
    ),
    "connections": Plot(
        _("Sessions of the database server"),
        "",
        (
            Line(_("open"), _sessions),
            Line(_("at work"), lambda values: values["active"]),
            Line(_("waiting for a lock"), lambda values: values["waiting"]),
        ),
    ),
}


@register.inclusion_tag("healthcheck/plots/lines.html")
def lines(name: str, points: Sequence[Point]) -> dict[str, Any]:
    """Draw one of `PLOTS`. Where nothing was measured, the lines have a gap, and the ground is shaded."""
    plot = PLOTS[name]
    rows = [[line.value(point.values) for line in plot.lines] for point in points]
    highest = max((number for row in rows for number in row if number is not None), default=None)
    context = {"name": name, "plot": plot, "view": f"0 0 {WIDTH} {HEIGHT}", "height": HEIGHT, "empty": highest is None}
    if highest is None:
        return context
    top = _round_up(highest)
    is_short = points[-1].at - points[0].at <= _DAYS_ON_THE_CLOCK
    return context | {
        "top": f"{top:g}",
        "form": "clock" if is_short else "day",
        "row_form": "clock" if is_short else "hour",
        "marks": [points[round(share * (len(points) - 1))].at for share in (0, 0.25, 0.5, 0.75, 1)],
        "drawn": [
            (number + 1, line.label, _path([row[number] for row in rows], top))
            for number, line in enumerate(plot.lines)
        ],
        "gaps": list(_gaps(rows)),
        "table": list(_table(points, rows)),
    }


def _round_up(number: float) -> float:
    """Return the next of 1, 2, 5, 10, 20 … above `number`."""
    size = 1.0
    while size * 10 <= number:
        size *= 10
    while size > number and size > 0.1:
        size /= 10
    return next(step * size for step in (1, 2, 5, 10) if step * size >= number)


def _x(place: float, places: int) -> int:
    return round(place / max(1, places) * WIDTH)


def _path(numbers: Sequence[float | None], top: float) -> str:
    """A pen that is lifted where there is no number; a single one between gaps is a dot, by its round end."""
    drawn, last = [], None
    for place, number in enumerate(numbers):
        here = None
        if number is not None:
            here = _x(place + 0.5, len(numbers)), round(HEIGHT - number / top * HEIGHT)
            drawn.append(f"l{here[0] - last[0]} {here[1] - last[1]}" if last else f"M{here[0]} {here[1]}h0")
        last = here
    return "".join(drawn)


def _gaps(rows: Sequence[Sequence[float | None]]) -> Iterator[tuple[int, int]]:
    """Yield (x, width) of each stretch in which nothing was measured."""
    began = None
    for place, row in enumerate([*rows, [0.0]]):
        is_gap = all(number is None for number in row)
        if is_gap and began is None:
            began = place
        elif not is_gap and began is not None:
            yield _x(began, len(rows)), _x(place, len(rows)) - _x(began, len(rows))
            began = None


def _table(points: Sequence[Point], rows: Sequence[Sequence[float | None]]) -> Iterator[tuple[datetime, list[str]]]:
    """Yield the highest numbers of each span, and when it began."""
    step = -(-len(points) // MOST_ROWS)
    for place in range(0, len(points), step):
        columns = zip(*rows[place : place + step], strict=True)
        yield points[place].at, [_highest(column) for column in columns]


def _highest(column: Sequence[float | None]) -> str:
    known = [number for number in column if number is not None]
    return f"{max(known):.3g}" if known else "–"
