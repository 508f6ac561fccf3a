"""``manage.py health serve`` and ``drain``: probes from a process of their own, and a host taken out."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

import pytest

from tests.live import (
    PATIENCE,
    ROOT,
    Browser,
    Database,
    Program,
    free_port,
    manage,
    own_database,
    wait_until,
)

IDLE = 600  # more than it holds


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


@pytest.fixture(scope="module")
def environment(database: Database, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("host") / "draining"
    return database.environment | {"HEALTH_PORT": str(free_port()), "HEALTH_DRAIN_FILE": str(place)}


@pytest.fixture(scope="module")
def server(environment: dict[str, str]) -> Iterator[Program]:
    with Program(f"{ROOT}/manage.py", "health", "serve", environment=environment) as program:
        program.wait_for("health.serving")
        yield program


@pytest.fixture
def browser(server: Program, environment: dict[str, str]) -> Browser:
    return Browser(int(environment["HEALTH_PORT"]), timeout=10)


def raw(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health/live", 200),
        ("GET", "/health/ready/", 200),
        ("HEAD", "/health/ready", 200),
        ("OPTIONS", "/health/live", 204),
        ("POST", "/health/live", 405),
        ("POST", "/health/cleanup", 405),
        ("GET", "/health", 200),
        ("GET", "/health/", 200),
        ("GET", "/healthy", 404),
        ("GET", "/", 404),
        ("GET", "/accounts/login/", 404),
        ("GET", "/health/../accounts/login/", 404),
        ("GET", "/health/%2e%2e/accounts/login/", 404),
    ],
)
def test_it_answers_below_health_and_nowhere_else(browser: Browser, method: str, path: str, status: int) -> None:
    answer = browser.request(method, path)
    assert answer.status == status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in answer.headers


def test_the_other_addresses_are_answered_by_the_sites_own_door(browser: Browser) -> None:
    answer = browser.get("/health/there-is-no-such-check")
    assert (answer.status, answer.headers["X-Request-ID"] is None) == (404, False)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET http://elsewhere/health/live HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/2.0\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/1.1\r\nHo st: a\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/1.1\r\nno header\r\n\r\n", b"400"),
        (b"GET /health/live HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"200"),
        (b"GET /health/%00\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", b"4"),
        (b"GET /health/live HTTP/1.0\r\n\r\n", b"200"),
    ],
)
def test_what_is_no_request_is_refused(browser: Browser, request_: bytes, status: bytes) -> None:
    assert raw(browser.port, request_).split(b" ")[1].startswith(status)


def test_a_head_that_is_too_long_ends_the_connection(browser: Browser) -> None:
    with pytest.raises((ConnectionError, IndexError)):
        raw(browser.port, b"GET /health/live HTTP/1.1\r\nX: " + b"a" * 70_000).split()[1]
    assert browser.get("/health/live").status == 200


def open_files(server: Program) -> int:
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def test_idle_and_slow_clients_cost_a_probe_nothing(browser: Browser) -> None:
    with ExitStack() as opened:
        address = ("127.0.0.1", browser.port)
        clients = [opened.enter_context(socket.create_connection(address, timeout=10)) for _ in range(IDLE)]
        for slow in clients[1::2]:
            with suppress(OSError):
                slow.sendall(b"GET /health/live HTTP/1.1\r\nX-Slow: ")
        clients[0].settimeout(1)
        assert clients[0].recv(1) == b""  # the oldest has given way
        for _ in range(20):
            assert (browser.get("/health/live").status, browser.get("/health/ready").status) == (200, 200)
        assert browser.get("/health/live").seconds < 0.5


def test_a_client_that_says_nothing_is_let_go(browser: Browser, server: Program) -> None:
    with socket.create_connection(("127.0.0.1", browser.port), timeout=10) as idle:
        assert idle.recv(1) == b""
    wait_until(lambda: open_files(server) < 25, "nothing is left", seconds=5)


def test_drain_takes_the_host_out_and_off_brings_it_back(browser: Browser, environment: dict[str, str]) -> None:
    assert browser.get("/health/ready").status == 200
    done = manage("health", "drain", environment=environment)
    assert (done.returncode, done.stdout) == (0, "This host is being drained: it is not ready any more.\n")
    answer = browser.get("/health/ready")
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert json.loads(answer.body)["status"] == "fail"
    assert browser.get("/health/live").status == 200
    done = manage("health", "drain", "--off", environment=environment)
    assert (done.returncode, done.stdout) == (0, "This host is ready again.\n")
    assert browser.get("/health/ready").status == 200


def test_drain_says_when_it_cannot(environment: dict[str, str], tmp_path: Path) -> None:
    nowhere = {"HEALTH_DRAIN_FILE": str(tmp_path / "not-there" / "draining")}
    done = manage("health", "drain", environment=environment | nowhere)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "No such file or directory" in done.stderr


def test_it_says_when_it_cannot_listen(server: Program, environment: dict[str, str]) -> None:
    done = manage("health", "serve", environment=environment)
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "cannot be used: Address already in use." in done.stderr
    done = manage("health", "serve", environment=environment | {"HEALTH_PORT": "0"})
    assert (done.returncode, done.stderr.count("\n")) == (3, 1)
    assert "HEALTH_PORT" in done.stderr


def test_systemd_is_told_that_it_listens_and_that_it_lives(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE)
        told = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "HEALTH_PORT": str(free_port())}
        with Program(f"{ROOT}/manage.py", "health", "serve", environment=environment | told):
            assert [systemd.recv(99) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]


def test_it_ends_at_once_with_sigterm_and_with_its_parent(environment: dict[str, str]) -> None:
    port = str(free_port())
    with Program(f"{ROOT}/manage.py", "health", "serve", "--port", port, environment=environment) as program:
        program.wait_for("health.serving")
        began = monotonic()
        assert program.end() == 0
        assert monotonic() - began < 1.5
    with Program(f"{ROOT}/manage.py", "health", "serve", "--port", port, environment=environment) as program:
        program.wait_for("health.serving")
        os.close(program._lifeline)  # as the kernel does when the parent dies
        assert program.process.wait(PATIENCE) == 0
        program._lifeline = os.open(os.devnull, os.O_RDONLY)
