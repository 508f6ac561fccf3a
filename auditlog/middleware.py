"""Lets every record that a request causes say so."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from auditlog import context


class AuditMiddleware:
    """Everything inside acts for this request; who that is, is asked when something is written."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with context.in_context(context.Context(request=request)):
            return self.get_response(request)
