"""Between the password and the second factor: who has shown the one and not yet the other.

The session is nobody's until both are shown. What it holds meanwhile opens the page of the second step and nothing
else, ends after ten minutes, and dies with the password that was shown.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from django.contrib.auth import SESSION_KEY, login
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.middleware.csrf import rotate_token
from django.utils.crypto import constant_time_compare

import auditlog
from accounts.models import User
from accounts.second_factor import factors

LASTS = 10 * 60  # seconds
_ENTRY = "_half_way"


@dataclass(frozen=True)
class HalfWay:
    """Who has shown the right password, to which backend, and where they were going ("" when nowhere)."""

    user: User
    backend: str
    next_path: str


def begin(request: HttpRequest, user: User, *, next_path: str) -> None:
    """Note in a session of another key, in which nobody is signed in, that `user` has shown the right password."""
    if SESSION_KEY in request.session:  # whoever was signed in here is not any more
        request.session.flush()
        request.user = AnonymousUser()
    else:
        request.session.cycle_key()
    request.session[_ENTRY] = {
        "user": str(user.pk),
        "backend": user.backend,  # set by `authenticate`
        "password": user.get_session_auth_hash(),  # a keyed digest of the stored hash
        "next": next_path,
        "at": int(time.time()),
    }
    rotate_token(request)
    auditlog.record("second_factor_asked", user)  # else who knows the password and stops here would leave no trace


def of(request: HttpRequest) -> HalfWay | None:
    """Return who is half-way in, or None: also when it took too long, or the account has changed meanwhile."""
    entry = request.session.get(_ENTRY)
    if entry is None or not 0 <= time.time() - entry["at"] < LASTS:
        return None
    user = User.objects.filter(factors.has(), pk=entry["user"]).first()
    if user is None or not user.may_sign_in:
        return None
    if not constant_time_compare(entry["password"], user.get_session_auth_hash()):
        return None
    return HalfWay(user, entry["backend"], entry["next"])


def complete(request: HttpRequest, half_way: HalfWay) -> None:
    """Sign in who has shown the second factor as well; the key of the session changes again."""
    del request.session[_ENTRY]
    login(request, half_way.user, half_way.backend)
