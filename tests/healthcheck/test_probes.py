"""``/health/live`` and ``/health/ready`` over the WSGI door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings

from config import asgi
from config.wsgi import application
from healthcheck import readiness as module
from healthcheck.readiness import Readiness


def ask(path: str, method: str = "GET", **environ: Any) -> tuple[int, dict[str, str], bytes]:
    seen: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        seen.append((int(status.split()[0]), dict(headers)))

    body = b"".join(application({"REQUEST_METHOD": method, "PATH_INFO": path, **environ}, start_response))
    return (*seen[0], body)


@pytest.fixture
def fresh_readiness(monkeypatch: pytest.MonkeyPatch) -> Iterator[Readiness]:
    fresh = Readiness()
    monkeypatch.setattr("healthcheck.probes.readiness", fresh)
    yield fresh
    fresh.close()


@pytest.mark.parametrize("path", ["/health/live", "/health/live/"])
def test_live_touches_nothing_and_is_immune_to_host_and_https(path: str) -> None:
    with override_settings(ALLOWED_HOSTS=["elsewhere"], SECURE_SSL_REDIRECT=True):
        status, headers, body = ask(path, HTTP_HOST="evil.example")
    assert (status, body) == (200, b'{"status":"pass"}')
    assert headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in headers


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/health/ready", "/health/ready/"])
def test_ready_asks_the_database(path: str, fresh_readiness: Readiness) -> None:
    status, _headers, body = ask(path)
    assert status == 200
    assert json.loads(body)["status"] == "pass"
    assert len(body) <= 64


@pytest.mark.django_db(transaction=True)
def test_ready_fails_while_a_migration_is_missing(fresh_readiness: Readiness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_needed_migrations", lambda: {("accounts", "9999_not_there")})
    status, headers, body = ask("/health/ready")
    assert (status, json.loads(body)["status"]) == (503, "fail")
    assert headers["Retry-After"] == "1"


@pytest.mark.django_db(transaction=True)
def test_readings_are_shared_for_a_second(fresh_readiness: Readiness) -> None:
    assert fresh_readiness.current() is fresh_readiness.current()


def test_head_has_no_body_and_options_is_204() -> None:
    assert ask("/health/live", "HEAD")[2] == b""
    assert ask("/health/live", "OPTIONS")[0] == 204


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "NONSENSE"])
def test_other_methods_are_405_with_allow(method: str) -> None:
    status, headers, _body = ask("/health/ready", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


HTTPS = {"SECURE_HSTS_SECONDS": 3600, "SECURE_HSTS_INCLUDE_SUBDOMAINS": True, "SECURE_HSTS_PRELOAD": False}
FORWARDED = {"SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}


@pytest.mark.parametrize(
    ("configured", "environ", "is_told"),
    [
        (HTTPS, {"wsgi.url_scheme": "https"}, True),
        (HTTPS, {"wsgi.url_scheme": "http"}, False),
        (HTTPS, {"HTTP_X_FORWARDED_PROTO": "https"}, False),  # nobody is trusted to say so
        (HTTPS | FORWARDED, {"HTTP_X_FORWARDED_PROTO": "https"}, True),
        (HTTPS | FORWARDED, {"HTTP_X_FORWARDED_PROTO": "http", "wsgi.url_scheme": "https"}, False),
        (FORWARDED, {"HTTP_X_FORWARDED_PROTO": "https"}, False),
    ],
)
def test_https_is_told_of_hsts_as_on_every_page(
    configured: dict[str, Any], environ: dict[str, Any], is_told: bool
) -> None:
    with override_settings(**configured):
        _status, headers, _body = ask("/health/live", **environ)
    assert headers.get("Strict-Transport-Security") == ("max-age=3600; includeSubDomains" if is_told else None)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("path", ["/health/live", "/health/ready/"])
def test_the_asgi_door_gives_the_same_answer(path: str, fresh_readiness: Readiness) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"evil.example"), (b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "method": "GET", "path": path, "scheme": "http", "headers": headers}
    with override_settings(**HTTPS, **FORWARDED):
        asyncio.run(asgi.application(scope, None, send))  # type: ignore[arg-type]  # nothing is received
        status, expected, body = ask(path, HTTP_X_FORWARDED_PROTO="https")
    assert sent[0]["status"] == status
    assert {name.decode(): value.decode() for name, value in sent[0]["headers"]} == {
        name.lower(): value for name, value in expected.items()
    }
    assert json.loads(sent[1]["body"])["status"] == json.loads(body)["status"]
