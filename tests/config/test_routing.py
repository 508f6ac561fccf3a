"""Which views a replica may answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.views import View

from config.database import routing
from config.middleware import ReplicaMiddleware, always_fresh


class InAsync(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


async def in_async(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@pytest.mark.parametrize(
    ("view", "method", "may"),
    [
        (plain, "GET", True),
        (plain, "HEAD", True),
        (plain, "POST", False),
        (always_fresh(lambda request: HttpResponse()), "GET", False),
        (in_async, "GET", False),
        (InAsync.as_view(), "GET", False),
    ],
)
def test_only_a_view_that_looks_and_can_be_repeated_may_read_from_a_replica(
    view: Callable[..., Any], method: str, may: bool
) -> None:
    middleware = ReplicaMiddleware(plain)
    with routing.reading(None) as reading:
        middleware.process_view(RequestFactory().generic(method, "/"), view, (), {})
        assert (reading.again is not None) == may
