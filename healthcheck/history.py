"""What has been: uptime by day, incidents, response times and connections over time.

Every function asks one bounded question (some 20 ms for 45 days) and raises NoAnswer when the database does not
answer in time; `overview` never raises, and shares what it knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, partial
from time import monotonic
from typing import Any

from psycopg2.extensions import adapt

from healthcheck import registry
from healthcheck.ping import LIMITS, NoAnswer, Ping
from healthcheck.readiness import CHECK_SECONDS
from healthcheck.results import Status
from healthcheck.shared import Shared

DAYS = 45
_OVERVIEW_SECONDS = 15.0  # of sharing it
_OVERVIEW_POINTS = 144
_OVERVIEW_INCIDENTS = 50
_MOST_POINTS = 1000
_MINUTES_OF_A_DAY = 24 * 60

Ask = Callable[[str], list[tuple[Any, ...]]]

# Each bucket is looked up by the index on its own: to sort or hash all samples by a computed bucket takes longer.
# 24 hours and not a day, which in the server's time zone may have 23 or 25.
_BY_DAY = """
SELECT day, minutes.*
FROM generate_series({first}, {last}, interval '24 hours') AS day, LATERAL (
    SELECT count(*) FILTER (WHERE status = 'pass'), count(*) FILTER (WHERE status = 'warn'),
        count(*) FILTER (WHERE status = 'fail')
    FROM healthcheck_sample WHERE at >= day AND at < day + interval '24 hours'
) AS minutes ORDER BY day
"""
_RESPONSE_TIMES = """
SELECT start, times[1], times[2]
FROM generate_series({since}, {until} - interval '1 microsecond', {step}) AS start, LATERAL (
    SELECT percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY milliseconds) AS times
    FROM healthcheck_sample WHERE at >= start AND at < start + {step}
) AS found ORDER BY start
"""
_CONNECTIONS = """
SELECT start, found.*
FROM generate_series({since}, {until} - interval '1 microsecond', {step}) AS start, LATERAL (
    SELECT max(active), max(idle), max(idle_in_transaction), max(waiting), max(most)
    FROM healthcheck_connectionsample WHERE at >= start AND at < start + {step}
) AS found ORDER BY start
"""
_INCIDENTS = """
SELECT check_name, host, status, code, began_at, ended_at, clock_timestamp() FROM healthcheck_incident
WHERE ended_at IS NULL OR began_at >= {since} ORDER BY ended_at IS NULL DESC, began_at DESC, id DESC LIMIT {limit}
"""


@dataclass(frozen=True)
class Day:
    """The minutes of a day (UTC), today's until now, by the worst state seen in each; `unknown`: nobody looked."""

    date: date
    passed: int
    warned: int
    failed: int
    unknown: int

    @property
    def up(self) -> float | None:
        """The share, from 0 to 1, of the known minutes in which the site was ready; None when none is known."""
        known = self.passed + self.warned + self.failed
        return (self.passed + self.warned) / known if known else None

    def as_facts(self) -> dict[str, Any]:
        return {
            "date": self.date.isoformat(),
            "minutes": {
                Status.PASS.value: self.passed,
                Status.WARN.value: self.warned,
                Status.FAIL.value: self.failed,
                "unknown": self.unknown,
            },
            "up": None if self.up is None else round(self.up, 5),
        }


@dataclass(frozen=True)
class IncidentView:
    """The time in which a check did not pass; `lasted` until it ended, or until now while it is open."""

    check_name: str
    host: str
    status: Status
    code: str
    began_at: datetime
    ended_at: datetime | None
    lasted: timedelta

    @property
    def is_open(self) -> bool:
        return self.ended_at is None

    @property
    def label(self) -> Any:
        check = registry.checks().get(self.check_name)
        return check.label if check else self.check_name

    def as_facts(self) -> dict[str, Any]:
        return {
            "check": self.check_name,
            "host": self.host,
            "status": self.status.value,
            "code": self.code,
            "began": self.began_at.isoformat(),
            "ended": self.ended_at.isoformat() if self.ended_at else None,
            "seconds": round(self.lasted.total_seconds(), 1),
        }


@dataclass(frozen=True)
class Point:
    """What was measured from `at` on, until the next point; a value is None where nothing was."""

    at: datetime
    values: dict[str, float | None]

    def as_facts(self) -> dict[str, Any]:
        return {"at": self.at.isoformat(), **self.values}


def uptime(days: int = DAYS, *, until: datetime | None = None, ask: Ask | None = None) -> list[Day]:
    """Return the last `days` days, the oldest first and today (or the day of `until`) last."""
    now = until or datetime.now(UTC)
    last = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = last - timedelta(days=days - 1)
    rows = (ask or _ask_once)(_BY_DAY.format(first=_quoted(first), last=_quoted(last)))
    return [_day(*row, until=now) for row in rows]


def _day(opens: datetime, passed: int, warned: int, failed: int, *, until: datetime) -> Day:
    gone_by = min(_MINUTES_OF_A_DAY, int((until - opens) / timedelta(minutes=1)))
    unknown = max(0, gone_by - passed - warned - failed)
    return Day(opens.astimezone(UTC).date(), passed, warned, failed, unknown)


def incidents(limit: int = 50, *, days: int = DAYS, ask: Ask | None = None) -> list[IncidentView]:
    """Return the open incidents, then those that began within `days`, each the newest first; at most `limit`."""
    since = datetime.now(UTC) - timedelta(days=days)
    rows = (ask or _ask_once)(_INCIDENTS.format(since=_quoted(since), limit=int(limit)))
    return [
        IncidentView(name, host, Status(status), code, began, ended, (ended or now) - began)
        for name, host, status, code, began, ended, now in rows
    ]


def response_times(since: datetime, until: datetime, points: int, *, ask: Ask | None = None) -> list[Point]:
    """Return ``p50`` and ``p95`` of the database's response time in milliseconds."""
    return _series(_RESPONSE_TIMES, ("p50", "p95"), since, until, points, ask)


def connections(since: datetime, until: datetime, points: int, *, ask: Ask | None = None) -> list[Point]:
    """Return the highest number of sessions in each state, and ``most``, how many there can be."""
    names = ("active", "idle", "idle_in_transaction", "waiting", "most")
    return _series(_CONNECTIONS, names, since, until, points, ask)


def _series(
    query: str, names: tuple[str, ...], since: datetime, until: datetime, points: int, ask: Ask | None
) -> list[Point]:
    """At most `points` points, from `since` on, whole minutes apart."""
    minutes = -(-(until - since) // timedelta(minutes=max(1, min(points, _MOST_POINTS))))
    step = timedelta(minutes=max(1, minutes))
    rows = (ask or _ask_once)(query.format(since=_quoted(since), until=_quoted(until), step=_quoted(step)))
    return [Point(start.astimezone(UTC), dict(zip(names, values, strict=True))) for start, *values in rows]


def _quoted(value: datetime | timedelta) -> str:
    return str(adapt(value).getquoted().decode("ascii"))


def _ask_once(query: str) -> list[tuple[Any, ...]]:
    ping = Ping()
    try:
        return ping.ask(LIMITS + query, CHECK_SECONDS)
    finally:
        ping.close()


# All of it


@dataclass(frozen=True)
class Overview:
    """What a page shows of the past; the series are of the last days. `known`: not when it could never be read."""

    days: list[Day]
    incidents: list[IncidentView]
    response_times: list[Point]
    connections: list[Point]
    time: datetime
    taken: float  # monotonic seconds
    known: bool = True

    @property
    def age(self) -> float:
        """Seconds since it was read; it grows while the database is away."""
        return monotonic() - self.taken

    def as_facts(self) -> dict[str, Any]:
        return {
            "uptime": [day.as_facts() for day in self.days],
            "incidents": [incident.as_facts() for incident in self.incidents],
            "response_times": [point.as_facts() for point in self.response_times],
            "connections": [point.as_facts() for point in self.connections],
        }


def days_of(wanted: str) -> int:
    """Return the days that an address asks for: 1 when it asks for nonsense, and never more than are kept."""
    is_number = wanted.isascii() and wanted.isdigit() and len(wanted) < 10
    return min(max(int(wanted), 1), DAYS) if is_number else 1


@cache
def past(days: int) -> Shared[Overview]:
    """Return the shared overview whose series are of the last `days` days."""
    return Shared(partial(_take, days), _OVERVIEW_SECONDS)


def _take(days: int, before: Overview | None) -> Overview:
    ping, deadline = Ping(), monotonic() + CHECK_SECONDS
    try:
        return _read(days, lambda query: ping.ask(LIMITS + query, max(0.0, deadline - monotonic())))
    except NoAnswer:
        return before or Overview([], [], [], [], datetime.now(UTC), monotonic(), known=False)
    finally:
        ping.close()


def _read(days: int, ask: Ask) -> Overview:
    # A minute that has not ended has no sample of its own yet.
    until = datetime.now(UTC).replace(second=0, microsecond=0)
    span = (until - timedelta(days=days), until, _OVERVIEW_POINTS)
    return Overview(
        days=uptime(ask=ask),
        incidents=incidents(_OVERVIEW_INCIDENTS, ask=ask),
        response_times=response_times(*span, ask=ask),
        connections=connections(*span, ask=ask),
        time=datetime.now(UTC),
        taken=monotonic(),
    )


overview = past(1)
