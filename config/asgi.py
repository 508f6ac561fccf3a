"""The ASGI door; the same order as the WSGI one."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django_application = get_asgi_application()

# Both import models' settings, so Django must be set up first.
from config.content_type import tamed  # noqa: E402
from healthcheck import probes  # noqa: E402

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


async def application(scope: dict[str, Any], receive: Any, send: Send) -> None:
    """Answer health probes before all middleware; hand everything else to Django."""
    if scope["type"] == "http":
        # In a thread of its own: the one that Django shares may be busy with a slow view.
        answer = await sync_to_async(probes.answer, thread_sensitive=False)(scope["method"], scope["path"])
        if answer is not None:
            await _send(answer, send)
            return
        scope = {**scope, "headers": [(name, _tamed(name, value)) for name, value in scope["headers"]]}
    await django_application(scope, receive, send)


def _tamed(name: bytes, value: bytes) -> bytes:
    return tamed(value.decode("latin-1")).encode("latin-1") if name == b"content-type" else value


async def _send(answer: probes.Answer, send: Send) -> None:
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
    status = int(answer.status_line.split()[0])
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
