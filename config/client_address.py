"""The one place that says where a request came from."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the caller's IP address, or ``""`` when there is none (a Unix socket, a test).

    Each of `TRUSTED_PROXIES` proxies appends the address it was called from to ``X-Forwarded-For``, so the
    client stands that many places from the right; whatever stands left of it was written by a stranger and
    is ignored, as is a malformed value.
    """
    peer = _address(request.META.get("REMOTE_ADDR", ""))
    trusted = settings.TRUSTED_PROXIES
    if not trusted:
        return peer
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
    return (_address(forwarded[-trusted]) if len(forwarded) >= trusted else "") or peer


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text.strip()))
    except ValueError:
        return ""
