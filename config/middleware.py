"""What surrounds every request, outermost first, in the order of `MIDDLEWARE`."""

from __future__ import annotations

import logging
import re
import secrets
import uuid
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from time import monotonic
from typing import Any, TypeVar
from urllib.parse import urljoin

import structlog
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from django.template.response import SimpleTemplateResponse
from django.utils import timezone, translation
from django.utils.cache import patch_cache_control, patch_vary_headers

from config import errors
from config.client_address import client_address
from config.content_type import MALFORMED
from config.database import replicas, routing
from config.database.deadline import database_budget
from config.database.positions import BEYOND, Position

Handler = Callable[[HttpRequest], HttpResponseBase]
log = structlog.get_logger("gatehouse.request")

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{8,64}\Z")
_LENGTH = re.compile(r"[0-9]{0,19}")
LONGEST_STRANGERS_BODY = 16 * 1024  # bytes; whoever is signed in may send DATA_UPLOAD_MAX_MEMORY_SIZE


class RequestIdMiddleware:
    """Give the request an id that travels to the response header, every log line and the error page."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        given = request.headers.get("X-Request-ID", "")
        # Only a proxy of ours may name it: a stranger's id could collide with somebody else's lines.
        keep = settings.TRUSTED_PROXIES and _REQUEST_ID.match(given)
        request_id = given if keep else uuid.uuid4().hex
        request.request_id = request_id  # type: ignore[attr-defined]
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            started = monotonic()
            response = self.get_response(request)
            response["X-Request-ID"] = request_id
            self._log(request, response, monotonic() - started)
        return response

    @staticmethod
    def _log(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
        match = request.resolver_match
        is_static = match is None and request.path.startswith(settings.STATIC_URL)
        is_probe = match is not None and match.app_name == "healthcheck" and request.method != "POST"
        is_unlogged = match is not None and getattr(match.func, "is_unlogged", False)
        log.log(
            logging.DEBUG if is_static or is_probe or is_unlogged else logging.INFO,
            "request",
            method=request.method,
            # The route, not the address: addresses carry tokens and a stranger's text.
            route=match.route if match else None,
            status=int(response.status_code),
            milliseconds=round(seconds * 1000, 1),
            address=client_address(request),
        )


V = TypeVar("V", bound=Callable[..., Any])


def unlogged(view: V) -> V:
    """Mark a view that is asked at every keystroke: its requests make no line, as those of static files."""
    view.is_unlogged = True  # type: ignore[attr-defined]
    return view


def always_fresh(view: V) -> V:
    """Mark a view that no replica may answer, even to a stranger: whether a link still opens something, for example."""
    view.is_always_fresh = True  # type: ignore[attr-defined]
    return view


class LanguageMiddleware:
    """Speak the language that the browser asks for, of those in LANGUAGES, and in the site's zone.

    Whoever is signed in may have chosen another one (accounts.preferences). What was set ends with the request: the
    next one of this thread is somebody else's.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with translation.override(translation.get_language_from_request(request)), timezone.override(None):
            response = self.get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):  # files and probes are the same for everybody
            patch_vary_headers(response, ["Accept-Language"])
        return response


class HeadMiddleware:
    """Answer HEAD without a body (RFC 9110, section 9.3.2); Django leaves that to the server, which complains."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if request.method == "HEAD" and isinstance(response, HttpResponse):
            response["Content-Length"] = str(len(response.content))
            response.content = b""
        return response


class SecurityHeadersMiddleware:
    """The headers of every answer that Django's own middleware does not set, errors included."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        response.headers.setdefault("Content-Security-Policy", CONTENT_SECURITY_POLICY)
        response.headers.setdefault("X-Content-Type-Options", "nosniff")
        response.headers.setdefault("X-Frame-Options", settings.X_FRAME_OPTIONS)
        response.headers.setdefault("Referrer-Policy", settings.SECURE_REFERRER_POLICY)
        if "Cache-Control" not in response:
            # Every page of ours may show who is signed in or a form's token.
            patch_cache_control(response, no_store=True, private=True)
        return response


class WellFormedMiddleware:
    """Refuse with 400 what no browser sends and no layer below survives (rule zero of the behaviour)."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if request.method == "TRACE":
            return errors.method_not_allowed(request)
        if is_malformed(request):
            return errors.bad_request(request)
        if "HTTP_TRANSFER_ENCODING" in request.META:
            # Django takes a body of unannounced length for an empty one; the caller should know.
            return errors.error_page(request, HTTPStatus.LENGTH_REQUIRED)
        return self.get_response(request)


def is_malformed(request: HttpRequest) -> bool:
    """Whether the path, headers, cookies or content type hold what PostgreSQL or a codec would choke on."""
    headers = [value for value in request.META.values() if isinstance(value, str)]
    if "%00" in request.META.get("QUERY_STRING", "") or any("\0" in text for text in (request.path, *headers)):
        return True
    # A quoted octal \000 is decoded by the cookie parser, so look at what it made of the header.
    if any("\0" in value for value in request.COOKIES.values()):
        return True
    # Django reads the length as a number in one place and forgives it in another.
    return request.content_type == MALFORMED or not _LENGTH.fullmatch(request.META.get("CONTENT_LENGTH") or "")


OWN_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x20\x7f]*")


class OwnRedirectsMiddleware:
    """Redirect to paths of this site only, whatever a view made of a ``next`` parameter."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if "Location" in response and not is_own_path(urljoin(request.path, response["Location"])):
            response["Location"] = "/"
        return response


def is_own_path(address: str) -> bool:
    """Whether `address` is a path of this site: no scheme, host, backslash, space or control character."""
    return OWN_PATH.fullmatch(address) is not None


class DatabaseBudgetMiddleware:
    """Bound the time that one request may wait for the database, whatever state the server is in."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with database_budget(settings.DATABASE_DEADLINE):
            return self.get_response(request)


class BoundedBodyMiddleware:
    """Refuse with 413 a body that is too long for its page and sender, before anything parses or hashes it.

    A page that opens without signing in (Django's mark `login_not_required`) is a stranger's page, whoever asks.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Callable[..., Any], *_: Any) -> HttpResponse | None:
        # Before the CSRF check, which parses the form; the user is looked up for long bodies only.
        length = announced_length(request.META.get("CONTENT_LENGTH"))
        if length <= LONGEST_STRANGERS_BODY:
            return None
        members_page = getattr(view, "login_required", True) and request.user.is_authenticated
        if members_page and length <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return None
        return errors.error_page(request, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


def announced_length(header: str | None) -> int:
    """The bytes that a Content-Length announces; none when it is missing or no number, as Django counts it."""
    try:
        return int(header or 0)
    except ValueError:
        return 0


class MethodPageMiddleware:
    """Give the bare 405 of Django's views the page of the other errors."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if isinstance(response, HttpResponseNotAllowed):
            return errors.method_not_allowed(request, response["Allow"])
        return response


class PackingMiddleware(GZipMiddleware):
    """As Django's, but a download keeps its length, by which a cut one is told, and comes as it is made."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return response if response.streaming else super().process_response(request, response)


# When nobody can tell the position, the name is random: it binds to the primary, and is nobody else's to remove.
UNKNOWN_BYTES = 8
_UNKNOWN = re.compile(f"[0-9a-f]{{{2 * UNKNOWN_BYTES}}}")
MOST_REMOVED = 20  # cookies by one answer, whose headers proxies limit
WRITTEN_COOKIE_AGE = 3600  # seconds; after DATABASE_REPLICA_LAG it only matters while the primary is away


class ReplicaMiddleware:
    """Let pages that only look read from a replica, as new as the last write of the same browser at least.

    How far the primary had come after a write stands in the name of a cookie, one for each write: answers that overtake
    each other take nothing back. The furthest binds, and the others are removed. Whoever forges one is sent to the
    primary, or back to what they have not seen yet.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        known = {name: position for name in request.COOKIES if (position := _position_in(name))}
        written = max(known.values(), default=None)
        with routing.reading(written) as reading:
            response = self.get_response(request)
        if reading.has_written:
            written = replicas.current_position()
            response.set_cookie(
                f"{settings.WRITTEN_COOKIE_NAME}-{written or secrets.token_hex(UNKNOWN_BYTES)}",
                "1",
                max_age=WRITTEN_COOKIE_AGE,
                secure=settings.HTTPS,
                httponly=True,
                samesite="Lax",
            )
        # After a write also what is beyond everything: it was not known better then, and now it is.
        for name in [name for name, position in known.items() if position != written][:MOST_REMOVED]:
            response.delete_cookie(name, samesite="Lax")
        return response

    def process_view(self, request: HttpRequest, view: Callable[..., Any], args: Any, kwargs: Any) -> None:
        reading = routing.current()
        if reading is not None and request.method in ("GET", "HEAD") and not _needs_primary(request, view):
            reading.open(partial(view, request, *args, **kwargs))

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        """Run the view once more on the primary when it met a fault, or the lag, of its replica."""
        reading = routing.current()
        if reading is None or reading.again is None or not reading.can_be_repeated(exception):
            return None
        reading.close()
        response: HttpResponseBase = reading.again()
        return response.render() if isinstance(response, SimpleTemplateResponse) else response


def _position_in(name: str) -> Position | None:
    """Return the position that a cookie of this name stands for, None if it is not one of ours."""
    beginning, _dash, text = name.rpartition("-")
    if beginning != settings.WRITTEN_COOKIE_NAME:
        return None
    return BEYOND if _UNKNOWN.fullmatch(text) else Position.parse(text)


# What changes a row is made from the row as it is; in the admin a form comes with GET.
_ADMIN_FORM = re.compile(r"\w+_(?:add|change|delete)")


def _needs_primary(request: HttpRequest, view: Callable[..., Any]) -> bool:
    match = request.resolver_match
    is_form = match is not None and match.app_name == "admin" and _ADMIN_FORM.fullmatch(match.url_name or "")
    return bool(is_form) or getattr(view, "is_always_fresh", False) or iscoroutinefunction(view)
