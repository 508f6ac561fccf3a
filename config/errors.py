"""The one place that turns faults into pages.

No page here touches the database, the session or a context processor, so that a page about a broken
database cannot break on it.
"""

from __future__ import annotations

import sys
from http import HTTPStatus
from math import ceil

import structlog
from django.core.exceptions import RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.translation import gettext as _

log = structlog.get_logger("gatehouse.errors")

RETRY_AFTER = 5  # seconds until a page that met a database fault is worth another try


def error_page(
    request: HttpRequest, status: HTTPStatus, *, template: str = "", retry_after: int | None = None
) -> HttpResponse:
    """Render ``templates/<status>.html``; a plain line when even that fails."""
    request_id = getattr(request, "request_id", "")
    minutes = ceil(retry_after / 60) if retry_after else None
    context = {"request_id": request_id, "status": status.value, "retry_after": retry_after, "minutes": minutes}
    try:
        response = HttpResponse(render_to_string(template or f"{status.value}.html", context), status=status)
    except Exception:
        log.exception("error_page.failed", status=status.value)
        response = HttpResponse(
            f"{status.value} {status.phrase}. {_('Reference')}: {request_id}\n",
            status=status,
            content_type="text/plain; charset=utf-8",
        )
    if retry_after is not None:
        response["Retry-After"] = str(retry_after)
    return response


def page_for(request: HttpRequest, error: BaseException | None) -> HttpResponse | None:
    """Return the page for an error that has one of its own, else None."""
    if isinstance(error, OperationalError | InterfaceError):
        return error_page(request, HTTPStatus.SERVICE_UNAVAILABLE, retry_after=RETRY_AFTER)
    if isinstance(error, RequestDataTooBig):
        return error_page(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    return None


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return page_for(request, exception) or error_page(request, HTTPStatus.BAD_REQUEST)


def permission_denied(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    user = getattr(request, "_cached_user", None)  # only if somebody looked: an error page asks no database
    match = request.resolver_match
    log.warning("request.forbidden", user=str(getattr(user, "pk", None)), route=match.route if match else None)
    return error_page(request, HTTPStatus.FORBIDDEN)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return error_page(request, HTTPStatus.FORBIDDEN, template="403_csrf.html")


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return error_page(request, HTTPStatus.NOT_FOUND)


def method_not_allowed(request: HttpRequest, allow: str = "") -> HttpResponse:
    response = error_page(request, HTTPStatus.METHOD_NOT_ALLOWED)
    response["Allow"] = allow
    return response


def server_error(request: HttpRequest) -> HttpResponse:
    # Django calls this while it handles the exception, and passes the request only.
    error = sys.exc_info()[1]
    return page_for(request, error) or error_page(request, HTTPStatus.INTERNAL_SERVER_ERROR)
