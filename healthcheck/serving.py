"""A process of its own for ``/health/``, which answers while every worker of the site is stuck.

One event loop holds the connections, so that an idle or slow client costs a descriptor and nothing else. Each
connection has one request and a few seconds; when there are too many, the oldest gives way. Probes never wait for
pages.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.handlers import SimpleHandler

import structlog
from django.core.servers.basehttp import get_internal_wsgi_application
from gunicorn.systemd import sd_notify

from healthcheck import probes, signals
from healthcheck.probes import Answer

log = structlog.get_logger("healthcheck")

CONNECTION_SECONDS = 4
PAGE_SECONDS = 3
GRACE_SECONDS = 2
WATCHDOG_SECONDS = 2  # systemd's WatchdogSec= has to be a few times as long
MOST_CONNECTIONS = 500
LONGEST_HEAD = 8192  # bytes
PAGES_AT_ONCE = 4


def serve(port: int, bind: str) -> None:
    """Answer GET, HEAD and OPTIONS below ``/health/`` until SIGTERM or SIGINT.

    Raises OSError when it cannot listen there.
    """
    asyncio.run(_Server().run(port, bind))


class _Server:
    def __init__(self) -> None:
        self._application = get_internal_wsgi_application()
        self._pages = ThreadPoolExecutor(PAGES_AT_ONCE)
        self._probes = ThreadPoolExecutor(2)
        self._conversations: dict[asyncio.Task[None], None] = {}  # oldest first

    async def run(self, port: int, bind: str) -> None:
        ended = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, ended.set)
        bounds = {"limit": LONGEST_HEAD, "backlog": MOST_CONNECTIONS}  # whom the kernel lets wait; the rest tries again
        server = await asyncio.start_server(self._meet, bind.strip("[]"), port, **bounds)
        signals.serving.send(sender=serve)
        log.info("health.serving", port=port, bind=bind)
        sd_notify("READY=1", log)
        while not ended.is_set():
            sd_notify("WATCHDOG=1", log)  # this loop turns
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), WATCHDOG_SECONDS)
        server.close()
        if self._conversations:
            await asyncio.wait(self._conversations, timeout=GRACE_SECONDS)
        self._pages.shutdown(wait=False, cancel_futures=True)

    def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        conversation = asyncio.create_task(self._converse(reader, writer))
        self._conversations[conversation] = None
        conversation.add_done_callback(self._conversations.pop)
        if len(self._conversations) > MOST_CONNECTIONS:
            next(iter(self._conversations)).cancel()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECTION_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._answer(head, writer.get_extra_info("peername")[0]))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, EOFError, asyncio.LimitOverrunError):  # gone, too slow, or no request at all
            pass
        finally:
            writer.transport.abort()

    async def _answer(self, head: bytes, address: str) -> bytes:
        try:
            environ = _environ(head, address)
        except ValueError:
            return _refusal(HTTPStatus.BAD_REQUEST)
        path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
        run = asyncio.get_running_loop().run_in_executor
        if probes.is_probe(path):
            found = probes.known_answer(path, "http", environ) if method == "GET" else None
            if found is None:
                found = await run(self._probes, probes.answer, method, path, "http", environ)
            return found.as_bytes("close")
        if not f"{path}/".startswith("/health/"):
            return _refusal(HTTPStatus.NOT_FOUND)
        if method not in ("GET", "HEAD", "OPTIONS"):
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED, ("Allow", probes.ALLOWED))
        try:
            return await asyncio.wait_for(run(self._pages, self._page, environ), PAGE_SECONDS)
        except TimeoutError:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, ("Retry-After", "1"))

    def _page(self, environ: dict[str, Any]) -> bytes:
        """Return what the site's own door answers."""
        answer = BytesIO()
        _Handler(BytesIO(), answer, sys.stderr, environ).run(self._application)
        return answer.getvalue()


class _Handler(SimpleHandler):
    os_environ: dict[str, str] = {}  # the process's own holds secrets
    wsgi_run_once = False


def _environ(head: bytes, address: str) -> dict[str, Any]:
    """Return what WSGI says of a request without a body; raises ValueError when it is none."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1.") or not target.startswith("/"):
        raise ValueError(first)
    path, _, query = target.partition("?")
    headers = {}
    for line in filter(None, lines):
        name, colon, value = line.partition(":")
        if not colon or not name.replace("-", "").isalnum():
            raise ValueError(line)
        headers[f"HTTP_{name.upper().replace('-', '_')}"] = value.strip()
    for name in ("HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_CONTENT_TYPE"):
        headers.pop(name, None)  # a body of these methods has no meaning, and is not read
    return headers | {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query,
        "REMOTE_ADDR": address,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }


def _refusal(status: HTTPStatus, *headers: tuple[str, str]) -> bytes:
    return Answer(status, [*probes.HEADERS, ("Content-Length", "0"), *headers]).as_bytes("close")
