"""Sensitive steps ask for the password again when it was typed too long ago.

``@required`` on a function view, or by Django's `method_decorator` on a class view. A login counts as well as the page
that asks. What was posted too late is not done: the page asks, and then shows the place again.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from http import HTTPStatus
from typing import Any, cast, overload
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from accounts.session_engine import store
from config.middleware import is_own_path

_CONFIRMED_AT = "_password_confirmed_at"  # an entry of the session: seconds since 1970
View = Callable[..., HttpResponseBase]


@overload
def required(view: View) -> View: ...
@overload
def required(*, back: str) -> Callable[[View], View]: ...
def required(view: View | None = None, *, back: str = "") -> Any:
    """Let only those in who have typed their password within `REAUTHENTICATION_MINUTES`.

    `back` names the page to go on with instead of the view's own address, which may take a POST only.
    """

    def guarded(view: View) -> View:
        @wraps(view)
        def asking(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            place = resolve_url(back) if back else request.get_full_path()
            if not request.user.is_authenticated:
                return redirect_to_login(place)
            if is_recent(request, minutes=settings.REAUTHENTICATION_MINUTES):
                return view(request, *args, **kwargs)
            return ask(place)

        return asking

    return guarded if view is None else guarded(view)


def is_recent(request: HttpRequest, *, minutes: int) -> bool:
    """Whether the password was typed within so many minutes, at the login or since."""
    session = store(request)
    confirmed_at: float = session.get(_CONFIRMED_AT, 0.0)
    # The login begins the life of the row; without one yet, this request is the login.
    if session.row is None:
        return True
    age = timezone.now().timestamp() - max(confirmed_at, session.row.first_seen_at.timestamp())
    return age < 60 * minutes


def confirm(request: HttpRequest) -> None:
    """Note that the password was typed just now, and give the session another key."""
    # The password may have been hashed anew while it was checked, which would end this session.
    update_session_auth_hash(request, cast("User", request.user))
    request.session[_CONFIRMED_AT] = timezone.now().timestamp()


def ask(place: str) -> HttpResponse:
    """Send to the page that asks, and from there to `place` on this site."""
    query = f"?{urlencode({'next': place})}" if is_own_path(place) else ""
    return HttpResponseRedirect(reverse("confirm") + query, status=HTTPStatus.SEE_OTHER)


def guard_admin(request: HttpRequest) -> HttpResponse | None:
    """Return what stands in the way of a page of the admin: staff type their password once in a while."""
    leaves = request.resolver_match is not None and request.resolver_match.url_name == "logout"
    if leaves or is_recent(request, minutes=settings.ADMIN_REAUTHENTICATION_MINUTES):
        return None
    return ask(request.get_full_path())
