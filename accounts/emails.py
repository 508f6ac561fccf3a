"""Every mail we send. Each is a trio in ``templates/emails``: subject, text and HTML."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation

from accounts import links, preferences
from accounts.models import AddressChange, Invitation, User
from accounts.second_factor import factors
from accounts.second_factor.models import RecoveryLink

log = structlog.get_logger("accounts.emails")


def _verify_email(user: User) -> dict[str, Any]:
    return {"url": links.verify_email_url(user), "hours": settings.EMAIL_VERIFICATION_HOURS}


def _set_password(user: User) -> dict[str, Any]:
    return {"url": links.set_password_url(user), "hours": settings.PASSWORD_RESET_TIMEOUT // 3600}


def _doors(user: User) -> dict[str, Any]:
    return {
        "login_url": links.absolute(reverse("login")),
        "reset_url": links.absolute(reverse("password_reset")),
    }


def _erasure(user: User) -> dict[str, Any]:
    return {"url": links.cancel_erasure_url(user)}


def _own_data(user: User) -> dict[str, Any]:
    return {"url": links.absolute(reverse("own_data")), "hours": settings.DATA_EXPORT_HOURS}


def _second_factor(user: User) -> dict[str, Any]:
    return {
        "reset_url": links.absolute(reverse("password_reset")),
        "security_url": links.absolute(reverse("second_factor")),
        "codes_left": factors.codes_left(user),
    }


def _second_factor_recovery(user: User) -> dict[str, Any]:
    nonce = RecoveryLink.objects.get(user=user).nonce
    return {"url": links.recovery_url(user, nonce), "hours": links.RECOVERY_HOURS}


# name of the mail -> what its templates need besides the user and the site's address
MAILS: dict[str, Callable[[User], dict[str, Any]]] = {
    "verify_email": _verify_email,
    "address_known": _doors,
    "password_reset": _set_password,
    "password_changed": _doors,
    "set_password": _set_password,
    "erasure_scheduled": _erasure,
    "erasure_cancelled": _doors,
    "address_asked": _doors,
    "address_in_use": _doors,
    "address_restored": _set_password,
    "data_ready": _own_data,
    "second_factor_added": _second_factor,
    "second_factor_removed": _second_factor,
    "second_factor_codes_replaced": _second_factor,
    "second_factor_code_used": _second_factor,
    "second_factor_recovery": _second_factor_recovery,
    "second_factor_recovered": _second_factor,
}
_WAYS_IN = {"verify_email", "address_known", "password_reset", "set_password"}


def send(mail: str, user: User) -> bool:
    """Render and send one mail, unless it is needless by now; returns whether it was sent.

    Raises what the mail server's library raises, for the worker to retry.
    """
    if mail == "address_known" and user.email_verified_at is None:
        mail = "verify_email"  # "simply sign in" would be a dead end
    if user.erase_at is not None and mail in _WAYS_IN:
        mail = "erasure_scheduled"  # all other doors are shut, and this mail says why
    if mail == "erasure_scheduled" and user.erase_at is None:
        return False  # cancelled meanwhile
    if mail == "verify_email" and user.email_verified_at is not None:
        return False
    if mail == "second_factor_recovery" and not RecoveryLink.objects.filter(user=user).exists():
        return False  # used meanwhile: an earlier mail led to it
    with preferences.of_user(user):
        _send(mail, user.email, {"user": user, **MAILS[mail](user)})
    log.info("mail.sent", mail=mail, user=str(user.pk))
    return True


def send_new_device(user: User, device: str, address: str, at: datetime) -> None:
    """Tell `user` of a login with a browser that was new. Raises as `send` does."""
    about = {"user": user, "device": device, "address": address, "at": at}
    urls = {"sessions_url": links.absolute(reverse("session_list")), "reset_url": _doors(user)["reset_url"]}
    with preferences.of_user(user):
        _send("new_device", user.email, about | urls)
    log.info("mail.sent", mail="new_device", user=str(user.pk))


def send_invitation(invitation: Invitation, language: str) -> bool:
    """Send an invitation to its address, in the language with this code; returns True. Raises as `send` does."""
    url = links.invitation_url(invitation, mailed=True)
    with translation.override(language):
        _send("invitation", invitation.email, {"invitation": invitation, "url": url})
    log.info("mail.sent", mail="invitation", invitation=str(invitation.pk))
    return True


def send_invitation_asked(invitation: Invitation, inviter: User) -> None:
    """Tell `inviter` that somebody stood before their expired invitation. Raises as `send` does."""
    url = links.absolute(reverse("invitation_detail", args=[invitation.pk]))
    with preferences.of_user(inviter):
        _send("invitation_asked", inviter.email, {"user": inviter, "invitation": invitation, "url": url})
    log.info("mail.sent", mail="invitation_asked", user=str(inviter.pk), invitation=str(invitation.pk))


def send_address_confirmation(change: AddressChange) -> bool:
    """Ask at the new address whether it shall be the account's; returns True. Raises as `send` does."""
    about = {"url": links.confirm_address_url(change), "hours": settings.EMAIL_VERIFICATION_HOURS}
    with preferences.of_user(change.user):
        _send("address_confirm", change.new_email, {"user": change.user, **about})
    log.info("mail.sent", mail="address_confirm", user=str(change.user_id))
    return True


def send_address_changed(change: AddressChange) -> None:
    """Tell the old address, with the link that restores it; also if the account is to be erased. Raises as `send`."""
    about = {"url": links.undo_address_url(change), "days": settings.EMAIL_UNDO_DAYS, "until": change.undo_until}
    with preferences.of_user(change.user):
        _send("address_changed", change.old_email, {"user": change.user, **about})
    log.info("mail.sent", mail="address_changed", user=str(change.user_id))


def send_address_moved(change: AddressChange) -> None:
    """Tell the old address that staff have put another one in its place. Raises as `send` does."""
    with preferences.of_user(change.user):
        _send("address_moved", change.old_email, {"user": change.user})
    log.info("mail.sent", mail="address_moved", user=str(change.user_id))


def _send(mail: str, address: str, about: dict[str, Any]) -> None:
    context = {"site_url": settings.BASE_URL, **about}
    message = EmailMultiAlternatives(
        subject=render_to_string(f"emails/{mail}.subject.txt", context).strip(),
        body=render_to_string(f"emails/{mail}.txt", context),
        to=[address],
    )
    message.attach_alternative(render_to_string(f"emails/{mail}.html", context), "text/html")
    message.send()
