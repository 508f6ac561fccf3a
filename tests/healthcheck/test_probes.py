"""``/health/live`` and ``/health/ready`` over the WSGI door."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from config.wsgi import application
from healthcheck import readiness as module
from healthcheck.ping import NoAnswer, Ping
from healthcheck.readiness import Readiness


def ask(path: str, method: str = "GET", **environ: Any) -> tuple[int, dict[str, str], bytes]:
    seen: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> None:
        seen.append((int(status.split()[0]), dict(headers)))

    body = b"".join(application({"REQUEST_METHOD": method, "PATH_INFO": path, **environ}, start_response))
    return (*seen[0], body)


@pytest.fixture
def fresh_readiness(monkeypatch: pytest.MonkeyPatch) -> Readiness:
    fresh = Readiness()
    monkeypatch.setattr("healthcheck.probes.readiness", fresh)
    return fresh


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


@pytest.mark.django_db(transaction=True)
def test_a_kept_connection_that_was_ended_is_opened_again() -> None:
    ping = Ping()
    ((pid,),) = ping.ask("SELECT pg_backend_pid()", 5)
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert ping.ask("SELECT 1", 5) == [(1,)]
    ping.close()


@pytest.mark.django_db(transaction=True)
def test_a_slow_answer_is_no_answer() -> None:
    ping = Ping()
    with pytest.raises(NoAnswer):
        ping.ask("SELECT pg_sleep(5)", 0.1)
    assert ping.ask("SELECT 1", 5) == [(1,)]
    ping.close()


def test_head_has_no_body_and_options_is_204() -> None:
    assert ask("/health/live", "HEAD")[2] == b""
    assert ask("/health/live", "OPTIONS")[0] == 204


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "NONSENSE"])
def test_other_methods_are_405_with_allow(method: str) -> None:
    status, headers, _body = ask("/health/ready", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
