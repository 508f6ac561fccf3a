"""``/health/live`` and ``/health/ready``, answered before all middleware.

No Host check, HTTPS redirect, login wall or broken session can turn a probe into anything but its answer.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from healthcheck.readiness import readiness

ALLOWED = "GET, HEAD, OPTIONS"


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer, ready for WSGI or ASGI."""

    status: HTTPStatus
    headers: list[tuple[str, str]]
    body: bytes = b""

    @property
    def status_line(self) -> str:
        return f"{self.status.value} {self.status.phrase}"


def answer(method: str, path: str) -> Answer | None:
    """Return the probe's answer, or None when `path` is no probe."""
    probe = {"/health/live": _live, "/health/ready": _ready}.get(path.removesuffix("/"))
    if probe is None:
        return None
    if method == "OPTIONS":
        return Answer(HTTPStatus.NO_CONTENT, [*_HEADERS, ("Allow", ALLOWED)])
    if method not in ("GET", "HEAD"):
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED, [*_HEADERS, ("Allow", ALLOWED), ("Content-Length", "0")])
    status, content, extra = probe()
    body = json.dumps(content, separators=(",", ":")).encode()
    headers = [
        *_HEADERS,
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        *extra,
    ]
    return Answer(status, headers, b"" if method == "HEAD" else body)


_HEADERS = [
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
]
Content = tuple[HTTPStatus, dict[str, object], list[tuple[str, str]]]


def _live() -> Content:
    return HTTPStatus.OK, {"status": "pass"}, []


def _ready() -> Content:
    reading = readiness.current()
    content: dict[str, object] = {
        "status": "pass" if reading.passed else "fail",
        "time": reading.time.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "age": round(reading.age, 1),
    }
    if reading.passed:
        return HTTPStatus.OK, content, []
    return HTTPStatus.SERVICE_UNAVAILABLE, content, [("Retry-After", "1")]
