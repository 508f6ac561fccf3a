"""Answers questions about health in front of everything that could turn the answer into another one."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import structlog
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.security import SecurityMiddleware
from django.urls import Resolver404, resolve

from healthcheck import answers
from healthcheck.results import Status

Handler = Callable[[HttpRequest], HttpResponseBase]
log = structlog.get_logger("healthcheck")
PREFIX = "/health"


class HealthMiddleware:
    """Answer reading requests for health pages here: no Host check, HTTPS redirect, session or login wall comes before.

    POST, which starts operations, takes the ordinary way. What fails unexpectedly is told as a failure, with 503.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self._headers = SecurityMiddleware(get_response)

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(PREFIX) or request.method == "POST":
            return self.get_response(request)
        try:
            match = resolve(request.path_info)
        except Resolver404:
            return self.get_response(request)
        if match.app_name != "healthcheck":
            return self.get_response(request)
        request.resolver_match = match
        response = self._answer(request, match.func, match.kwargs)
        # Django would log a line for each 503, that is for each probe of an outage; a change of the state has its own.
        response._has_been_logged = True  # type: ignore[attr-defined]  # noqa: SLF001
        return self._headers.process_response(request, response)  # type: ignore[arg-type]

    @staticmethod
    def _answer(
        request: HttpRequest, view: Callable[..., HttpResponseBase], arguments: dict[str, str]
    ) -> HttpResponseBase:
        allowed = getattr(view, "allowed", answers.ALLOWED)  # operations take POST
        if request.method == "OPTIONS":
            return answers.without_body(HTTPStatus.NO_CONTENT, allowed)
        if request.method not in ("GET", "HEAD") or "GET" not in allowed:
            return answers.without_body(HTTPStatus.METHOD_NOT_ALLOWED, allowed)
        try:
            return view(request, **arguments)
        except Exception:
            log.exception("health.failed", route=request.resolver_match.route if request.resolver_match else None)
            return answers.bare(Status.FAIL)
