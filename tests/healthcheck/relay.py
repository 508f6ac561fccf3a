"""A way to the test's server that can go silent, as a router does that forgot a connection, or a host that hangs."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Any

import pytest
from django.db import connections

from config.embedded_postgres import PORT


class Relay:
    """Carries bytes between a TCP port of this machine and the test's server; while `silent`, it keeps them."""

    def __init__(self) -> None:
        self.silent = False
        self.connections = 0
        self._server = connections["default"].get_connection_params()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._other: dict[socket.socket, socket.socket] = {}
        self._over = False
        self._thread = threading.Thread(target=self._carry)
        self._thread.start()

    def forget_connections(self) -> None:
        """From now on those that are open are silent, and new ones work."""
        for end in list(self._other):
            self._selector.unregister(end)

    def end(self) -> None:
        self._over = True
        self._thread.join()
        self._selector.close()
        for each in (self._listener, *self._other):
            each.close()

    def _carry(self) -> None:
        self._selector.register(self._listener, selectors.EVENT_READ)
        while not self._over:
            for key, _ in self._selector.select(0.02):
                if key.fileobj is self._listener:
                    self._take_in()
                elif not self.silent:
                    self._hand_over(key.fileobj)

    def _reach(self) -> socket.socket:
        host, port = self._server["host"], int(self._server.get("port") or PORT)
        by_file = host.startswith("/")
        far = socket.socket(socket.AF_UNIX if by_file else socket.AF_INET)
        far.connect(f"{host}/.s.PGSQL.{port}" if by_file else (host, port))
        return far

    def _take_in(self) -> None:
        near, _ = self._listener.accept()
        self.connections += 1
        far = self._reach()
        self._other |= {near: far, far: near}
        for end in (near, far):
            self._selector.register(end, selectors.EVENT_READ)

    def _hand_over(self, end: Any) -> None:
        if end not in self._other:  # closed together with its other end a moment ago
            return
        with contextlib.suppress(OSError):
            if data := end.recv(65536):
                self._other[end].sendall(data)
                return
        for each in (end, self._other.pop(end)):
            self._selector.unregister(each)
            self._other.pop(each, None)
            each.close()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()


def be_configured(monkeypatch: pytest.MonkeyPatch, host: str, port: int | str) -> None:
    """Let this test, in all its threads, find the server at `host` and `port` as libpq understands them."""
    given = connections["default"].settings_dict
    options = {name: value for name, value in given["OPTIONS"].items() if name != "embedded"}
    there = {"HOST": host, "PORT": str(port), "OPTIONS": options | {"sslmode": "disable"}}
    monkeypatch.setattr(connections["default"], "settings_dict", given | there)
    monkeypatch.setitem(connections.settings, "default", given | there)
