"""Who may see more than the bare status.

A stranger gets the status only. Details are for whoever holds the permission ``healthcheck.view_health`` and is signed
in, and for programs with a bearer token whose digest the settings know. While the database is away nobody can be
signed in; then a signed cookie that the page left a few minutes ago stands in for the permission.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user
from django.core import signing
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.module_loading import import_string

SEE = "healthcheck.view_health"
REMEMBERED_SECONDS = 15 * 60
_SALT = "healthcheck.viewer"


@dataclass(frozen=True)
class Viewer:
    """Whoever asks. `user` is None for programs, for strangers, and for those whom only the cookie knows."""

    sees: bool = False
    operates: bool = False  # with a token that may start operations
    user: Any = None
    label: str = ""

    def may(self, permission: str) -> bool:
        """Whether the viewer may start what needs `permission`."""
        return self.operates or (self.user is not None and self.user.has_perm(permission))


STRANGER = Viewer()


def viewer_of(request: HttpRequest, *, seconds: float) -> Viewer:
    """Return who asks; waits at most `seconds` for the database, and no time at all for those without a cookie."""
    if token := token_of(request):
        return _program(token)
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    if not key or "\0" in key:  # no database takes it, and what refuses malformed requests comes after this
        return STRANGER
    try:
        with bounded(seconds):
            return _signed_in(request, key)
    except (DatabaseError, InterfaceError):
        return _remembered(request, key)


def remember(response: HttpResponseBase, request: HttpRequest, viewer: Viewer) -> None:
    """Let somebody who is signed in keep the details for a while if the database goes away now."""
    if viewer.user is None or not viewer.sees:
        return
    key = request.COOKIES[settings.SESSION_COOKIE_NAME]
    value = signing.dumps({"of": _digest(key), "label": viewer.label}, salt=_SALT)
    response.set_cookie(
        settings.HEALTH_COOKIE_NAME,
        value,
        max_age=REMEMBERED_SECONDS,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Strict",
    )


def token_of(request: HttpRequest) -> str:
    """Return the bearer token (RFC 6750) of a request, or ""."""
    scheme, _space, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _program(token: str) -> Viewer:
    digest = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
    operates = _is_one_of(digest, settings.HEALTH_OPERATOR_TOKEN_DIGESTS)
    sees = _is_one_of(digest, settings.HEALTH_TOKEN_DIGESTS) or operates
    return Viewer(sees=sees, operates=operates, label="token " + digest[:8] if sees else "")


def _is_one_of(digest: str, digests: Iterable[str]) -> bool:
    # All of them, each in constant time: how long it takes tells nothing about which one is near.
    return sum(hmac.compare_digest(digest, known) for known in digests) > 0


def _signed_in(request: HttpRequest, key: str) -> Viewer:
    session: Any = import_module(settings.SESSION_ENGINE).SessionStore(key)
    # After a change of SECRET_KEY get_user() gives the session another key, of which nobody here tells the browser.
    session.cycle_key = lambda: None
    request.session = session
    user = get_user(request)
    request.user = user
    if not user.is_authenticated:
        return STRANGER
    import_string(settings.HEALTH_SPEAK_TO)(user)
    return Viewer(sees=user.has_perm(SEE), user=user, label=str(user))


def _remembered(request: HttpRequest, key: str) -> Viewer:
    """Believe the cookie only beside the session that it was left for: whoever signs out loses both."""
    try:
        known = signing.loads(
            request.COOKIES.get(settings.HEALTH_COOKIE_NAME, ""), salt=_SALT, max_age=REMEMBERED_SECONDS
        )
    except signing.BadSignature:
        return STRANGER
    if not hmac.compare_digest(known["of"], _digest(key)):
        return STRANGER
    return Viewer(sees=True, label=known["label"])


def _digest(session_key: str) -> str:
    return hashlib.sha256(session_key.encode("utf-8", "replace")).hexdigest()


def bounded(seconds: float) -> AbstractContextManager[object]:
    """Let the block wait at most so long for the database in all."""
    bounded: AbstractContextManager[object] = _budget()(seconds)
    return bounded


@cache
def _budget() -> Any:
    return import_string(settings.HEALTH_DATABASE_BUDGET)
