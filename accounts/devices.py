"""Browsers that an account knows, so that strangers who guess cannot lock its owner out of them.

A signed cookie names the browser and the accounts that signed in there (OWASP, "Slow Down Online Guessing
Attacks with Device Cookies"). It opens nothing: whoever steals it gains a few guesses.
"""

from __future__ import annotations

import secrets

from django.conf import settings
from django.core import signing
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import preferences
from accounts.models import User
from accounts.user_agents import readable, storable
from config.client_address import client_address
from config.middleware import Handler

MAX_AGE = 365 * 24 * 3600  # seconds
MOST_ACCOUNTS = 5  # of one browser; the latest stay
_SALT = "accounts.devices"


def known_device(request: HttpRequest, account: str) -> str:
    """Return the id of the request's browser if `account` has signed in with it before, else ``""``."""
    device, accounts = _read(request)
    return device if account in accounts else ""


def new_device(request: HttpRequest, user: User) -> tuple[str, str] | None:
    """Return name and address of the request's browser if `user`, as read before this login, has never used it.

    The name is in the language of their mails. None for the first login of all: that is how everybody begins.
    """
    if not user.login_count or known_device(request, str(user.pk)):
        return None
    with preferences.of_user(user):
        return readable(storable(request.headers.get("User-Agent", ""))), client_address(request)


def remember(request: HttpRequest, user: User) -> None:
    """Let the answer to this request make its browser a known one of `user`, from now for a year."""
    device, accounts = _read(request)
    others = [account for account in accounts if account != str(user.pk)]
    content = [device or secrets.token_urlsafe(16), [str(user.pk), *others][:MOST_ACCOUNTS]]
    request.device_cookie = signing.dumps(content, salt=_SALT)  # type: ignore[attr-defined]


def _read(request: HttpRequest) -> tuple[str, list[str]]:
    value = request.COOKIES.get(settings.DEVICE_COOKIE_NAME, "")
    try:
        device, accounts = signing.loads(value, salt=_SALT, max_age=MAX_AGE)
    except (signing.BadSignature, ValueError):  # forged, expired, or no text that could be signed
        return "", []
    return device, accounts


class DeviceCookieMiddleware:
    """Set the cookie that `remember` made; the signal of a login has no response to put it in."""

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if cookie := getattr(request, "device_cookie", ""):
            response.set_cookie(
                settings.DEVICE_COOKIE_NAME,
                cookie,
                max_age=MAX_AGE,
                secure=settings.HTTPS,
                httponly=True,
                samesite="Lax",
            )
        return response
