"""One content, four forms: a page for people, JSON, ``application/health+json``, and the bare status for strangers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.middleware.csrf import CsrfViewMiddleware
from django.template.loader import render_to_string
from django.utils.cache import patch_vary_headers

from healthcheck.overall import Finding
from healthcheck.results import Status
from healthcheck.viewers import Viewer, remember

JSON = "application/json"
HEALTH_JSON = "application/health+json"
PAGE = "text/html"
ALLOWED = "GET, HEAD, OPTIONS"
RETRY_AFTER = "5"  # seconds


def preferred_form(request: HttpRequest) -> str:
    """Return the form that ``Accept`` asks for (RFC 9110, section 12.5.1); JSON when it asks for nothing we have."""
    try:
        return request.get_preferred_type([JSON, HEALTH_JSON, PAGE]) or JSON
    except ValueError:  # an odd header is no error
        return JSON


def answer(
    request: HttpRequest,
    viewer: Viewer,
    *,
    status: Status,
    time: datetime,
    age: float,
    facts: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
    findings: Iterable[Finding] = (),
    template: str,
    context: Mapping[str, Any] | None = None,
) -> HttpResponse:
    """Return `facts` in the form that is asked for; strangers get no more than status, time and age.

    `own` is for whoever asks, whether they may see the rest or not. `template` gets `context` besides status, time,
    age and viewer, and must show details only to a viewer who `sees` them.
    """
    public = {"status": status.value, "time": time.strftime("%Y-%m-%dT%H:%M:%SZ"), "age": round(age, 1)}
    form = preferred_form(request)
    response: HttpResponse
    if form == PAGE:
        response = _page(request, viewer, template, {**(context or {}), "status": status, "time": time, "age": age})
    else:
        more = {} if not viewer.sees else _checks(findings) if form == HEALTH_JSON else facts
        response = JsonResponse(
            {**public, **more, **(own or {})}, content_type=form, json_dumps_params={"separators": (",", ":")}
        )
    patch_vary_headers(response, ["Accept", "Authorization", "Cookie"])
    return finished(response, status)


def finished(response: HttpResponse, status: Status = Status.PASS) -> HttpResponse:
    """Give `response` the code that `status` asks for, and the headers of all answers about health."""
    if status is Status.FAIL:
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response["Retry-After"] = RETRY_AFTER
    response["Cache-Control"] = "no-store"
    return response


def bare(status: Status) -> HttpResponse:
    """Return the status and nothing else, for what cannot be answered otherwise."""
    return finished(JsonResponse({"status": status.value}), status)


def unknown() -> HttpResponse:
    """Return the answer for a check that nobody registered."""
    return finished(JsonResponse({"error": "unknown_check"}, status=HTTPStatus.NOT_FOUND))


def without_body(code: HTTPStatus, allowed: str = ALLOWED) -> HttpResponse:
    response = HttpResponse(status=code, headers={"Allow": allowed})
    del response["Content-Type"]
    return finished(response)


def _page(request: HttpRequest, viewer: Viewer, template: str, context: dict[str, Any]) -> HttpResponse:
    # The page may hold forms, and it is answered in front of the middleware that knows their tokens.
    csrf = CsrfViewMiddleware(lambda request: HttpResponse())
    csrf.process_request(request)
    page = HttpResponse(render_to_string(template, {**context, "viewer": viewer}, request))
    csrf.process_response(request, page)
    remember(page, request, viewer)
    return page


def _checks(findings: Iterable[Finding]) -> dict[str, Any]:
    """The checks in the words of the IETF draft "Health Check Response Format for HTTP APIs" (inadarei, 06)."""
    checks: dict[str, list[dict[str, Any]]] = {}
    for finding in findings:
        checks.setdefault(finding.name, []).append(_component(finding))
    return {"checks": checks}


def _component(finding: Finding) -> dict[str, Any]:
    component: dict[str, Any] = {"status": finding.status.value}
    if finding.host:
        component["componentId"] = finding.host
    if finding.value is not None:
        component |= {"observedValue": finding.value, "observedUnit": finding.unit}
    if finding.age is not None:
        component["time"] = (datetime.now(UTC) - timedelta(seconds=finding.age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    if finding.status is not Status.PASS:
        component["output"] = finding.code
    return component
