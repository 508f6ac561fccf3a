"""The pages of invitations: for who was invited, and for who invites."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import cast
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required, login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import invitations, links, rules
from accounts.errors import AccountError
from accounts.forms import InviteForm
from accounts.models import Invitation, User
from accounts.views import SeeOther, explained, form_status, refused, signup_page
from config.middleware import always_fresh
from config.paging import CappedPaginator

_INVITATION_TOKEN = "_invitation_token"  # noqa: S105 - the name of a session entry
LISTED = 50  # invitations a page


@always_fresh
@login_not_required
@never_cache
@require_safe
def invitation_link(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address at once. Opening a link changes nothing: mail scanners do it."""
    if links.read_invitation_token(token) is None:
        return refused(request, AccountError("invitation_invalid"))  # nothing of ours: not worth a session
    request.session[_INVITATION_TOKEN] = token
    response = redirect("invitation")
    response["X-Robots-Tag"] = "noindex"
    # Only here: under this policy browsers post forms with "Origin: null", which is refused as forged.
    response["Referrer-Policy"] = "no-referrer"
    return response


@always_fresh
@login_not_required
@never_cache
@sensitive_post_parameters("password")
@require_http_methods(["GET", "HEAD", "POST"])
def invitation(request: HttpRequest) -> HttpResponse:
    """The signup page of somebody who was invited."""
    if request.user.is_authenticated:
        messages.info(request, _("You are signed in. To use the invitation for a new account, sign out first."))
        return SeeOther(reverse("profile"))
    if settings.SIGNUP_MODE == "closed":
        return refused(request, AccountError("signup_closed"))
    token = request.session.get(_INVITATION_TOKEN, "")
    found = None
    try:
        found = invitations.find(token)
        # A form sent twice finds its invitation used; the service knows that it is the same form.
        if request.method != "POST":
            invitations.require_open(found)
    except AccountError as refusal:
        return refused(request, refusal, found)
    response = signup_page(request, found, token)
    if request.method == "POST" and response.status_code != HTTPStatus.SEE_OTHER:
        invitations.note_opening(token)  # of one that is used it is known
    return response


@login_not_required
@never_cache
@require_POST
def invitation_opened(request: HttpRequest) -> HttpResponse:
    """Hear from the page that somebody uses it; the answer is the same whatever the link is."""
    invitations.note_opening(request.session.get(_INVITATION_TOKEN, ""))
    return HttpResponse(status=HTTPStatus.NO_CONTENT)


@login_not_required
@never_cache
@require_POST
def ask_for_invitation(request: HttpRequest) -> HttpResponse:
    try:
        invitations.ask_for_new(request.session.get(_INVITATION_TOKEN, ""))
    except AccountError as refusal:
        return refused(request, refusal)
    messages.success(request, _("We have told the person who invited you. A new mail comes if they send one."))
    return SeeOther(reverse("home"))


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def invitation_list(request: HttpRequest) -> HttpResponse:
    """One's own invitations, and the form for new ones."""
    inviter = cast("User", request.user)
    rules.require(inviter, "invite")
    form = InviteForm.of(inviter)(request.POST if request.method == "POST" else None)
    status = form_status(form)
    if form.is_bound and form.is_valid():
        try:
            made = form.invite()
        except AccountError as refusal:
            status = explained(form, refusal)
        else:
            tell_what_was_made(request, made)
            return SeeOther(reverse("invitation_list") if made[0].email else _page_of(made[0]))
    own = Invitation.objects.filter(invited_by=inviter).prefetch_related("roles").order_by("-created_at")
    page = CappedPaginator(own, LISTED).get_page(request.GET.get("page"))
    return render(request, "accounts/invitation_list.html", {"form": form, "page": page}, status=status)


def tell_what_was_made(request: HttpRequest, made: list[Invitation]) -> None:
    """Leave messages about the outcome of `InviteForm.invite`."""
    if not made[0].email:
        messages.success(request, _("Your link is made. Press “Show the link” to copy it."))
    if new := sum(bool(one.email) and not one.was_open for one in made):
        text = ngettext("%(count)d invitation is on its way.", "%(count)d invitations are on their way.", new)
        messages.success(request, text % {"count": new})
    if again := ", ".join(one.email for one in made if one.was_open):
        text = _(
            "Invited before and still open: %(emails)s. They get the same link again. Its roles, note and days stay as "
            "they were; to change them, revoke the invitation first."
        )
        messages.warning(request, text % {"emails": again})


@never_cache
@login_required
@require_safe
def invitation_detail(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    user = cast("User", request.user)
    return _detail_page(request, get_object_or_404(invitations.visible_to(user), pk=invitation_id))


def _page_of(invitation: Invitation) -> str:
    return reverse("invitation_detail", args=[invitation.pk])


def _detail_page(request: HttpRequest, invitation: Invitation, **more: object) -> HttpResponse:
    user = cast("User", request.user)
    context = {
        "invitation": invitation,
        "redemptions": invitation.redemptions.select_related("user").order_by("-pk")[:LISTED],
        "has_authority": invitations.has_authority(invitation),
        "may_send": rules.may(user, "send_invitation", invitation),
        "may_revoke": rules.may(user, "revoke_invitation", invitation),
    }
    return render(request, "accounts/invitation_detail.html", {**context, **more})


@never_cache
@login_required
@require_POST
def invitation_show(request: HttpRequest, invitation_id: UUID) -> HttpResponse:
    """Show the link once more; only on a POST, so that it is in no history, cache or prefetch."""
    user = cast("User", request.user)
    invitation = get_object_or_404(invitations.visible_to(user), pk=invitation_id)
    rules.require(user, "show_invitation_link", invitation)
    return _detail_page(request, invitation, link=links.invitation_url(invitation, mailed=False))


# What can be done to an invitation, and what is said then.
ACTIONS: dict[str, tuple[Callable[..., Invitation], str]] = {
    "resend": (invitations.resend, gettext_noop("The invitation is open again for its full time.")),
    "replace": (invitations.replace, gettext_noop("The invitation has a new link. The old one has ended.")),
    "revoke": (invitations.revoke, gettext_noop("The invitation is revoked.")),
}


@never_cache
@login_required
@require_POST
def invitation_action(request: HttpRequest, invitation_id: UUID, action: str) -> HttpResponse:
    user = cast("User", request.user)
    invitation = get_object_or_404(invitations.visible_to(user), pk=invitation_id)
    act, done = ACTIONS[action]
    try:
        act(invitation.pk, acting_user=user)
    except AccountError as refusal:
        messages.error(request, refusal.message)
    else:
        messages.success(request, _(done))
    return SeeOther(_page_of(invitation))
