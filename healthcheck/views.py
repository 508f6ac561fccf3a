"""What is under ``/health/``, besides the probes. Each answer is ready within a second, whatever the database does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property, wraps
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from healthcheck import answers, connection, history, registry, statistics
from healthcheck.connection import Look
from healthcheck.history import Overview
from healthcheck.metrics import prometheus
from healthcheck.models import Run
from healthcheck.overall import Report, overall
from healthcheck.readiness import CHECK_SECONDS
from healthcheck.results import Status, worst
from healthcheck.shared import Shared
from healthcheck.statistics import Statistics
from healthcheck.viewers import Viewer, bounded, viewer_of

ANSWER_SECONDS = 0.9  # of the second that an answer may take
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_RUNS = 5  # that the page shows

T = TypeVar("T")
View = Callable[..., HttpResponse]


def read_only(view: View) -> View:
    """Refuse POST, which alone takes the ordinary way here, by its method and not for want of a form's token."""

    @csrf_exempt
    @wraps(view)
    def reading(request: HttpRequest, **arguments: str) -> HttpResponse:
        if request.method == "POST":
            return answers.without_body(HTTPStatus.METHOD_NOT_ALLOWED)
        return view(request, **arguments)

    return reading


class Asked:
    """One question: the state of the whole, who asks, and the time left to answer.

    What is only for viewers is taken when something looks at it, once.
    """

    def __init__(self, request: HttpRequest) -> None:
        self._started = monotonic()
        self.request = request
        self.report: Report = overall.current()
        self.viewer: Viewer = viewer_of(request, seconds=self.seconds_left)

    @property
    def seconds_left(self) -> float:
        """No time at all when the database has just failed to answer: what needs it fails at once."""
        if not self.report.known:
            return 0.0
        return max(0.0, ANSWER_SECONDS - (monotonic() - self._started))

    @property
    def has_time(self) -> bool:
        """Whether one more bounded question fits; without, pages show what the process knows already."""
        return self.seconds_left >= CHECK_SECONDS

    @cached_property
    def days(self) -> int:
        return history.days_of(self.request.GET.get("days", ""))

    @cached_property
    def past(self) -> Overview | None:
        return self._known(history.past(self.days))

    @cached_property
    def look(self) -> Look | None:
        return self._known(connection.look)

    @cached_property
    def figures(self) -> Statistics | None:
        return statistics.current() if self.has_time else statistics.known()

    @cached_property
    def runs(self) -> list[Run] | None:
        """The newest operations; None while the database does not answer in time."""
        try:
            with bounded(self.seconds_left):
                return list(Run.objects.order_by("-asked_at")[:MOST_RUNS])
        except (DatabaseError, InterfaceError):
            return None

    def _known(self, shared: Shared[T]) -> T | None:
        return shared.current() if self.has_time else shared.known()

    def own_detail(self, name: str) -> dict[str, Any]:
        """Return what a check adds for whoever asks."""
        check = registry.checks().get(name)
        if not check or not check.detail or not self.viewer.user:
            return {}
        try:
            with bounded(self.seconds_left):
                return check.detail(self.request)
        except (DatabaseError, InterfaceError):
            return {}

    def answer(self, status: Status, facts: dict[str, Any], *, template: str, **more: Any) -> HttpResponse:
        """Answer with `facts` whoever may see them; a page finds this question in its context, as `asked`."""
        report = self.report
        context = {"asked": self, "place": Path(template).stem, **more.pop("context", {})}
        return answers.answer(
            self.request,
            self.viewer,
            status=status,
            time=report.time,
            age=report.age,
            facts=facts,
            template=template,
            context=context,
            **more,
        )


@read_only
def whole(request: HttpRequest) -> HttpResponse:
    """The verdict of the readiness probe, with a warning when anything else is wrong, and every check's reading."""
    asked = Asked(request)
    report = asked.report
    return asked.answer(
        report.status,
        {"code": report.ready.code, "checks": [finding.as_facts() for finding in report.findings]},
        findings=report.findings,
        template="healthcheck/whole.html",
    )


@read_only
def check(request: HttpRequest, name: str) -> HttpResponse:
    """The last reading of one check, on each host that it is about."""
    asked = Asked(request)
    findings = asked.report.of(name)
    if not findings:
        return answers.unknown()
    own = asked.own_detail(name)
    return asked.answer(
        worst(finding.status for finding in findings),
        {"readings": [finding.as_facts() for finding in findings]},
        own=own,
        findings=findings,
        template="healthcheck/check.html",
        context={"name": name, "findings": findings, "own": own},
    )


@read_only
def database(request: HttpRequest) -> HttpResponse:
    """Whether the database answers, how fast, and its sessions."""
    asked = Asked(request)
    findings = asked.report.of("database")
    return asked.answer(
        worst(finding.status for finding in findings),
        asked.look.as_facts() if asked.viewer.sees and asked.look else {},
        findings=findings,
        template="healthcheck/database.html",
        context={"findings": findings},
    )


@read_only
def database_statistics(request: HttpRequest) -> HttpResponse:
    """What the catalogue of the database says of its tables, indexes and statements."""
    asked = Asked(request)
    findings = asked.report.of("database")
    return asked.answer(
        worst(finding.status for finding in findings),
        _figures(asked.figures) if asked.viewer.sees else {},
        findings=findings,
        template="healthcheck/statistics.html",
    )


@read_only
def system(request: HttpRequest) -> HttpResponse:
    """What has been: uptime by day, incidents, and the plots of the days that ``?days=`` asks for."""
    asked = Asked(request)
    return asked.answer(
        asked.report.status,
        {"days": asked.days} | (asked.past.as_facts() if asked.viewer.sees and asked.past else {}),
        findings=asked.report.findings,
        template="healthcheck/system.html",
        context={"ranges": (1, 7, 30, history.DAYS)},
    )


@read_only
def metrics_text(request: HttpRequest) -> HttpResponse:
    """The figures in the text format of Prometheus; of a failing site too, or nobody could tell why it fails."""
    asked = Asked(request)
    text = prometheus.exposition(asked.seconds_left) if asked.viewer.sees else prometheus.strangers_line()
    return answers.finished(HttpResponse(text, content_type=METRICS_TYPE))


def _figures(figures: Statistics | None) -> dict[str, Any]:
    if figures is None:
        return {}
    facts = asdict(figures) | {"statistics_age": round(figures.age, 1), "statistics_time": figures.time}
    return {name: value for name, value in facts.items() if name not in ("time", "taken")}
