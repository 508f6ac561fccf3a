"""The forms of the second factor; what is typed into them is judged by `events` and `proving`."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from accounts import identity
from accounts.errors import AccountError
from accounts.second_factor.proving import Proof

LONGEST_NAME = 64
_LONGEST_CODE = 64


class CodeInput(forms.TextInput):
    """For what works once: never sent back to the browser."""

    def __init__(self) -> None:
        attributes = {"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false"}
        super().__init__(attributes)

    def format_value(self, value: Any) -> None:
        return None


class ProofForm(forms.Form):
    """Asks for a code of an app or a recovery code."""

    code = forms.CharField(
        label=_("Code"),
        max_length=_LONGEST_CODE,
        widget=CodeInput,
        help_text=_("The six digits that your app shows now, or one of your recovery codes."),
    )

    @property
    def proof(self) -> Proof:
        """What the valid form shows."""
        return Proof(code=self.cleaned_data["code"])

    def refuse(self) -> None:
        """Say that what was shown is not right."""
        self.add_error("code", AccountError("code_wrong").as_validation_error())


class NameForm(forms.Form):
    """What a person calls one of their second factors."""

    name = forms.CharField(
        label=_("Name"),
        max_length=LONGEST_NAME,
        validators=[identity.validate_one_line],
        help_text=_("So that you recognise it in the list, like “Phone”."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class ConfirmAppForm(NameForm):
    """The first code of a new app, which shows that it has the secret."""

    code = forms.CharField(
        label=_("Code"),
        max_length=_LONGEST_CODE,
        widget=CodeInput,
        help_text=_("The six digits that the app shows now."),
    )

    def clean_code(self) -> str:
        code = "".join(self.cleaned_data["code"].split())
        if not (code.isascii() and code.isdecimal() and len(code) == 6):
            raise ValidationError(_("The code has six digits."), code="code_wrong")
        return code
