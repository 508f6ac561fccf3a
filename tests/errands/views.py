"""Pages that leave out whose rows they want, as small as they can be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from tests.errands.models import Errand


def _titles() -> list[str]:
    return sorted(Errand.objects.values_list("title", flat=True))


def titles(request: HttpRequest) -> JsonResponse:
    return JsonResponse(_titles(), safe=False)


def titles_by_sql(request: HttpRequest) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT title FROM errands_errand ORDER BY title")
        return JsonResponse([title for (title,) in cursor.fetchall()], safe=False)


def fail(request: HttpRequest) -> HttpResponse:
    _titles()
    raise RuntimeError("a fault of this page, by design")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[str]:
        yield from _titles()

    return StreamingHttpResponse(pieces())


async def titles_in_async(request: HttpRequest) -> JsonResponse:
    titles = [title async for title in Errand.objects.order_by("title").values_list("title", flat=True)]
    assert titles == await sync_to_async(_titles)()
    return JsonResponse(titles, safe=False)


async def stream_in_async(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[str]:
        for title in await sync_to_async(_titles)():
            yield title

    return StreamingHttpResponse(pieces())


@login_not_required
def sign_in(request: HttpRequest) -> JsonResponse:
    """Whose rows there are, is asked at the moment of the statement."""
    before = _titles()
    login(request, get_user_model().objects.get(username=request.GET["username"]), "accounts.backends.IdentityBackend")
    return JsonResponse([before, _titles()], safe=False)
