"""What can be refused about an account, each with a code; forms and commands turn codes into words.

``docs/signup.md`` has the table of codes, pages and statuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from accounts.models import User

MESSAGES = {
    "username_taken": _("This username is already taken. Please choose another one."),
    "username_look_alike": _("This username looks like one that exists. Please choose another one."),
    "username_retired": _("This username was given up recently and is not free yet."),
    "email_taken": _("This e-mail address already belongs to an account."),
    "changed_meanwhile": _(
        "Your profile was changed in the meantime, perhaps in another tab. Nothing of this was saved. Please compare: "
        "saving again puts what stands here in place of it."
    ),
    "account_changed": _(
        "Your account was changed in the meantime, perhaps by a link that was mailed to you. Nothing of this was "
        "saved. Please sign in again."
    ),
    "address_same": _("This is your address already."),
    "address_changes_limit": _("You have asked for too many changes of your address today. Please try again tomorrow."),
    "data_export_waiting": _("Your data is being put together already."),
    "data_exports_limit": _("You can ask for your data %(limit)d times a day. Please try again tomorrow."),
    "link_invalid": _("This link is not valid any more. Please ask for a new one."),
    "last_superuser": _(
        "This is the last superuser who can sign in. Make somebody else a superuser first, or nobody could look after "
        "this site."
    ),
    "own_account": _("This is your own account. Please ask another administrator."),
    "own_sessions": _("You stay signed in. Your own sessions end on the page “Your devices”."),
    "account_erased": _("This person was erased, and that is for good."),
    "account_shut_out": _("This account is shut out."),
    "erasure_planned": _("This account is to be erased."),
    "no_second_factor": _("This person has no second factor."),
    "not_scheduled": _("No erasure of this account is planned."),
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
    "own_roles": _("Nobody changes their own roles."),
    "person_above_own": _("You may not edit this person."),
    "last_role": _("Everybody has a role at least: without another one, they stay a member."),
    "role_unknown": _("There is no role “%(role)s”."),
    "row_cells": _("This row has %(found)d cells, the header has %(wanted)d."),
    "row_days": _("The days until it expires must be a whole number from 1 to 365."),
    "row_two_people": _("This username and this address do not belong to the same person."),
    "row_nobody": _("There is nobody with this name or address. To add somebody, a row needs both."),
    "row_raced": _("Others took this name or address at the same moment. Please import the file again."),
    "file_empty": _("The file is empty. Its first line must name the columns."),
    "file_nobody": _("There is nobody in this file."),
    "file_line_too_long": _("Line %(line)d is longer than %(most)d bytes. Is this a CSV file?"),
    "file_nul": _("Line %(line)d holds a NUL character. Please save the file as CSV in UTF-8."),
    "file_not_utf8": _("Line %(line)d is not UTF-8. Please save the file as CSV in UTF-8."),
    "file_malformed": _("The row that begins on line %(line)d is not CSV: is a quotation mark not closed?"),
    "file_columns_unknown": _("The first line names columns that are not known: %(columns)s. There are: %(known)s."),
    "file_columns_missing": _("The first line must name these columns as well: %(columns)s. There are: %(known)s."),
    "file_columns_twice": _("The first line names a column twice."),
    "file_too_many_rows": _("The file has more than %(most)d rows. Please split it, or use the command import_people."),
    "import_not_waiting": _("This import was begun already."),
    "import_discarded": _("This import was discarded."),
    "import_none_to_resume": _(
        "No interrupted import of this file, with the same options, was found. To begin one, leave out --resume."
    ),
    "import_rights_lost": _("Whoever began this import may not do so any more."),
    "import_person_erased": _("A person in this file was erased. If the others are still wanted, import them anew."),
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


@dataclass
class Sorted:
    """Several people of an action: to whom it was `done`, and who was left out, each with the reason."""

    done: list[User] = field(default_factory=list)
    left_out: list[tuple[User, AccountError]] = field(default_factory=list)

    def add(self, user: User, refusal: str | None) -> None:
        """Sort one in, by the code of what is against it."""
        if refusal:
            self.left_out.append((user, AccountError(refusal)))
        else:
            self.done.append(user)


def words_of(refusal: ValidationError | AccountError) -> str:
    """Return what a refusal says, for a line about one of many."""
    return refusal.message if isinstance(refusal, AccountError) else " ".join(refusal.messages)
