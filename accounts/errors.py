"""What can be refused about an account, each with a code; forms and commands turn codes into words.

``docs/signup.md`` has the table of codes, pages and statuses.
"""

from __future__ import annotations

from http import HTTPStatus

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

MESSAGES = {
    "username_taken": _("This username is already taken. Please choose another one."),
    "username_look_alike": _("This username looks like one that exists. Please choose another one."),
    "username_retired": _("This username was given up recently and is not free yet."),
    "email_taken": _("This e-mail address already belongs to an account."),
    "link_invalid": _("This link is not valid any more. Please ask for a new one."),
    "signup_closed": _("Sign-up is not open to everybody at the moment."),
    "invitation_invalid": _("This invitation is not valid."),
    "invitation_used": _("This invitation has been used."),
    "invitation_expired": _("This invitation has expired."),
    "invitation_revoked": _("This invitation was revoked. Please invite again."),
    "invitation_followed": _("A newer invitation has taken the place of this one."),
    "invitation_sent_recently": _(
        "This invitation was sent a moment ago. Please wait a minute before sending it again."
    ),
    "invitation_other_address": _("This invitation is for another e-mail address."),
    "invitation_other_domain": _("This invitation is for e-mail addresses at %(domain)s."),
    "invitations_closed": _("Sign-up is closed, so an invitation would open nothing."),
    "role_above_own": _("You cannot hand out a role that may do more than you."),
    "inviter_lost_authority": _("Whoever invited may not do so any more, so this invitation lets nobody in."),
    "quota_of_inviter": _(
        "You may make %(left)d more invitations at the moment, not %(wanted)d: one person may make %(limit)d in 24 "
        "hours."
    ),
    "quota_of_site": _(
        "This site may make %(left)d more invitations at the moment, not %(wanted)d: all people together may make "
        "%(limit)d in 24 hours."
    ),
    "code_wrong": _("This code is not right, or was used already. Please enter the next one."),
    "code_missing": _("Please enter a code."),
    "passkey_wrong": _("That did not work with the passkey. Please try again."),
    "passkey_known": _("This passkey belongs to an account already."),
    "second_factor_too_many": _("You have very many second factors. Please remove one first."),
}

# Those that are no matter of a form's field: status and template of their page.
PAGES = {
    "signup_closed": (HTTPStatus.FORBIDDEN, "accounts/signup_closed.html"),
    "invitation_used": (HTTPStatus.GONE, "accounts/invitation_refused.html"),
    "invitation_expired": (HTTPStatus.GONE, "accounts/invitation_refused.html"),
    # A stranger cannot tell an unknown one from a revoked one, nor from one whose inviter lost the right.
    "invitation_invalid": (HTTPStatus.NOT_FOUND, "accounts/invitation_refused.html"),
    "inviter_lost_authority": (HTTPStatus.NOT_FOUND, "accounts/invitation_refused.html"),
}


class AccountError(Exception):
    """A refused change; `code` is a key of `MESSAGES`, `field` the form field it belongs to, or "".

    `about` fills the places of the message.
    """

    def __init__(self, code: str, field: str = "", **about: object) -> None:
        self.code = code
        self.field = field
        self.about = about
        super().__init__(code)

    @property
    def message(self) -> str:
        return MESSAGES[self.code] % self.about

    def as_validation_error(self) -> ValidationError:
        return ValidationError(self.message, code=self.code)


def words_of(refusal: ValidationError | AccountError) -> str:
    """Return what a refusal says, for a line about one of many."""
    return refusal.message if isinstance(refusal, AccountError) else " ".join(refusal.messages)
