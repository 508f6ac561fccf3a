"""What can be refused about an account, each with a code; forms and commands turn codes into words.

``docs/signup.md`` has the table of codes, pages and statuses.
"""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

MESSAGES = {
    "username_taken": _("This username is already taken. Please choose another one."),
    "username_look_alike": _("This username looks like one that exists. Please choose another one."),
    "username_retired": _("This username was given up recently and is not free yet."),
    "email_taken": _("This e-mail address already belongs to an account."),
    "link_invalid": _("This link is not valid any more. Please ask for a new one."),
    "signup_closed": _("Sign-up is not open to everybody at the moment."),
}


class AccountError(Exception):
    """A refused change; `code` is a key of `MESSAGES`, `field` the form field it belongs to, or ""."""

    def __init__(self, code: str, field: str = "") -> None:
        self.code = code
        self.field = field
        super().__init__(code)

    def as_validation_error(self) -> ValidationError:
        return ValidationError(MESSAGES[self.code], code=self.code)
