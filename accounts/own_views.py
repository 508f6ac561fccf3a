"""What people see and get of what is kept about them: sign-ins, and all of it as a file."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_safe

from accounts import exporting, reauthentication, signins
from accounts.errors import AccountError
from accounts.models import User
from accounts.views import SeeOther
from config.middleware import always_fresh


@never_cache
@login_required
@require_safe
def own_sign_ins(request: HttpRequest) -> HttpResponse:
    page, lines = signins.page_of(cast("User", request.user), request.GET)
    return render(request, "accounts/sign_ins.html", {"page": page, "sign_ins": lines})


@never_cache
@reauthentication.required
@require_http_methods(["GET", "HEAD", "POST"])
def own_data(request: HttpRequest) -> HttpResponse:
    user, refused, status = cast("User", request.user), "", HTTPStatus.OK
    if request.method == "POST":
        try:
            exporting.ask_for_data(user)
        except AccountError as refusal:
            refused, status = refusal.message, HTTPStatus.CONFLICT
        else:
            messages.success(request, _("We are putting your data together, and send you a mail when it is ready."))
            return SeeOther(reverse("own_data"))
    context = {"exports": exporting.of_user(user), "refused": refused}
    return render(request, "accounts/own_data.html", context, status=status)


@always_fresh
@never_cache
@reauthentication.required(back="own_data")
@require_GET
def download_data(request: HttpRequest, export_id: UUID) -> StreamingHttpResponse:
    """Only its owner, and only while it is kept; to everybody else there is no such page."""
    user = cast("User", request.user)
    export = exporting.ready(user, export_id)
    if export is None or export.made_at is None:
        raise Http404
    response = StreamingHttpResponse(exporting.hand_over(export, user), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="gatehouse-{export.made_at:%Y%m%d-%H%M%S}.zip"'
    response["Content-Length"] = str(export.size)
    return response
