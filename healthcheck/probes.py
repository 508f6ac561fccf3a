"""``/health/live`` and ``/health/ready``, answered before all middleware.

No Host check, HTTPS redirect, login wall or broken session can turn a probe into anything but its answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any

from django.conf import settings

from healthcheck.readiness import Reading, readiness

LIVE = frozenset({"/health/live", "/health/live/"})
PATHS = LIVE | {"/health/ready", "/health/ready/"}
ALLOWED = "GET, HEAD, OPTIONS"
Headers = list[tuple[str, str]]
HEADERS: Headers = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer, ready for WSGI or ASGI."""

    status: HTTPStatus
    headers: Headers
    body: bytes = b""

    @property
    def status_line(self) -> str:
        return f"{self.status.value} {self.status.phrase}"

    def as_bytes(self, connection: str) -> bytes:
        """The answer as HTTP/1.1 has it; `connection` is ``close`` or ``keep-alive``."""
        about = [("Date", formatdate(usegmt=True)), ("Connection", connection)]
        lines = [f"{name}: {value}\r\n" for name, value in (*about, *self.headers)]
        return f"HTTP/1.1 {self.status_line}\r\n{''.join(lines)}\r\n".encode("latin-1") + self.body


def is_probe(path: str) -> bool:
    return path in PATHS


def answer(method: str, path: str, scheme: str, meta: Mapping[str, Any]) -> Answer:
    """Return the answer of the probe at `path`; the one at ``/health/ready`` may take half a second.

    `scheme` is that of the connection, `meta` holds the request's headers by their WSGI names.
    """
    if method == "OPTIONS":
        found = _OPTIONS
    elif method not in ("GET", "HEAD"):
        found = _NOT_ALLOWED
    else:
        found = _ALIVE if path in LIVE else _ready(readiness.current())
    return Answer(found.status, [*found.headers, *_hsts(scheme, meta)], b"" if method == "HEAD" else found.body)


def known_answer(path: str, scheme: str, meta: Mapping[str, Any]) -> Answer | None:
    """Return what `answer` would say to GET, when it is known without asking the database; else None."""
    if path in LIVE:
        found = _ALIVE
    elif reading := readiness.known():
        found = _ready(reading)
    else:
        return None
    return Answer(found.status, [*found.headers, *_hsts(scheme, meta)], found.body)


def _json(status: HTTPStatus, body: str, *extra: tuple[str, str]) -> Answer:
    content = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Answer(status, [*HEADERS, *content, *extra], body.encode("ascii"))


_OPTIONS = Answer(HTTPStatus.NO_CONTENT, [*HEADERS, ("Allow", ALLOWED)])
_NOT_ALLOWED = Answer(HTTPStatus.METHOD_NOT_ALLOWED, [*HEADERS, ("Allow", ALLOWED), ("Content-Length", "0")])
_ALIVE = _json(HTTPStatus.OK, '{"status":"pass"}')


def _ready(reading: Reading) -> Answer:
    about = f'"time":"{reading.time:%Y-%m-%dT%H:%M:%SZ}","age":{reading.age:.1f}'
    if reading.passed:
        return _json(HTTPStatus.OK, f'{{"status":"pass",{about}}}')
    return _json(HTTPStatus.SERVICE_UNAVAILABLE, f'{{"status":"fail",{about}}}', ("Retry-After", "1"))


def _hsts(scheme: str, meta: Mapping[str, Any]) -> Headers:
    """What Django's SecurityMiddleware would add (RFC 6797, ASVS 3.4.1), by its own rules."""
    if not settings.SECURE_HSTS_SECONDS:
        return []
    if settings.SECURE_PROXY_SSL_HEADER:
        name, https = settings.SECURE_PROXY_SSL_HEADER
        if (forwarded := meta.get(name)) is not None:
            scheme = "https" if forwarded.split(",", 1)[0].strip() == https else "http"
    return [("Strict-Transport-Security", hsts_value())] if scheme == "https" else []


def hsts_value() -> str:
    words = f"max-age={settings.SECURE_HSTS_SECONDS}"
    words += "; includeSubDomains" if settings.SECURE_HSTS_INCLUDE_SUBDOMAINS else ""
    return words + ("; preload" if settings.SECURE_HSTS_PRELOAD else "")
