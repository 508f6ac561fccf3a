"""The page of the console about what becomes of invitations."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts import funnel

RANGES = (7, 30, 90, 365)  # days
USUAL = 30


def days_asked(request: HttpRequest, ranges: Collection[int], usual: int) -> int:
    """Return the one of `ranges` that ``?days=`` names, `usual` when it names none of them."""
    return next((days for days in ranges if str(days) == request.GET.get("days")), usual)


def figures_page(model_admin: ModelAdmin[Any], request: HttpRequest) -> HttpResponse:
    """Show the funnel of the invitations made in the days that the address names, and who made them."""
    if not request.user.has_perm("accounts.view_invitation"):
        raise PermissionDenied
    days = days_asked(request, RANGES, USUAL)
    name = request.GET.get("name", "").strip()[:64]
    since = timezone.now() - timedelta(days=days)
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": _("Invitation figures"),
        "subtitle": None,
        "ranges": RANGES,
        "days": days,
        "name": name,
        "funnel": funnel.of_everybody(since),
        "inviters": funnel.by_inviter(since, name=name),
        "labels": funnel.LABELS.values(),
        "most": funnel.MOST,
        "shown": funnel.SHOWN,
    }
    return TemplateResponse(request, "accounts/invitation_figures.html", context)
