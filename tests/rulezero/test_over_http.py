"""What only a real server can show: bytes that are no request, and the lengths and headers that it lets through."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.live import LOGIN, Site, own_database, running_site

GET = b"GET /accounts/login/ HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /accounts/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
# name: (what is sent, the statuses that are right; 0 is a closed connection without an answer)
RAW: dict[str, tuple[bytes, set[int]]] = {
    "nothing": (b"", {0}),
    "line ends": (b"\r\n\r\n\r\n", {0, 400}),
    "bytes": (bytes(range(256)) * 8, {400}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 500 + b"\r\n\r\n", {400}),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {0, 400, 505}),
    "another version": (b"GET / HTTP/9.9\r\nHost: localhost\r\n\r\n", {400, 505}),
    "no version": (b"GET /\r\n\r\n", {400}),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", {200, 400}),  # of the address that it came to
    "two hosts": (GET + b"Host: evil.example\r\n\r\n", {400}),
    "a forged host": (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", {400}),
    "a whole address": (b"GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", {200, 400, 404}),
    "no path": (b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 404}),
    "NUL in the path": (b"GET /%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    "raw NUL in the path": (b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    "NUL in a header": (GET + b"User-Agent: a\0b\r\n\r\n", {400}),
    "bytes in a header": (GET + b"User-Agent: \xff\xfe\x80\r\n\r\n", {200, 400}),
    "a folded header": (GET + b"X-A: b\r\n c\r\n\r\n", {200, 400}),
    "a header without a name": (GET + b": b\r\n\r\n", {400}),
    "a header with a space": (GET + b"Content-Length : 5\r\n\r\nabcde", {400}),
    "an endless line": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 414}),
    "an endless header": (GET + b"X-A: " + b"a" * 20_000 + b"\r\n\r\n", {400, 431}),
    "a thousand headers": (GET + b"X-A: b\r\n" * 1000 + b"\r\n", {400, 431}),
    "an endless cookie": (GET + b"Cookie: " + b"a=b; " * 1500 + b"\r\n\r\n", {200, 400, 431}),
    "TRACE": (b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", {405}),
    "CONNECT": (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 403, 404, 405}),
    "an invented method": (b"BREW /accounts/login/ HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 403, 405}),
    "lower case": (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", {200, 400, 405}),
    "chunked": (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\na=b&c\r\n0\r\n\r\n", {411}),
    "endless chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"4000\r\n" + b"a" * 0x4000 + b"\r\n", {411}),
    "broken chunks": (POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", {400, 411}),
    "two lengths": (POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef", {400}),
    "a length and chunks": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "a length of no number": (POST + b"Content-Length: abc\r\n\r\n", {400}),
    "a length below zero": (POST + b"Content-Length: -5\r\n\r\n", {400}),
    "an endless length": (POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", {400}),
    "16 KB and a byte": (POST + b"Content-Length: 16385\r\n\r\n" + b"a" * 16_385, {413}),
    "a megabyte and a byte": (POST + b"Content-Length: 1048577\r\n\r\n", {413}),
    "a charset beside a query": (
        POST.replace(b"/ HTTP", b"/?next=x HTTP").replace(b"encoded", b"encoded; charset=hex") + b"\r\n",
        {400},
    ),
    "a codec in the type": (POST.replace(b"encoded", b"encoded; charset*=hex''x") + b"\r\n", {400}),
    "an underscore": (GET + b"X_Forwarded_For: 1.2.3.4\r\nCONTENT_LENGTH: 5\r\n\r\n", {200, 400}),
}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with own_database() as database, running_site(database.environment) as running:
        yield running


def send(site: Site, request: bytes) -> tuple[int, bytes, float]:
    """Send the bytes and read all that comes; returns status (0: none), answer and seconds."""
    started = time.monotonic()
    answer = b""
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        try:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(65536):
                answer += part
        except ConnectionError:
            pass  # refused in the middle
    status = int(answer.split()[1]) if answer.startswith(b"HTTP/1.") else 0
    return status, answer, time.monotonic() - started


@pytest.mark.parametrize("name", RAW)
def test_bytes_that_are_no_good_request_get_a_plain_refusal_in_time(site: Site, name: str) -> None:
    request, right = RAW[name]
    status, answer, seconds = send(site, request)
    assert status in right, answer[:300]
    assert seconds < 3
    for inside in (b"Traceback", b"Exception", b"Django", b"python", b"/work", b"gunicorn/"):
        assert inside not in answer


def test_the_server_is_named_without_its_version(site: Site) -> None:
    assert site.browser().get(LOGIN).headers["Server"] == "gunicorn"


def test_after_all_that_no_process_has_died_and_no_error_is_in_the_log(site: Site) -> None:
    before = site.processes()
    for request, _right in RAW.values():
        send(site, request)
    assert site.processes() == before
    assert "Traceback" not in site.program.says()
    assert site.browser().get(LOGIN).status == 200
