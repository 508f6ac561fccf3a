"""``python -m tests.bench.load PORT PATH CLIENTS SECONDS``: ask as fast as it goes, print how many were answered 200.

In a process of its own, so that the measuring one can look at the site's processes meanwhile.
"""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from time import monotonic


def main() -> None:
    port, path, clients, seconds = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
    until = monotonic() + seconds
    with ThreadPoolExecutor(clients) as threads:
        running = [threads.submit(_ask, port, path, until) for _ in range(clients)]
        sys.stdout.write(f"{sum(each.result() for each in running)}\n")


def _ask(port: int, path: str, until: float) -> int:
    """Ask over one kept connection; returns how often."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        count = 0
        while monotonic() < until:
            connection.sendall(request)
            _read(connection)
            count += 1
    return count


def _read(connection: socket.socket) -> None:
    answer = connection.recv(65536)
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536) or _fail(answer)
    head, _, body = answer.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        _fail(head)
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    while len(body) < length:
        body += connection.recv(65536) or _fail(body)


def _fail(said: bytes) -> bytes:
    raise AssertionError(f"no 200: {said!r}")


if __name__ == "__main__":
    main()
