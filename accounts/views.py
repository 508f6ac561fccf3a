"""The pages of signing up, signing in and one's own account: guard, form, service, redirect."""

from __future__ import annotations

import secrets
from http import HTTPStatus
from typing import Any, cast

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash, views
from django.contrib.auth.decorators import login_not_required, login_required
from django.contrib.auth.views import INTERNAL_RESET_SESSION_TOKEN
from django.core.exceptions import ValidationError
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse, reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from accounts import activity, invitations, links, lockout, policy, rules, services
from accounts.errors import PAGES, AccountError
from accounts.forms import (
    AddressForm,
    ChangePasswordForm,
    ChoosePasswordForm,
    LoginForm,
    ProfileForm,
    SignUpForm,
    StaffLoginForm,
)
from accounts.models import Invitation, User
from accounts.second_factor import factors, halfway
from config.middleware import always_fresh, is_own_path

_VERIFY_TOKEN = "_verify_email_token"  # noqa: S105 - the name of a session entry


class SeeOther(HttpResponseRedirect):
    """303: whatever the method was, the next request is a GET (RFC 9110, section 15.4.4)."""

    status_code = HTTPStatus.SEE_OTHER


def browser_secret(request: HttpRequest) -> str:
    """Return what only this browser holds: tells a double click from a second person with the same wish."""
    return request.COOKIES.get(settings.CSRF_COOKIE_NAME) or secrets.token_hex()


def form_status(form: BaseForm) -> HTTPStatus:
    """200 for a fresh form, 422 for a refused one."""
    return HTTPStatus.UNPROCESSABLE_ENTITY if form.is_bound else HTTPStatus.OK


def refused(request: HttpRequest, refusal: AccountError, invitation: Invitation | None = None) -> HttpResponse:
    """Return the page of a refusal that has one of its own (`errors.PAGES`)."""
    status, template = PAGES[refusal.code]
    can_be_asked = invitation is not None and invitations.can_be_asked(invitation)
    context = {"code": refusal.code, "invitation": invitation, "can_be_asked": can_be_asked}
    return render(request, template, context, status=status)


def explained(form: BaseForm, refusal: AccountError) -> HTTPStatus:
    """Put a service's refusal where its field is and return the page's status."""
    form.add_error(refusal.field or None, refusal.as_validation_error())
    return HTTPStatus.CONFLICT


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "home.html")


@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def signup(request: HttpRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return SeeOther(reverse("profile"))
    if settings.SIGNUP_MODE != "open":
        return refused(request, AccountError("signup_closed"))
    return signup_page(request)


def signup_page(request: HttpRequest, invitation: Invitation | None = None, token: str = "") -> HttpResponse:
    """Show the form, or let its sender in; with an invitation and the token of its link, or without."""
    data = request.POST if request.method == "POST" else None
    form = SignUpForm(data, browser=browser_secret(request), invitation=invitation)
    status = form_status(form)
    if form.is_bound and form.is_valid():
        try:
            services.sign_up(form.signup(invitation=token))
        except AccountError as refusal:
            if refusal.code in PAGES:
                return refused(request, refusal, invitation)
            status = explained(form, refusal)
        except ValidationError as refusal:  # what only the service asks: is it known from a leak?
            form.refuse(refusal)
            status = HTTPStatus.UNPROCESSABLE_ENTITY
        else:
            # The same answer for a new, a repeated and a known address (services.SignUpOutcome).
            if invitations.proves_address(token):
                messages.success(request, _("Welcome. You can sign in now."))
            else:
                text = _("Almost done. We have sent a mail to %(email)s: open its link, then sign in.")
                messages.success(request, text % {"email": form.cleaned_data["email"]})
            return SeeOther(reverse("login"))
    elif form.is_bound and invitation is not None and invitation.state != Invitation.State.OPEN:
        return refused(request, AccountError(f"invitation_{invitation.state}"), invitation)
    context = {"form": form, "password_rules": policy.rules(), "invitation": invitation}
    return render(request, "accounts/signup.html", context, status=status)


class RefusedWith422:
    """Answer an invalid form with 422, so that programs and password managers see the refusal."""

    def form_invalid(self: Any, form: BaseForm) -> HttpResponse:
        context = self.get_context_data(form=form)
        response: HttpResponse = self.render_to_response(context, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        return response


class TwoStepLogin(views.LoginView):
    """Signs in by password alone only whoever has no second factor; the others are shown to the second step."""

    def form_valid(self, form: Any) -> HttpResponse:
        user = form.get_user()
        if not factors.is_on(user):
            return super().form_valid(form)
        lockout.release(self.request)
        halfway.begin(self.request, user, next_path=self.get_redirect_url())
        return SeeOther(reverse("login_second_step"))

    def get_redirect_url(self) -> str:  # type: ignore[override]  # the stubs know Django 6 only
        """Only a path: Django also lets whole addresses of this host pass, and meets a loop with an exception."""
        url: str = super().get_redirect_url()
        return url if is_own_path(url) and url != self.request.path else ""


class Login(RefusedWith422, TwoStepLogin):
    form_class = LoginForm
    redirect_authenticated_user = True


class StaffLogin(TwoStepLogin):
    """The admin's door (`GatehouseAdminSite.login_view`)."""

    form_class = StaffLoginForm


@always_fresh
@never_cache
@require_safe
def verify_email_link(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address at once, so that no log, referrer or shoulder sees it for long."""
    if links.read_verification_token(token) is None:
        return _unusable_verification(request)  # nothing of ours: not worth a session
    request.session[_VERIFY_TOKEN] = token
    return redirect("verify_email")


@always_fresh
@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def verify_email(request: HttpRequest) -> HttpResponse:
    token = request.session.get(_VERIFY_TOKEN, "")
    if request.method == "POST":
        try:
            services.verify_email(token)
        except AccountError:
            return _used_verification(request, token)
        request.session.pop(_VERIFY_TOKEN, None)
        messages.success(request, _("Thank you, your address is confirmed. You can sign in now."))
        return SeeOther(reverse("login"))
    known = links.read_verification_token(token)
    if known is None or services.is_verified(token):
        return _used_verification(request, token)
    return render(request, "accounts/verify_email.html", {"valid": True, "email": known[1]})


def _used_verification(request: HttpRequest, token: str) -> HttpResponse:
    """Lead whoever has confirmed their address already to the login."""
    if not services.is_verified(token):
        return _unusable_verification(request)
    request.session.pop(_VERIFY_TOKEN, None)
    messages.info(request, _("Your address is confirmed already. You can sign in."))
    return SeeOther(reverse("login"))


def _unusable_verification(request: HttpRequest) -> HttpResponse:
    return render(request, "accounts/verify_email.html", {"valid": False}, status=HTTPStatus.NOT_FOUND)


@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def resend_verification(request: HttpRequest) -> HttpResponse:
    form = AddressForm(request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        services.send_verification(form.cleaned_data["email"])
        messages.success(request, _("If this address still waits for confirmation, a new mail is on its way."))
        return SeeOther(reverse("login"))
    return render(request, "accounts/resend_verification.html", {"form": form}, status=form_status(form))


class RequestPasswordReset(RefusedWith422, views.PasswordResetView):
    form_class = AddressForm  # type: ignore[assignment]  # only its fields are used, by form_valid below
    success_url = reverse_lazy("password_reset_done")

    def form_valid(self, form: Any) -> HttpResponse:
        services.request_password_reset(form.cleaned_data["email"])
        return SeeOther(str(self.success_url))


@method_decorator(always_fresh, name="dispatch")
class ResetPassword(RefusedWith422, views.PasswordResetConfirmView):
    form_class = ChoosePasswordForm
    success_url = reverse_lazy("login")

    def form_valid(self, form: Any) -> HttpResponse:
        token = self.request.session[INTERNAL_RESET_SESSION_TOKEN]
        try:
            services.reset_password(form.user, token, form.cleaned_data["new_password1"])
        except ValidationError as refusal:  # the link still works
            form.refuse(refusal)
            return self.form_invalid(form)
        except AccountError:
            del self.request.session[INTERNAL_RESET_SESSION_TOKEN]
            self.validlink = False
            response: HttpResponse = self.render_to_response(self.get_context_data())
            return response
        del self.request.session[INTERNAL_RESET_SESSION_TOKEN]
        messages.success(self.request, _("Your new password is set. Please sign in with it."))
        if factors.is_on(form.user):  # see `services.reset_password`
            text = _(
                "If you were told to wait after too many tries, you still have to: your account has a second factor."
            )
            messages.info(self.request, text)
        return SeeOther(str(self.success_url))

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> Any:
        if not self.validlink:
            kwargs["status"] = HTTPStatus.NOT_FOUND
        return super().render_to_response({**context, "password_rules": policy.rules()}, **kwargs)


class ChangePassword(RefusedWith422, views.PasswordChangeView):
    form_class = ChangePasswordForm
    success_url = reverse_lazy("profile")

    def get_form_kwargs(self) -> dict[str, Any]:
        return {**super().get_form_kwargs(), "request": self.request}

    def form_valid(self, form: Any) -> HttpResponse:
        key = self.request.session.session_key or ""
        try:
            services.change_password(form.user, form.cleaned_data["new_password1"], session_key=key)
        except ValidationError as refusal:
            form.refuse(refusal)
            return self.form_invalid(form)
        except AccountError as refusal:
            status = explained(form, refusal)
            response: HttpResponse = self.render_to_response(self.get_context_data(form=form), status=status)
            return response
        update_session_auth_hash(self.request, form.user)  # this session goes on, all others end
        messages.success(self.request, _("Your password is changed. Your other devices are signed out."))
        return SeeOther(str(self.success_url))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return {**super().get_context_data(**kwargs), "password_rules": policy.rules()}


@login_required
@require_safe
def own_account(request: HttpRequest) -> HttpResponse:
    """Where people look who shorten the address of one of these pages."""
    return redirect("profile")


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def profile(request: HttpRequest) -> HttpResponse:
    # A form edits its instance even when it is invalid, so it gets one that nothing else shows.
    user = User.objects.get(pk=cast("User", request.user).pk)
    form = ProfileForm(request.POST if request.method == "POST" else None, instance=user)
    status = form_status(form)
    if form.is_bound and form.is_valid():
        try:
            services.update_profile(form.instance, version=form.cleaned_data["version"])
        except AccountError as refusal:
            form = form.renewed(User.objects.get(pk=user.pk))
            status = explained(form, refusal)
        else:
            messages.success(request, _("Your profile is saved."))
            return SeeOther(reverse("profile"))
    return render(request, "accounts/profile.html", {"form": form}, status=status)


@never_cache
@login_required
@require_safe
def own_activity(request: HttpRequest) -> HttpResponse:
    """What the person did and what was done to their account; nobody sees another's here."""
    user = cast("User", request.user)
    rules.require(user, "read_activity", user)
    page, entries = activity.page_of(user, request.GET)
    return render(request, "accounts/activity.html", {"page": page, "entries": entries})
