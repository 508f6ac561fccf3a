"""Where the hosts of a database connection are, without ever waiting long for the resolver.

``getaddrinfo`` has no deadline, and libpq calls it from within its non-blocking connect. So names are looked up in a
thread of their own, at most one at a time, and libpq is given ``hostaddr``; it still checks certificates by ``host``.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from threading import Thread
from typing import Any

# Longer than a healthy resolver takes; a slow one is waited for only by whoever asks it first.
KNOWN_SECONDS = 0.05
UNKNOWN_SECONDS = 0.25


class Addresses:
    """Names are looked up anew for each new connection; while the resolver is away the last answer holds."""

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {}
        self._thread: Thread | None = None

    def targets(self, parameters: dict[str, Any]) -> list[dict[str, Any]]:
        """Return libpq parameters for each host and address in turn; none for a name that nobody knows."""
        hosts = str(parameters.get("host") or "").split(",")
        ports = str(parameters.get("port") or "").split(",")
        if "hostaddr" in parameters:
            return [parameters]
        self._look_up([host for host in hosts if _is_name(host)])
        if len(ports) == 1:
            ports *= len(hosts)
        return [
            parameters | {"host": host, "port": port} | address
            for host, port in zip(hosts, ports, strict=False)
            for address in self._addresses(host)
        ]

    def _addresses(self, host: str) -> Iterator[dict[str, str]]:
        if not _is_name(host):
            yield {}
        for address in self._known.get(host, []):
            yield {"hostaddr": address}

    def _look_up(self, names: list[str]) -> None:
        if names and not (self._thread and self._thread.is_alive()):
            self._thread = Thread(target=self._learn, args=[names], daemon=True)
            self._thread.start()
            self._thread.join(KNOWN_SECONDS if all(name in self._known for name in names) else UNKNOWN_SECONDS)

    def _learn(self, names: list[str]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
                self._known[name] = list(dict.fromkeys(str(address[0]) for *_, address in found))


def _is_name(host: str) -> bool:
    """Whether `host` has to be looked up: no number, no path or abstract name of a socket, and not libpq's default."""
    if not host or host[0] in "/@":
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False
