"""Lets every record that a request causes say so."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase

from auditlog import context


class AuditMiddleware:
    """Everything inside acts for this request, also what is written while its answer is being sent.

    Who that is, is asked when something is written.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        spoken = context.Context(request=request)
        with context.in_context(spoken):
            response = self.get_response(request)
        # A file is not made piece by piece, and would no longer be sent by the kernel.
        if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
            content: Any = response.streaming_content
            response.streaming_content = (_later if response.is_async else _each)(content, spoken)
        return response


def _each(content: Iterator[Any], spoken: context.Context) -> Iterator[Any]:
    """The pieces of `content`, each made in this context; what sends them is in its own."""
    while True:
        with context.in_context(spoken):
            piece = next(content, None)
        if piece is None:
            return
        yield piece


async def _later(content: AsyncIterator[Any], spoken: context.Context) -> AsyncIterator[Any]:
    while True:
        with context.in_context(spoken):
            piece = await anext(content, None)
        if piece is None:
            return
        yield piece
