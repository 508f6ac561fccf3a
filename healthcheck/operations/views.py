"""Where operations are asked for and followed, by programs with a token and by people with their session."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt, csrf_protect

from healthcheck import answers, operations
from healthcheck.answers import finished
from healthcheck.models import Run
from healthcheck.operations import AlreadyOpen, Asker, Refused, migrating
from healthcheck.overall import overall
from healthcheck.results import Status
from healthcheck.viewers import Viewer, bounded, token_of, viewer_of
from healthcheck.views import ANSWER_SECONDS, Asked

View = Callable[..., HttpResponse]
_STATUSES = {"migrations_off": HTTPStatus.FORBIDDEN}


def asker_of(viewer: Viewer) -> Asker:
    """Return who asks as a run remembers them: a person, or a token by the beginning of its digest."""
    if viewer.user is None:
        return Asker("token", "", viewer.label)
    return Asker("user", str(viewer.user.pk), viewer.label)


def _nothing(request: HttpRequest) -> dict[str, Any]:
    return {}


def _started_by_post(
    name: str, reading: View | None = None, arguments_of: Callable[[HttpRequest], dict[str, Any]] = _nothing
) -> View:
    """Make the view of an operation: POST asks for it, GET and HEAD are left to `reading` if there is one."""

    def ask(request: HttpRequest, viewer: Viewer) -> HttpResponse:
        if not viewer.may(operations.operations()[name].permission):
            return _refused(viewer)
        try:
            run = operations.start(name, asked_by=asker_of(viewer), arguments=arguments_of(request))
        except AlreadyOpen as other:
            return _told(other.run, HTTPStatus.CONFLICT, error=other.code)
        except Refused as refusal:
            status = _STATUSES.get(refusal.code, HTTPStatus.CONFLICT)
            return finished(JsonResponse({"error": refusal.code}, status=status))
        return _told(run, HTTPStatus.ACCEPTED)

    allowed = "POST, OPTIONS" if reading is None else "GET, HEAD, POST, OPTIONS"

    @csrf_exempt
    def view(request: HttpRequest) -> HttpResponse:
        if request.method != "POST":
            return reading(request) if reading else answers.without_body(HTTPStatus.METHOD_NOT_ALLOWED, allowed)
        if not overall.current().known:
            return answers.bare(Status.FAIL)  # who cannot be looked up is not known to be a stranger
        viewer = viewer_of(request, seconds=ANSWER_SECONDS)
        # Any site can make a browser send its cookies, and none its token.
        return ask(request, viewer) if token_of(request) else csrf_protect(ask)(request, viewer)

    view.allowed = allowed  # type: ignore[attr-defined]  # for the middleware in front, which answers OPTIONS
    return view


def _show_plan(request: HttpRequest) -> HttpResponse:
    """Show what would be applied, with the name of the plan that a POST must give."""
    asked = Asked(request)
    if not asked.viewer.sees and not asked.viewer.may("healthcheck.run_migrations"):
        return answers.bare(asked.report.status)
    with bounded(asked.seconds_left):
        plan = migrating.plan()
    steps = [{"migration": step.name, "operations": step.operations} for step in plan.steps]
    return finished(JsonResponse({"plan": plan.digest, "enabled": migrating.is_enabled(), "steps": steps}))


optimize = _started_by_post("optimize")
cleanup = _started_by_post("cleanup")


@csrf_exempt
def run(request: HttpRequest, run_id: uuid.UUID) -> HttpResponse:
    """Tell how far a run is, and what it did."""
    if request.method == "POST":
        return answers.without_body(HTTPStatus.METHOD_NOT_ALLOWED)
    asked = Asked(request)
    known = operations.operations()
    with bounded(asked.seconds_left):
        allowed = asked.viewer.sees or any(asked.viewer.may(each.permission) for each in known.values())
        found = operations.find(run_id) if allowed else None
    return answers.unknown() if found is None else _told(found)


def _refused(viewer: Viewer) -> HttpResponse:
    known = viewer.user is not None or viewer.sees
    status = HTTPStatus.FORBIDDEN if known else HTTPStatus.UNAUTHORIZED
    response = finished(JsonResponse({"error": "not_allowed"}, status=status))
    if not known:
        response["WWW-Authenticate"] = "Bearer"  # RFC 9110, section 11.6.1
    return response


def _named_plan(request: HttpRequest) -> dict[str, Any]:
    """The plan that is named in a form or in JSON. What is no plan is no error: it is not the one that is planned."""
    if request.content_type != "application/json":
        given: Any = request.POST
    else:
        try:
            given = json.loads(request.body)
        except (ValueError, RecursionError):  # also for what is no UTF-8, or nested without end
            given = {}
    plan = given.get("plan") if hasattr(given, "get") else None
    return {"plan": plan} if isinstance(plan, str) else {}


migrations = _started_by_post("migrations", _show_plan, _named_plan)


def _told(run: Run, status: HTTPStatus = HTTPStatus.OK, **more: str) -> HttpResponse:
    address = reverse("healthcheck:run", args=[run.pk])
    response = finished(JsonResponse({**as_facts(run), **more}, status=status))
    if status is not HTTPStatus.OK:
        response["Location"] = address
    return response


def as_facts(run: Run) -> dict[str, Any]:
    """Return a run for programs; what is not known yet is left out."""
    facts = {
        "id": str(run.pk),
        "operation": run.operation,
        "state": run.state,
        "code": run.code,
        "asked_by": run.asked_by_label,
        "asked_at": run.asked_at,
        "began_at": run.began_at,
        "ended_at": run.ended_at,
        "progress": run.progress,
        "result": run.result,
    }
    return {name: value for name, value in facts.items() if value}
