"""Two hundred clients that send a byte now and then, behind the nginx of `docs/nginx.conf`.

Without nginx each of them holds one of gunicorn's threads (two processes of eight): measured with the same 200
connections, three of three pages were not answered within 20 seconds, nor the health probe within 10.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import LOGIN, Browser, free_port, own_database, running_site, sign_up_at_once, wait_until
from tests.live import Site as RunningSite
from tests.nginx import nginx_before

SLOW = 200
PAUSE = 0.5  # seconds between two bytes
HEADERS = f"GET {LOGIN} HTTP/1.1\r\nHost: localhost\r\n".encode()
BODY = (
    f"POST {LOGIN} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000\r\n"
    # With a token's cookie, because without one the form is refused unread.
    f"Cookie: csrftoken={'t' * 32}\r\n"
    "Content-Type: application/x-www-form-urlencoded\r\n\r\nusername="
).encode()


class Crowd:
    """Slow clients at addresses of their own: half trickle headers, half a body; who is cut off comes again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connected: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._come()))

    def __enter__(self) -> Crowd:
        self._thread.start()
        wait_until(lambda: len(self.connected) == SLOW, "all slow clients are connected", seconds=30)
        time.sleep(2 * PAUSE)  # each has said something by now, and goes on
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    async def _come(self) -> None:
        await asyncio.gather(*(self._trickle(number) for number in range(SLOW)))

    async def _trickle(self, number: int) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                here = (f"127.0.1.{number + 1}", 0)
                _reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=here)
                self.connected.add(number)
                writer.write(BODY if number % 2 else HEADERS + b"X-Slow: ")
                while not (self._over.is_set() or writer.is_closing()):
                    writer.write(b"a")
                    await asyncio.sleep(PAUSE)
                writer.close()
            self.connected.discard(number)


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with own_database() as database, running_site(database.environment | {"TRUSTED_PROXIES": "1"}) as running:
        yield running


def test_two_hundred_slow_connections_leave_the_site_usable(site: RunningSite, tmp_path: Path) -> None:
    with nginx_before(site.port, place=tmp_path) as port, Crowd(port) as crowd:
        behind = RunningSite(port, site.program)
        for number in range(20):
            page = behind.browser(timeout=10).get(LOGIN)
            assert (page.status, page.seconds < 3) == (200, True), (number, page.seconds)
        answers = sign_up_at_once(behind, [("calm", "calm@slow.example")])
        assert [(answer.status, answer.seconds < 3) for answer in answers] == [(303, True)]
        assert len(crowd.connected) > SLOW * 0.9  # they were there all the time


def test_the_documented_nginx_hands_on_who_calls_and_tells_nobody_its_version(
    site: RunningSite, tmp_path: Path
) -> None:
    with nginx_before(site.port, place=tmp_path) as port:
        forged = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
        answer = Browser(port).request("GET", "/nowhere/", headers=forged)
        assert (answer.status, answer.headers["Server"]) == (404, "nginx")
        (line,) = [line for line in site.program.says().splitlines() if answer.headers["X-Request-ID"] in line]
        assert '"address": "127.0.0.1"' in line


def test_the_documented_nginx_logs_requests_without_their_tokens(site: RunningSite, tmp_path: Path) -> None:
    with nginx_before(site.port, place=tmp_path) as port:
        answer = Browser(port).get("/accounts/invitation/what-opens-the-door/")
    with nginx_before(free_port(), place=tmp_path) as port:
        Browser(port).get("/accounts/invitation/what-opens-the-door/")  # nobody behind it: an error is logged
    logged = "".join(path.read_text() for path in [*tmp_path.glob("gatehouse*.log"), tmp_path / "said"])
    assert answer.headers["X-Request-ID"] in logged
    assert "what-opens-the-door" not in logged


def test_what_is_refused_unread_reaches_its_sender_as_what_it_is(site: RunningSite, tmp_path: Path) -> None:
    with nginx_before(site.port, place=tmp_path) as port:
        assert Browser(port).request("POST", LOGIN, b"a" * 1_500_000).status == 413  # by nginx
        for _attempt in range(5):
            refused = Browser(port).request("POST", LOGIN, b"a" * 1_000_000)
            assert (refused.status, "Reference" in refused.body) == (413, True)
            assert Browser(port).request("POST", "/nowhere/", b"a" * 1_000_000).status == 404
        assert chunked_post(port) == 403  # nginx has measured it; only the token is missing


def chunked_post(port: int) -> int:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", LOGIN, iter([b"username=a", b"&password=b"]), kind, encode_chunked=True)
    return connection.getresponse().status


def test_behind_nginx_a_site_that_is_away_is_a_503_with_retry_after(tmp_path: Path) -> None:
    with nginx_before(free_port(), place=tmp_path) as port:
        away = Browser(port).get(LOGIN)
    assert (away.status, away.headers["Retry-After"], away.headers["Server"]) == (503, "5", "nginx")
