"""SIGTERM under load: what has begun is finished, nobody who was let in is dropped, and the end is quick and clean."""

from __future__ import annotations

import http.client
import signal
import threading
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest

from tests.live import LOGIN, Browser, Program, free_port, own_database, project_copy, running_site, wait_until

CLIENTS = 10
SLOW_HASH = {"BCRYPT_ROUNDS": "12"}  # as in production


@dataclass
class Crowd:
    """Clients that try to sign in, each with a name of its own, again and again until nobody listens."""

    port: int
    keeps_alive: bool
    ends: Counter[str] = field(default_factory=Counter)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Crowd:
        for number in range(CLIENTS):
            browser = Browser(self.port)
            token = browser.open_form(LOGIN)["csrfmiddlewaretoken"]
            self._threads.append(threading.Thread(target=self._go_on, args=[number, token, browser.cookies]))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        for thread in self._threads:
            thread.join(60)

    def _go_on(self, number: int, token: str, cookies: dict[str, str]) -> None:
        headers = {
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "Content-Type": "application/x-www-form-urlencoded",
            "Connection": "keep-alive" if self.keeps_alive else "close",
        }
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for turn in range(1000):
            fields = {"csrfmiddlewaretoken": token, "username": f"nobody{number}-{turn}", "password": "Wrong-1-Wrong"}
            ended = self._ask(connection, urlencode(fields), headers)
            self.ends[ended] += 1
            if ended != "answered":
                return

    @staticmethod
    def _ask(connection: http.client.HTTPConnection, body: str, headers: dict[str, str]) -> str:
        begun = False
        try:
            if connection.sock is None:
                connection.connect()
            begun = True
            connection.request("POST", LOGIN, body, headers)
            response = connection.getresponse()
            whole = len(response.read()) == int(response.headers["Content-Length"])
        except ConnectionRefusedError:
            return "refused"
        except (OSError, http.client.HTTPException) as error:
            return f"dropped: {error!r}" if begun else "refused"
        return "answered" if whole and response.status == 422 else f"{response.status}"


def stop_under_load(program: Program, port: int, *, keeps_alive: bool) -> Counter[str]:
    """Send SIGTERM while everybody waits for an answer; returns how the requests ended."""
    with Crowd(port, keeps_alive) as crowd:
        wait_until(lambda: crowd.ends["answered"] > CLIENTS // 2, "some are answered")
        assert program.end(signal.SIGTERM, patience=30) == 0
    return crowd.ends


@pytest.mark.parametrize("keeps_alive", [False, True], ids=["one request a connection", "kept-alive connections"])
def test_gunicorn_answers_everybody_who_has_connected_and_then_nobody(keeps_alive: bool) -> None:
    with own_database() as database, running_site(database.environment | SLOW_HASH) as site:
        ends = stop_under_load(site.program, site.port, keeps_alive=keeps_alive)
    assert set(ends) == {"answered", "refused"}, ends
    assert ends["refused"] == CLIENTS  # each found the door closed in the end, and nothing worse


def test_serve_ends_as_gently() -> None:
    environment = {"EMBEDDED_POSTGRES": "throwaway", "DEBUG": "on"} | SLOW_HASH
    with project_copy() as project:
        port, health = free_port(), free_port()
        command = [f"{project}/manage.py", "serve"]
        environment |= {"PORT": str(port), "HEALTH_PORT": str(health)}
        with Program(*command, environment=environment, project=project) as program:
            program.wait_for("Stop with Ctrl-C.")
            program.wait_for("health.serving")
            assert Browser(health).get("/health/live").status == 200
            ends = stop_under_load(program, port, keeps_alive=False)
    assert set(ends) == {"answered", "refused"}, ends
