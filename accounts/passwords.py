"""The password policy: one validator per rule, in Django's shape, listed in `AUTH_PASSWORD_VALIDATORS`.

Every rule is checked and all failures are reported together, each with a code. Two policies share them
(`PASSWORD_POLICY`): ``composition`` and ``nist`` (NIST SP 800-63B-4, section 3.1.1.2: length instead of
composition). Passwords are never changed on their way: they are verified exactly as typed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

    from accounts.models import User

LONGEST_PASSWORD_BYTES = 1024  # far above the 64 characters NIST asks for, and a bound on the work of a guess


class LengthValidator:
    """At least `shortest` characters (code ``password_too_short``)."""

    def __init__(self, shortest: int) -> None:
        self.shortest = shortest

    def validate(self, password: str, user: User | None = None) -> None:
        if len(password) < self.shortest:
            raise ValidationError(self.get_help_text(), code="password_too_short")

    def get_help_text(self) -> str:
        return ngettext("Use at least %(count)d character.", "Use at least %(count)d characters.", self.shortest) % {
            "count": self.shortest
        }


class StorableValidator:
    """At most 1,024 bytes (``password_too_long``), no NUL, no lone surrogate (``password_unstorable``)."""

    def validate(self, password: str, user: User | None = None) -> None:
        if "\0" in password or any("\ud800" <= character <= "\udfff" for character in password):
            raise ValidationError(
                _("This password holds characters that cannot be typed. Please use others."),
                code="password_unstorable",
            )
        if len(password.encode()) > LONGEST_PASSWORD_BYTES:
            raise ValidationError(_("Use a password of at most 1,024 bytes."), code="password_too_long")

    def get_help_text(self) -> str:
        return ""


class _CharacterValidator:
    """At least one character of a kind."""

    code: str
    rule: StrOrPromise

    @staticmethod
    def is_met_by(character: str) -> bool:
        raise AssertionError("each rule says which characters meet it")

    def validate(self, password: str, user: User | None = None) -> None:
        if not any(self.is_met_by(character) for character in password):
            raise ValidationError(self.rule, code=self.code)

    def get_help_text(self) -> str:
        return str(self.rule)


class LowercaseValidator(_CharacterValidator):
    code = "password_no_lowercase"
    rule = gettext_lazy("Use at least one lower-case letter.")

    @staticmethod
    def is_met_by(character: str) -> bool:
        return character.islower()


class UppercaseValidator(_CharacterValidator):
    code = "password_no_uppercase"
    rule = gettext_lazy("Use at least one upper-case letter.")

    @staticmethod
    def is_met_by(character: str) -> bool:
        return character.isupper()


class DigitValidator(_CharacterValidator):
    code = "password_no_digit"
    rule = gettext_lazy("Use at least one digit.")

    @staticmethod
    def is_met_by(character: str) -> bool:
        return character.isdecimal()


class SymbolValidator(_CharacterValidator):
    code = "password_no_symbol"
    rule = gettext_lazy("Use at least one symbol, like ! ? # or %.")

    @staticmethod
    def is_met_by(character: str) -> bool:
        return not character.isalnum() and not character.isspace()


class NoSpaceValidator:
    """No white space (code ``password_white_space``)."""

    def validate(self, password: str, user: User | None = None) -> None:
        if any(character.isspace() for character in password):
            raise ValidationError(self.get_help_text(), code="password_white_space")

    def get_help_text(self) -> str:
        return _("Do not use spaces.")


class NotLikeUserValidator(password_validation.UserAttributeSimilarityValidator):
    """Not like the user's own name or address (code ``password_too_similar``)."""

    def __init__(self) -> None:
        super().__init__(user_attributes=("username", "email", "full_name"))

    def validate(self, password: str, user: Any = None) -> None:
        # The comparison takes quadratic time; nobody's name is like a password of hundreds of characters.
        super().validate(password[:128], user)


class NotCommonValidator(password_validation.CommonPasswordValidator):
    """None of the most used (code ``password_too_common``): Django's list and, if `leaked`, zxcvbn's of 30,000 too.

    Both are made of what leaked from other sites, and come with packages that are here anyway.
    """

    def __init__(self, *, leaked: bool) -> None:
        super().__init__()
        self.leaked = leaked

    def validate(self, password: str, user: User | None = None) -> None:
        super().validate(password, user)
        if self.leaked:
            from accounts import strength  # its words take 0.2 s and 10 MB, which most processes never need

            if strength.is_common(password.strip()):
                raise ValidationError(self.get_error_message(), code="password_too_common")
