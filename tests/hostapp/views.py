"""Pages that write, as small as they can be."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model, login
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_POST

import auditlog
from tests.hostapp.models import Tag


@require_POST
def rename(request: HttpRequest) -> HttpResponse:
    Tag.objects.filter(pk=1).update(name="rose")
    return HttpResponse("renamed")


@require_POST
def rename_and_fail(request: HttpRequest) -> HttpResponse:
    Tag.objects.filter(pk=1).update(name="rose")
    raise RuntimeError("a fault of this page, by design")


@require_POST
def sign_in_and_rename(request: HttpRequest) -> HttpResponse:
    """Who acts is who is signed in at the moment of the write."""
    Tag.objects.filter(pk=1).update(name="before")
    user = get_user_model().objects.get(username=request.POST["username"])
    login(request, user, backend="accounts.backends.IdentityBackend")
    Tag.objects.filter(pk=1).update(name="after")
    return HttpResponse("renamed twice")


@require_POST
def rename_for_somebody(request: HttpRequest) -> HttpResponse:
    user = get_user_model().objects.get(username=request.POST["username"])
    with auditlog.acting_as(on_behalf_of=user, reason=request.POST.get("reason", "")):
        Tag.objects.filter(pk=1).update(name="rose")
    return HttpResponse("renamed")


async def rename_in_async(request: HttpRequest) -> HttpResponse:
    tag = await Tag.objects.aget(pk=1)
    tag.name = "rose"
    await tag.asave()
    await sync_to_async(lambda: Tag.objects.filter(pk=1).update(name="ruby"))()
    return HttpResponse("renamed twice")
