"""What is counted of requests and retries in this process, and the text that Prometheus reads of the whole host.

What processes count is of this host: Prometheus adds hosts up. What comes from the database is of the whole site, the
same from every host. `docs/health.md` has the list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPMethod
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any

import structlog
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from healthcheck import statistics
from healthcheck.metrics import figures
from healthcheck.metrics.shapes import OTHER
from healthcheck.metrics.statements import Counted, of_host
from healthcheck.metrics.tallies import Counts, Pair, key_of, tallies
from healthcheck.overall import Report, overall
from healthcheck.ping import LIMITS, NoAnswer, Ping
from healthcheck.results import Status
from healthcheck.shared import Shared

Handler = Callable[[HttpRequest], HttpResponseBase]
log = structlog.get_logger("healthcheck")

ANSWER_SECONDS = 1.0  # for the whole text
QUESTION_SECONDS = 0.5
SHARED_SECONDS = 10.0
METHODS = {method.value for method in HTTPMethod} - {"CONNECT", "TRACE"}
BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 10.0)  # seconds
RETRIES = ("connection", "deadlock", "lock", "serialization")
_SLOWER = "+Inf"


def share() -> None:
    """Count where the other processes of this host can read it (HEALTH_METRICS_DIRECTORY); for those that stay."""
    tallies.share(Path(settings.HEALTH_METRICS_DIRECTORY))


# Counting


class RequestMetricsMiddleware:
    """Count every request with its time, by route. An address never is a label: anybody can make new ones."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        begun = perf_counter()
        response = self.get_response(request)
        _count_request(request, response.status_code, perf_counter() - begun)
        return response


def _count_request(request: HttpRequest, status: int, seconds: float) -> None:
    method = request.method if request.method in METHODS else OTHER
    request_keys, bucket_keys = _request_keys(_route(request), str(method), f"{status // 100}xx", _bucket(seconds))
    tallies.add(*request_keys, 1.0, seconds)
    tallies.add(*bucket_keys)


def _route(request: HttpRequest) -> str:
    if request.resolver_match is not None:
        return request.resolver_match.route or "/"
    return "static" if request.path_info.startswith(settings.STATIC_URL) else "none"


def _bucket(seconds: float) -> str:
    return next((str(limit) for limit in BUCKETS if seconds <= limit), _SLOWER)


@lru_cache(maxsize=2000)
def _request_keys(route: str, method: str, status: str, bucket: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return (
        (key_of("request", route, method, status), key_of("request", OTHER, method, status)),
        (key_of("bucket", route, bucket), key_of("bucket", OTHER, bucket)),
    )


def count_retry(reason: str) -> None:
    """Count that a transaction was run again because of a fault that passes: one of `RETRIES`."""
    key = key_of("retry", reason if reason in RETRIES else OTHER)
    tallies.add(key, key)


# Showing


def exposition(seconds: float = ANSWER_SECONDS) -> bytes:
    """Return all figures in Prometheus' text format, within `seconds`: without the database's if it takes longer."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Site(monotonic() + seconds))
    return generate_latest(registry)


def strangers_line() -> bytes:
    """Return what somebody without rights may see: whether the site is ready."""
    return b"gatehouse_up %d\n" % (overall.current().status is not Status.FAIL)


class _Site(Collector):
    def __init__(self, deadline: float) -> None:
        self._deadline = deadline

    def collect(self) -> Iterator[Metric]:
        report = overall.current()
        yield from _of_report(report)
        yield from _of_processes(tallies.of_host())
        if report.ready.code != "database":
            yield from _of_database(self._deadline)


# Of the report


def _of_report(report: Report) -> Iterator[Metric]:
    up = report.status is not Status.FAIL
    yield _gauge("up", "Whether this host can serve: the database answers with this code's migrations, no drain.", up)
    labels, findings = ["check", "host"], report.findings
    statuses = {(each.name, each.host): float(list(Status).index(each.status)) for each in findings}
    yield _gauges("check_status", "The last reading of a check: 0 pass, 1 warn, 2 fail.", labels, statuses)
    ages = {(each.name, each.host): each.age for each in findings if each.age is not None}
    yield _gauges("check_age_seconds", "How long ago the check was run.", labels, ages)


# Of the processes of this host


def _of_processes(counted: Counts) -> Iterator[Metric]:
    found: dict[str, list[tuple[tuple[str, ...], list[Pair]]]] = {}
    for (kind, *labels), pairs in counted.items():
        found.setdefault(kind, []).append((tuple(labels), pairs))
    yield from _requests(found.get("request", []), found.get("bucket", []))
    yield from _statements(of_host(counted))
    opened = {("opened",): 0.0, ("failed",): 0.0} | _sums(found.get("connection", []))
    yield _counter("database_connections", "Attempts to connect to the database.", ["event"], opened)
    retried = dict.fromkeys(((reason,) for reason in RETRIES), 0.0) | _sums(found.get("retry", []))
    yield _counter("database_retries", "Transactions that were run again.", ["reason"], retried)


Found = list[tuple[tuple[str, ...], list[Pair]]]


def _sums(found: Found, place: int = 0, labels: slice = slice(None)) -> dict[tuple[str, ...], float]:
    """Add up the first or second numbers, of all keys that agree in some labels."""
    sums: dict[tuple[str, ...], float] = {}
    for names, pairs in found:
        sums[names[labels]] = sums.get(names[labels], 0.0) + sum(pair[place] for pair in pairs)
    return sums


def _requests(requests: Found, buckets: Found) -> Iterator[Metric]:
    yield _counter("requests", "Answered requests.", ["route", "method", "status"], _sums(requests))
    times = HistogramMetricFamily("gatehouse_request_seconds", "Time until the answer.", labels=["route"])
    in_bucket = _sums(buckets)
    for (route,), total in _sums(requests, place=1, labels=slice(1)).items():
        so_far, steps = 0.0, []
        for limit in (*map(str, BUCKETS), _SLOWER):
            so_far += in_bucket.get((route, limit), 0.0)
            steps.append((limit, so_far))
        times.add_metric([route], steps, total)
    yield times


def _statements(counted: Iterable[Counted]) -> Iterator[Metric]:
    labels, by_table = ["operation", "table"], dict[tuple[str, ...], list[Counted]]()
    for each in counted:
        by_table.setdefault((each.shape.operation, each.shape.table), []).append(each)
    for name, text, sum_of in (
        ("statements", "Statements.", lambda each: each.count),
        ("statement_seconds", "Time in statements.", lambda each: each.seconds),
        ("statement_errors", "Statements that failed.", lambda each: each.errors),
    ):
        sums = {names: float(sum(map(sum_of, every))) for names, every in by_table.items()}
        yield _counter(f"database_{name}", text, labels, sums)
    slowest = {names: max(each.slowest for each in every) for names, every in by_table.items()}
    yield _gauges("database_statement_slowest_seconds", "The slowest statement of this hour.", labels, slowest)


# Of the database


@dataclass(frozen=True)
class _Answer:
    """What the database said of itself and of the site."""

    connections: statistics.Connections
    activity: statistics.Activity
    figures: list[tuple[Any, ...]]


@dataclass(frozen=True)
class _Asked:
    answer: _Answer | None


def _of_database(deadline: float) -> Iterator[Metric]:
    if deadline - monotonic() >= QUESTION_SECONDS and (answer := _asked.current().answer):
        yield from _vitals(answer.connections, answer.activity)
        yield from _site_figures(answer.figures)
    has_time = deadline - monotonic() >= statistics.ANSWER_SECONDS
    if known := statistics.current() if has_time else statistics.known():
        yield from _statistics(known)


def _ask(before: _Asked | None) -> _Asked:
    ping, deadline = Ping(), monotonic() + QUESTION_SECONDS
    try:
        (vitals,) = ping.ask(statistics.VITALS, QUESTION_SECONDS)
        rows = _rows(ping, max(deadline - monotonic(), 0.0))
    except NoAnswer as error:
        log.warning("metrics.no_answer", error=str(error))
        return _Asked(None)
    finally:
        ping.close()  # a kept session would be one more for each process
    return _Asked(_Answer(*statistics.vitals(vitals), rows))


def _rows(ping: Ping, seconds: float) -> list[tuple[Any, ...]]:
    try:
        return ping.ask(LIMITS + figures.question(), seconds)
    except NoAnswer as error:  # one that an app has registered may be at fault; the database's own are shown
        log.warning("metrics.figures_unknown", error=str(error))
        return []


_asked = Shared(_ask, SHARED_SECONDS)


def _vitals(connections: statistics.Connections, activity: statistics.Activity) -> Iterator[Metric]:
    yield _gauges("database_sessions", "Sessions of the server by state.", ["state"], _by_one(connections.states))
    used = {(cap.of,): float(cap.used) for cap in connections.caps}
    most = {(cap.of,): float(cap.most) for cap in connections.caps if cap.most is not None}
    yield _gauges("database_sessions_used", "Sessions that count towards a limit.", ["limit"], used)
    yield _gauges("database_sessions_most", "The limit itself.", ["limit"], most)
    yield _gauge("database_lock_waits", "Locks that somebody waits for.", activity.lock_waits)
    oldest = activity.oldest_transaction or 0.0
    yield _gauge("database_oldest_transaction_seconds", "Age of the oldest transaction that is visible.", oldest)
    lags = [replica.lag or 0.0 for replica in activity.replicas]
    yield _gauge("database_replicas", "Standbys that are connected.", len(lags))
    lag = max([activity.own_lag or 0.0, *lags])
    yield _gauge("database_replication_lag_seconds", "Of the standby that is most behind.", lag)


def _site_figures(rows: Iterable[tuple[Any, ...]]) -> Iterator[Metric]:
    found: dict[str, dict[figures.Labels, float]] = {}
    for name, labels, value in rows:
        found.setdefault(name, {})[figures.labelled(**json.loads(labels))] = value
    for family in figures.families().values():
        values = dict.fromkeys(family.expected(), 0.0) | found.get(family.name, {})
        if values:
            names = [name for name, _value in next(iter(values))]
            make = _counter if family.kind == "counter" else _gauges
            alike = {labels: number for labels, number in values.items() if [name for name, _ in labels] == names}
            yield make(family.name, family.help, names, {_values(labels): each for labels, each in alike.items()})


def _values(labels: figures.Labels) -> tuple[str, ...]:
    return tuple(value for _name, value in labels)


def _statistics(known: statistics.Statistics) -> Iterator[Metric]:
    yield _gauge("database_statistics_age_seconds", "Age of the figures of tables.", known.age)
    yield _gauge("database_bytes", "Size of the database.", known.database.bytes)
    yield _gauge("database_frozen_age", "Transactions since the oldest row was frozen.", known.database.frozen_age)
    yield _gauge("database_cache_hit_ratio", "Blocks found in memory.", known.database.cache_hit_ratio or 0)
    totals = {"deadlocks": known.database.deadlocks, "temporary_bytes": known.database.temporary_bytes}
    totals |= {"commits": known.database.commits, "rollbacks": known.database.rollbacks}
    for name, value in totals.items():
        yield _counter(f"database_{name}", f"{name.replace('_', ' ').capitalize()}, by the server.", [], {(): value})
    tables = {(table.name,): table for table in known.tables}
    about: dict[str, tuple[str, Callable[[statistics.Table], float]]] = {
        "rows": ("Estimated rows.", lambda table: table.rows),
        "dead_rows": ("Estimated dead rows.", lambda table: table.dead),
        "bytes": ("Size with indexes.", lambda table: table.total_bytes),
        "sequential_scans": ("Sequential scans, by the server.", lambda table: table.sequential_scans),
    }
    for name, (text, value_of) in about.items():
        values = {names: float(value_of(table)) for names, table in tables.items()}
        yield _gauges(f"database_table_{name}", text, ["table"], values)
    yield _gauge("database_indexes_unused", "Large indexes that nobody uses.", len(known.unused_indexes))
    yield _gauge("database_indexes_invalid", "Indexes whose making failed.", len(known.invalid_indexes))


# Families


def _by_one(values: dict[str, int]) -> dict[tuple[str, ...], float]:
    return {(name,): float(value) for name, value in values.items()}


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"gatehouse_{name}", text, value=float(value))


def _gauges(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = GaugeMetricFamily(f"gatehouse_{name}", text, labels=labels)
    for names, value in values.items():
        family.add_metric(names, value)
    return family


def _counter(name: str, text: str, labels: list[str], values: Mapping[Any, float]) -> Metric:
    family = CounterMetricFamily(f"gatehouse_{name}", text, labels=labels)
    for names, value in values.items():
        family.add_metric(names, value)
    return family
