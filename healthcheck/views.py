"""What is under ``/health/``, besides the probes. Each answer is ready within a second, whatever the database does."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from time import monotonic
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from healthcheck import answers, registry
from healthcheck.overall import Finding, Report, overall
from healthcheck.results import Status, worst
from healthcheck.viewers import Viewer, viewer_of

ANSWER_SECONDS = 0.9  # of the second that an answer may take


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
    """One question: the state of the whole, who asks, and the time left to answer."""

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

    def answer(self, status: Status, facts: dict[str, Any], **more: Any) -> HttpResponse:
        report = self.report
        return answers.answer(
            self.request, self.viewer, status=status, time=report.time, age=report.age, facts=facts, **more
        )


@read_only
def whole(request: HttpRequest) -> HttpResponse:
    """The verdict of the readiness probe, with a warning when anything else is wrong, and every check's reading."""
    asked = Asked(request)
    findings = asked.report.findings
    facts = {"code": asked.report.ready.code, "checks": [as_facts(finding) for finding in findings]}
    return asked.answer(
        asked.report.status,
        facts,
        findings=findings,
        template="healthcheck/whole.html",
        context={"findings": findings, "report": asked.report},
    )


@read_only
def check(request: HttpRequest, name: str) -> HttpResponse:
    """The last reading of one check, on each host that it is about."""
    asked = Asked(request)
    findings = asked.report.of(name)
    if not findings:
        return answers.unknown()
    known = registry.checks().get(name)
    own = known.detail(request) if known and known.detail and asked.viewer.user else {}
    return asked.answer(
        worst(finding.status for finding in findings),
        {"readings": [as_facts(finding) for finding in findings]},
        own=own,
        findings=findings,
        template="healthcheck/check.html",
        context={"findings": findings, "name": name, "own": own},
    )


def as_facts(finding: Finding) -> dict[str, Any]:
    """Return a finding for programs; what is not known is left out."""
    facts = {
        "check": finding.name,
        "host": finding.host or None,
        "status": finding.status.value,
        "code": finding.code,
        "value": finding.value,
        "unit": finding.unit or None,
        "milliseconds": finding.milliseconds,
        "age": None if finding.age is None else round(finding.age, 1),
    }
    return {name: value for name, value in facts.items() if value is not None}
