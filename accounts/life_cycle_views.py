"""The pages on which people end their own account, and think better of it by a mailed link."""

from __future__ import annotations

import math
from datetime import timedelta
from http import HTTPStatus
from typing import cast

from django.contrib import messages
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_not_required, login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from accounts import life_cycle, links
from accounts.errors import AccountError
from accounts.forms import ConfirmForm
from accounts.models import User
from accounts.views import SeeOther, explained, form_status
from config.middleware import always_fresh

_CANCEL_TOKEN = "_cancel_erasure_token"  # noqa: S105 - the name of a session entry


@never_cache
@login_required
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def delete_account(request: HttpRequest) -> HttpResponse:
    """Say what will happen, ask for the password, and plan the erasure, which signs out everywhere."""
    user = cast("User", request.user)
    form = ConfirmForm(request.POST if request.method == "POST" else None, request=request)
    status = form_status(form)
    if form.is_bound and form.is_valid():
        try:
            planned = life_cycle.delete_own_account(user)
        except AccountError as refusal:
            status = explained(form, refusal)
        else:
            logout(request)
            text = _("Your account will be erased on %(date)s. We have sent you a mail with a link to keep it.")
            messages.success(request, text % {"date": date_format(planned, "j F Y, H:i e")})
            return SeeOther(reverse("login"))
    grace = life_cycle.own_grace(user)
    days = math.ceil(grace / timedelta(days=1))
    context = {"form": form, "days": days, "erased_on": timezone.now() + grace}
    return render(request, "accounts/delete_account.html", context, status=status)


@always_fresh
@login_not_required
@never_cache
@require_safe
def cancel_erasure_link(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address at once, so that no log, referrer or shoulder sees it for long."""
    if links.read_cancel_erasure_token(token) is None:
        return _unusable(request)  # nothing of ours: not worth a session
    request.session[_CANCEL_TOKEN] = token
    return redirect("cancel_erasure")


@always_fresh
@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def cancel_erasure(request: HttpRequest) -> HttpResponse:
    known = links.read_cancel_erasure_token(request.session.get(_CANCEL_TOKEN, ""))
    user = User.objects.filter(pk=known[0], erase_at=known[1], is_active=True).first() if known else None
    if known is None or user is None:
        return _unusable(request)
    if request.method == "POST":
        try:
            life_cycle.cancel_erasure(user, acting_user=None, planned=known[1])
        except AccountError:  # the other of two clicks, or the worker, was faster
            return _unusable(request)
        request.session.pop(_CANCEL_TOKEN, None)
        messages.success(request, _("Your account stays. You can sign in again."))
        return SeeOther(reverse("login"))
    return render(request, "accounts/cancel_erasure.html", {"planned": known[1]})


def _unusable(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/cancel_erasure.html", {"planned": None}, status=HTTPStatus.NOT_FOUND)
