"""What the documented nginx sends to another host, and what it never sends twice; the hosts are stand-ins that fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.live import LOGIN, Browser, free_port
from tests.nginx import nginx_before

NEW, BROKEN = "/static/site.0123456789ab.css", "/broken/"


class StandIn(ThreadingHTTPServer):
    """A host that notes what it is asked, and has a file that other hosts have not."""

    daemon_threads = True

    def __init__(self, *, has_file: bool = False) -> None:
        self.asked: list[str] = []
        self.has_file = has_file
        super().__init__(("127.0.0.1", 0), _Conversation)


class _Conversation(BaseHTTPRequestHandler):
    server: StandIn

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path == BROKEN:
            return  # it has all of the request, and dies
        is_there = self.path == LOGIN or (self.path == NEW and self.server.has_file)
        self.send_response(200 if is_there else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = _answer  # noqa: N815 - names of the base class

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hosts() -> Iterator[tuple[StandIn, StandIn]]:
    with ExitStack() as running:
        made = (StandIn(), StandIn(has_file=True))
        for each in made:
            running.enter_context(each)
            threading.Thread(target=each.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
            running.callback(each.shutdown)
        yield made


def test_what_one_host_may_have_done_is_not_done_by_another(hosts: tuple[StandIn, StandIn], tmp_path: Path) -> None:
    with nginx_before(*(host.server_port for host in hosts), place=tmp_path) as port:
        answer = Browser(port).request("POST", BROKEN, b"a=b")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert sum(host.asked.count(f"POST {BROKEN}") for host in hosts) == 1
        Browser(port).get(BROKEN)  # reading twice does no harm
        assert min(host.asked.count(f"GET {BROKEN}") for host in hosts) >= 1


def test_a_host_that_was_left_out_is_asked_when_nobody_else_is_there(
    hosts: tuple[StandIn, StandIn], tmp_path: Path
) -> None:
    with nginx_before(free_port(), hosts[0].server_port, place=tmp_path) as port:
        for _time in range(6):
            assert Browser(port).get(BROKEN).status == 503
        assert [Browser(port).request(method, LOGIN).status for method in ("GET", "POST")] == [200, 200]


def test_what_no_host_has_begun_goes_to_the_one_that_listens(hosts: tuple[StandIn, StandIn], tmp_path: Path) -> None:
    with nginx_before(free_port(), hosts[0].server_port, place=tmp_path) as port:
        for _time in range(8):
            assert [Browser(port).request(method, LOGIN).status for method in ("GET", "POST")] == [200, 200]


def test_a_file_of_the_newer_version_comes_from_the_host_that_has_it(
    hosts: tuple[StandIn, StandIn], tmp_path: Path
) -> None:
    with nginx_before(*(host.server_port for host in hosts), place=tmp_path) as port:
        assert [Browser(port).get(NEW).status for _time in range(4)] == [200] * 4
        assert Browser(port).get("/static/nowhere.css").status == 404
        assert Browser(port).get("/nowhere/").status == 404
        assert sum(host.asked.count("GET /nowhere/") for host in hosts) == 1
