"""The second step of signing in, and the pages of one's own second factors."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required, login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render, resolve_url
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import links, reauthentication
from accounts.errors import AccountError
from accounts.models import User, new_id
from accounts.second_factor import briefly, events, factors, halfway, passkeys, proving, totp
from accounts.second_factor.forms import ConfirmAppForm, NameForm, NewPasskeyForm, ProofForm
from accounts.second_factor.models import AuthenticatorApp, Factor
from accounts.views import SeeOther, explained, form_status
from config.middleware import always_fresh

_NEW_APP, _NEW_CODES = "_new_app", "_new_codes"  # what `briefly` keeps
_RECOVERY = "_second_factor_recovery"  # the name of a session entry


def _person(request: HttpRequest) -> User:
    return cast("User", request.user)


# Signing in


@always_fresh
@login_not_required
@never_cache
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def login_second_step(request: HttpRequest) -> HttpResponse:
    half_way = halfway.of(request)
    if half_way is None:
        if request.method == "POST":
            messages.warning(request, _("That took too long, or your account has changed. Please sign in again."))
        return SeeOther(reverse("login"))
    form = ProofForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        if proving.is_proved(request, half_way.user, form.proof):
            halfway.complete(request, half_way)
            return SeeOther(half_way.next_path or resolve_url(settings.LOGIN_REDIRECT_URL))
        form.refuse()
    may_recover = events.may_recover(half_way.user, request.session.get(_RECOVERY, ""))
    has_passkey = bool(factors.passkeys(half_way.user))
    context = {"form": form, "has_passkey": has_passkey, "may_recover": may_recover}
    return render(request, "accounts/login_second_step.html", context, status=form_status(form))


@login_not_required
@never_cache
@require_POST
def login_question(request: HttpRequest) -> HttpResponse:
    """Ask the passkeys of who is half-way in."""
    half_way = halfway.of(request)
    if half_way is None:
        return JsonResponse({"code": "half_way_over"}, status=HTTPStatus.FORBIDDEN)
    return JsonResponse(passkeys.ask_for_proof(request.session, half_way.user))


@always_fresh
@login_not_required
@never_cache
@require_safe
def login_recovery_link(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address at once, so that no log, referrer or shoulder sees it for long."""
    if not links.is_recovery_token(token):
        return _unusable_recovery(request)  # nothing of ours: not worth a session
    request.session[_RECOVERY] = token
    return SeeOther(reverse("login_recovery"))


@always_fresh
@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def login_recovery(request: HttpRequest) -> HttpResponse:
    """Let who has the link of an administrator, and has shown the password, begin anew without a second factor."""
    token, half_way = request.session.get(_RECOVERY, ""), halfway.of(request)
    if half_way is None and request.method != "POST" and links.is_recovery_token(token):
        return render(request, "accounts/login_recovery.html", {"state": "password_first"})
    if half_way is None or not events.may_recover(half_way.user, token):
        return _unusable_recovery(request)
    if request.method == "POST":
        try:
            events.recover(half_way.user, token)
        except AccountError:
            return _unusable_recovery(request)
        del request.session[_RECOVERY]
        halfway.complete(request, half_way)
        messages.success(request, _("Your second factors are gone. Please set up a new one now."))
        return SeeOther(reverse("second_factor"))
    return render(request, "accounts/login_recovery.html", {"state": "ready", "person": half_way.user})


def _unusable_recovery(request: HttpRequest) -> HttpResponse:
    context = {"state": "unusable"}
    return render(request, "accounts/login_recovery.html", context, status=HTTPStatus.NOT_FOUND)


# One's own second factors


@never_cache
@login_required
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    user = _person(request)
    context = {"factors": factors.of(user), "codes_left": factors.codes_left(user)}
    return render(request, "accounts/second_factor.html", context)


@reauthentication.required(back="second_factor")
@require_POST
def begin_app(request: HttpRequest) -> HttpResponse:
    """Make a secret, which is this browser's alone until an app has shown a code of it."""
    briefly.keep(request, _NEW_APP, json.dumps([str(new_id()), totp.new_secret()]))
    return SeeOther(reverse("second_factor_confirm_app"))


@never_cache
@reauthentication.required
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def confirm_app(request: HttpRequest) -> HttpResponse:
    kept = briefly.kept(request, _NEW_APP)
    if kept is None:
        messages.warning(request, _("That took too long. Please begin again."))
        return SeeOther(reverse("second_factor"))
    user = _person(request)
    app_id, secret = json.loads(kept)
    form = ConfirmAppForm(request.POST if request.method == "POST" else None, initial={"name": _("Phone")})
    status = form_status(form)
    if form.is_bound and form.is_valid():
        app = AuthenticatorApp(pk=UUID(app_id), name=form.cleaned_data["name"])
        try:
            codes = events.add_app(app, secret, form.cleaned_data["code"], acting_user=user)
        except AccountError as refusal:
            status = explained(form, refusal)
        else:
            briefly.forget(request, _NEW_APP)
            return _added(request, codes)
    context = {"form": form, "secret": _in_groups(secret), "qr_code": _qr_code(secret, user)}
    return render(request, "accounts/second_factor_app.html", context, status=status)


def _qr_code(secret: str, user: User) -> str:
    return totp.qr_code(totp.uri(secret, user.username), label=_("QR code for your app"))


def _in_groups(secret: str) -> str:
    return " ".join(secret[start : start + 4] for start in range(0, len(secret), 4))


def _added(request: HttpRequest, codes: list[str]) -> HttpResponse:
    messages.success(request, _("Your second factor is on. From now on it is asked for when you sign in."))
    if not codes:
        return SeeOther(reverse("second_factor"))
    return _shown_codes(request, codes)


def _shown_codes(request: HttpRequest, codes: list[str]) -> HttpResponse:
    """Lead to the page that shows new codes; they survive a reload of it, and are gone ten minutes later."""
    briefly.keep(request, _NEW_CODES, "\n".join(codes))
    return SeeOther(reverse("second_factor_codes"))


@never_cache
@reauthentication.required
@require_http_methods(["GET", "HEAD", "POST"])
def add_passkey(request: HttpRequest) -> HttpResponse:
    form = NewPasskeyForm(request.POST if request.method == "POST" else None, initial={"name": _("Security key")})
    status = form_status(form)
    if form.is_bound and form.is_valid():
        try:
            passkey = passkeys.new_passkey(request.session, form.cleaned_data["name"], form.cleaned_data["answer"])
            new_codes = events.add_passkey(passkey, acting_user=_person(request))
        except AccountError as refusal:
            status = explained(form, refusal)
        else:
            return _added(request, new_codes)
    return render(request, "accounts/second_factor_passkey.html", {"form": form}, status=status)


@never_cache
@login_required
@require_POST
def passkey_question(request: HttpRequest) -> HttpResponse:
    """Ask a device for a new passkey."""
    return JsonResponse(passkeys.ask_for_new(request.session, _person(request)))


@never_cache
@login_required
@require_POST
def question(request: HttpRequest) -> HttpResponse:
    """Ask the own passkeys, before something that needs a proof."""
    return JsonResponse(passkeys.ask_for_proof(request.session, _person(request)))


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def detail(request: HttpRequest, factor_id: UUID) -> HttpResponse:
    """Call one of the own factors by another name."""
    factor = _own(request, factor_id)
    form = NameForm(request.POST if request.method == "POST" else None, initial={"name": factor.name})
    if form.is_bound and form.is_valid():
        if not events.rename(factor, form.cleaned_data["name"], acting_user=_person(request)):
            raise Http404
        messages.success(request, _("The name is saved."))
        return SeeOther(reverse("second_factor"))
    context = {"form": form, "factor": factor}
    return render(request, "accounts/second_factor_detail.html", context, status=form_status(form))


@never_cache
@reauthentication.required
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, factor_id: UUID) -> HttpResponse:
    factor = _own(request, factor_id)
    form = ProofForm(request.POST if request.method == "POST" else None)
    if _is_proved(request, form):
        events.remove(factor, acting_user=_person(request))
        messages.success(request, _("The second factor is removed."))
        return SeeOther(reverse("second_factor"))
    user = _person(request)
    context = {"form": form, "factor": factor, "is_last": len(factors.of(user)) == 1}
    context["has_passkey"] = bool(factors.passkeys(user))
    return render(request, "accounts/second_factor_remove.html", context, status=form_status(form))


def _own(request: HttpRequest, factor_id: UUID) -> Factor:
    factor = factors.find(_person(request), factor_id)
    if factor is None:
        raise Http404
    return factor


def _is_proved(request: HttpRequest, form: ProofForm) -> bool:
    """Whether the sent form shows one of the own factors; explains what is wrong with it if not."""
    if not (form.is_bound and form.is_valid()):
        return False
    if proving.is_proved(request, _person(request), form.proof):
        return True
    form.refuse()
    return False


# Recovery codes


@never_cache
@reauthentication.required
@sensitive_post_parameters("code")
@require_http_methods(["GET", "HEAD", "POST"])
def codes(request: HttpRequest) -> HttpResponse:
    """Show new codes for as long as they are kept; else how many are left, and make new ones for a proof."""
    user = _person(request)
    if not factors.is_on(user):
        return SeeOther(reverse("second_factor"))
    form = ProofForm(request.POST if request.method == "POST" else None)
    if _is_proved(request, form):
        return _shown_codes(request, events.replace_codes(acting_user=user))
    new = briefly.kept(request, _NEW_CODES)
    context = {"form": form, "new": new.split("\n") if new else [], "codes_left": factors.codes_left(user)}
    context["has_passkey"] = bool(factors.passkeys(user))
    return render(request, "accounts/second_factor_codes.html", context, status=form_status(form))


@never_cache
@login_required
@require_safe
def codes_as_text(request: HttpRequest) -> HttpResponse:
    new = briefly.kept(request, _NEW_CODES)
    if new is None:
        raise Http404
    title = _("Recovery codes of %(name)s at %(site)s. Each works once.")
    lines = [title % {"name": _person(request).username, "site": settings.BASE_URL}, "", *new.split("\n"), ""]
    response = HttpResponse("\n".join(lines), content_type="text/plain; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="recovery-codes.txt"'
    return response


@login_required
@require_POST
def codes_are_kept(request: HttpRequest) -> HttpResponse:
    """Show the new codes no more: their owner has them."""
    briefly.forget(request, _NEW_CODES)
    return SeeOther(reverse("second_factor"))
