"""The pages of changing one's own e-mail address: guard, form, service, redirect."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required, login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import addresses, links
from accounts.errors import AccountError
from accounts.forms import ChangeAddressForm
from accounts.models import User
from accounts.views import SeeOther, explained, form_status
from config.middleware import always_fresh

_CONFIRM_TOKEN = "_confirm_address_token"  # noqa: S105 - the names of session entries
_UNDO_TOKEN = "_undo_address_token"  # noqa: S105


@never_cache
@login_required
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def change_address(request: HttpRequest) -> HttpResponse:
    user = cast("User", request.user)
    form = ChangeAddressForm(request.POST if request.method == "POST" else None, request=request)
    status = form_status(form)
    if form.is_bound and form.is_valid():
        try:
            addresses.request_change(user, form.cleaned_data["email"])
        except AccountError as refusal:
            status = explained(form, refusal)
        else:
            # The same answer for an address that is free and one that is somebody's.
            text = _("We have sent a mail to %(email)s. Your address changes when you open its link.")
            messages.success(request, text % {"email": form.cleaned_data["email"]})
            return SeeOther(reverse("change_address"))
    context = {"form": form, "waiting": addresses.waiting(user)}
    return render(request, "accounts/change_address.html", context, status=status)


@never_cache
@login_required
@require_POST
def give_up_address(request: HttpRequest) -> HttpResponse:
    if addresses.give_up_change(cast("User", request.user)):
        messages.success(request, _("Your address stays as it is."))
    return SeeOther(reverse("change_address"))


@always_fresh
@login_not_required
@never_cache
@require_safe
def confirm_address_link(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address at once, so that no log, referrer or shoulder sees it for long."""
    if links.read_confirm_address_token(token) is None:
        return _unusable(request, "accounts/confirm_address.html")  # nothing of ours: not worth a session
    request.session[_CONFIRM_TOKEN] = token
    return redirect("confirm_address")


@always_fresh
@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def confirm_address(request: HttpRequest) -> HttpResponse:
    """Only where the account is signed in: whoever got the mail by a slip of the pen must not get the account."""
    user = cast("User", request.user)
    token = request.session.get(_CONFIRM_TOKEN, "")
    if request.method == "POST":
        try:
            addresses.confirm_change(token, user)
        except AccountError as refusal:
            if refusal.code == "link_invalid":
                return _unusable(request, "accounts/confirm_address.html")
            messages.error(request, refusal.message)
            return SeeOther(reverse("change_address"))
        request.session.pop(_CONFIRM_TOKEN, None)
        messages.success(request, _("Your address is changed. We have told the old one how to undo it."))
        return SeeOther(reverse("change_address"))
    change = addresses.confirmable(token, user)
    if change is None:
        return _unusable(request, "accounts/confirm_address.html")
    return render(request, "accounts/confirm_address.html", {"change": change})


@always_fresh
@login_not_required
@never_cache
@require_safe
def undo_address_link(request: HttpRequest, token: str) -> HttpResponse:
    """As `confirm_address_link`."""
    if links.read_undo_address_token(token) is None:
        return _unusable(request, "accounts/undo_address.html")
    request.session[_UNDO_TOKEN] = token
    return redirect("undo_address")


@always_fresh
@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def undo_address(request: HttpRequest) -> HttpResponse:
    """Without signing in: whoever changed the address may have changed the password too."""
    token = request.session.get(_UNDO_TOKEN, "")
    if request.method == "POST":
        try:
            addresses.undo_change(token)
        except AccountError:
            return _unusable(request, "accounts/undo_address.html")
        request.session.pop(_UNDO_TOKEN, None)
        messages.success(request, _("Your old address is back. We have sent it a link to choose a new password."))
        return SeeOther(reverse("login"))
    change = addresses.undoable(token)
    if change is None:
        return _unusable(request, "accounts/undo_address.html")
    return render(request, "accounts/undo_address.html", {"change": change})


def _unusable(request: HttpRequest, template: str) -> HttpResponse:
    return render(request, template, {"change": None}, status=HTTPStatus.NOT_FOUND)
