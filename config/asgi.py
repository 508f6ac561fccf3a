"""The ASGI door; the same order as the WSGI one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django_application = get_asgi_application()

# They import models' settings, so Django must be set up first.
from config import row_security  # noqa: E402
from config.content_type import tamed  # noqa: E402
from config.middleware import announced_length  # noqa: E402
from healthcheck import probes  # noqa: E402
from healthcheck.metrics import prometheus  # noqa: E402

prometheus.share()
row_security.serve_requests_only()

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Answer health probes before all middleware; hand everything else to Django."""
    if scope["type"] == "http":
        if probes.is_probe(scope["path"]):
            await _send(await _probed(scope), send)
            return
        scope = {**scope, "headers": [(name, _tamed(name, value)) for name, value in scope["headers"]]}
        receive = _bounded(scope, receive)
    await django_application(scope, receive, send)


async def _probed(scope: dict[str, Any]) -> probes.Answer:
    meta = {
        f"HTTP_{name.decode('latin-1').upper().replace('-', '_')}": value.decode("latin-1")
        for name, value in scope["headers"]
    }
    # In a thread of its own: it may wait for the database, and the thread that Django shares for a slow view.
    answer = sync_to_async(probes.answer, thread_sensitive=False)
    return await answer(scope["method"], scope["path"], scope.get("scheme", ""), meta)


def _bounded(scope: dict[str, Any], receive: Receive) -> Receive:
    """Hand over the announced body and no byte more, and none of one that is too long.

    Django stores the whole body before any middleware; the middleware then refuses by what was announced.
    """
    left = announced_length(dict(scope["headers"]).get(b"content-length", b"").decode("latin-1"))
    left = left if left <= settings.DATA_UPLOAD_MAX_MEMORY_SIZE else 0
    ended = False

    async def receive_bounded() -> dict[str, Any]:
        nonlocal left, ended
        message = await receive()
        while ended and message["type"] == "http.request":  # what is left over; Django waits for the end only
            message = await receive()
        if message["type"] != "http.request":
            return message
        body = message.get("body", b"")[:left]
        left -= len(body)
        ended = not (left and message.get("more_body"))
        return {**message, "body": body, "more_body": not ended}

    return receive_bounded


def _tamed(name: bytes, value: bytes) -> bytes:
    return tamed(value.decode("latin-1")).encode("latin-1") if name == b"content-type" else value


async def _send(answer: probes.Answer, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    status = int(answer.status_line.split()[0])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
