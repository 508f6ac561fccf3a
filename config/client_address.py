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


def client_network(request: HttpRequest) -> str:
    """Return the network that counts as one caller (see `network_of`), or ``""`` when there is none."""
    address = client_address(request)
    return network_of(address) if address else ""


def network_of(address: str) -> str:
    """Return an IPv4 address itself, of an IPv6 address its /64: whoever has one has all of it.

    An IPv4 address in IPv6 notation is the IPv4 address. Raises ValueError for what is no address.
    """
    ip = ipaddress.ip_address(address.strip().removesuffix("/64"))
    ipv4 = ip if isinstance(ip, ipaddress.IPv4Address) else ip.ipv4_mapped
    return str(ipv4 or ipaddress.IPv6Network((int(ip), 64), strict=False))


def _address(text: str) -> str:
    text = text.strip().partition("%")[0]  # the zone of a link-local address is ours, not the caller's
    if text.startswith("["):  # some proxies append the port as well
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
