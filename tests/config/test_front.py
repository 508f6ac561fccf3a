"""Which requests are answered before a thread is taken for them, and which are left to gunicorn."""

from __future__ import annotations

from time import monotonic

import pytest
from django.test import override_settings

from config import front
from healthcheck import probes, readiness

LIVE = b"GET /health/live HTTP/1.1\r\nHost: evil.example\r\n"


def test_a_live_probe_is_answered_whole() -> None:
    answer, stays = front.answer(LIVE + b"\r\n", probes.PATHS) or (b"", False)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert (head.split(b"\r\n")[0], body, stays) == (b"HTTP/1.1 200 OK", b'{"status":"pass"}', True)
    assert {line.split(b":")[0] for line in head.split(b"\r\n")[1:]} == {
        b"Date",
        b"Connection",
        b"Cache-Control",
        b"X-Content-Type-Options",
        b"Content-Security-Policy",
        b"Content-Type",
        b"Content-Length",
    }
    assert f"Content-Length: {len(body)}".encode() in head


def test_whoever_wants_to_part_is_told_so() -> None:
    answer, stays = front.answer(LIVE + b"Connection: Close\r\n\r\n", probes.PATHS) or (b"", True)
    assert b"\r\nConnection: close\r\n" in answer
    assert not stays


@override_settings(SECURE_HSTS_SECONDS=3600, SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"))
def test_whoever_came_by_https_is_told_of_hsts() -> None:
    answer, _stays = front.answer(LIVE + b"X-Forwarded-Proto: https\r\n\r\n", probes.PATHS) or (b"", True)
    assert b"\r\nStrict-Transport-Security: max-age=3600" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"",
        LIVE,  # not whole
        LIVE + b"\r\nGET / HTTP/1.1\r\n\r\n",  # another behind it
        LIVE + b"Content-Length: 3\r\n\r\n",
        LIVE + b"Transfer-Encoding: chunked\r\n\r\n",
        LIVE + b"Expect: 100-continue\r\n\r\n",
        LIVE + b"Upgrade: h2c\r\n\r\n",
        LIVE + b"no header\r\n\r\n",
        LIVE + b" : folded\r\n\r\n",
        LIVE + b"X: a\nb: c\r\n\r\n",
        LIVE + b"X: \xff\r\n\r\n",
        LIVE.replace(b"GET", b"HEAD") + b"\r\n",
        LIVE.replace(b"1.1", b"1.0") + b"\r\n",
        LIVE.replace(b"live", b"live?x") + b"\r\n",
        LIVE.replace(b"live", b"database") + b"\r\n",
        LIVE.replace(b"live", b"../live") + b"\r\n",
    ],
)
def test_everything_else_is_left_to_gunicorn(head: bytes) -> None:
    assert front.answer(head, probes.PATHS) is None


def test_readiness_is_answered_only_while_it_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "readiness", fresh := readiness.Readiness())
    ready = LIVE.replace(b"live", b"ready") + b"\r\n"
    assert front.answer(ready, probes.PATHS) is None
    fresh._asked = monotonic()
    answer, _stays = front.answer(ready, probes.PATHS) or (b"", False)
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert front.answer(ready, {"/health/live"}) is None
