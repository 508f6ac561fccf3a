"""What django-axes needs to know about us: whose failure counts, and the page of a locked-out login."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.http import HttpRequest, HttpResponse

from accounts import identity
from accounts.models import User
from config.client_address import client_address
from config.errors import error_page

_LONGEST_COUNTED = 200  # axes keeps 255 characters; a longer name would overflow its column


def counted_name(request: HttpRequest | None, credentials: dict[str, Any] | None = None) -> str:
    """Return the canonical form of the name that was tried, so that spellings share one budget."""
    given = (credentials or {}).get("username") or (request.POST.get("username", "") if request else "")
    name = identity.canonical_email(given) if "@" in given else identity.canonical_username(given)
    if len(name) <= _LONGEST_COUNTED:
        return name
    return "sha256:" + hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()


def counted_address(request: HttpRequest) -> str:
    """Return the caller's address; behind a Unix socket without proxies of ours, all callers are one."""
    return client_address(request) or "0.0.0.0"  # noqa: S104 - nothing is bound to it


def forget_failures(request: HttpRequest, user: User) -> None:
    """Forget after a success what was tried with the address; axes itself forgets the username's failures."""
    name = counted_name(None, {"username": user.email})
    AccessAttempt.objects.filter(username=name, ip_address=counted_address(request)).delete()


def forget_all_failures(user: User) -> None:
    """Forget what anybody tried with the user's name or address: who holds the mailbox has a new password now."""
    names = [counted_name(None, {"username": name}) for name in (user.username, user.email)]
    AccessAttempt.objects.filter(username__in=names).delete()


def locked_out(
    request: HttpRequest, original_response: HttpResponse, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """Answer a login that is locked for `AXES_COOLOFF_TIME` after too many failures."""
    seconds = round(settings.AXES_COOLOFF_TIME.total_seconds())
    return error_page(request, HTTPStatus.TOO_MANY_REQUESTS, retry_after=seconds)
