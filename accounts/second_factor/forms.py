"""The forms of the second factor; what is typed into them is judged by `events` and `proving`."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from accounts import identity
from accounts.errors import AccountError
from accounts.second_factor import passkeys
from accounts.second_factor.proving import Proof

LONGEST_NAME = 64
_LONGEST_CODE = 64


class CodeInput(forms.TextInput):
    """For what works once: never sent back to the browser."""

    def __init__(self) -> None:
        super().__init__(
            {"autocomplete": "one-time-code", "autocapitalize": "none", "spellcheck": "false", "required": True}
        )

    def format_value(self, value: Any) -> None:
        return None


class AnswerInput(forms.HiddenInput):
    """As `CodeInput`: else the next code would be sent with the old answer."""

    def format_value(self, value: Any) -> None:
        return None


class AnswerField(forms.CharField):
    """What a passkey answered, as JSON; `passkeys.js` fills it in."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=passkeys.LONGEST_ANSWER, widget=AnswerInput, **options)


class _WithAnswer(forms.Form):
    """Says what is wrong with the hidden field above the form, where people see it."""

    def clean(self) -> dict[str, Any]:
        if self.errors.pop("answer", None):
            self.add_error(None, AccountError("passkey_wrong").as_validation_error())
        return self.cleaned_data


class ProofForm(_WithAnswer):
    """Asks for a code of an app, a recovery code or a passkey."""

    answer = AnswerField(required=False)
    code = forms.CharField(
        label=_("Code"),
        required=False,  # with an answer
        max_length=_LONGEST_CODE,
        widget=CodeInput,
        help_text=_("The six digits that your app shows now, or one of your recovery codes."),
    )

    @property
    def proof(self) -> Proof:
        """What the valid form shows."""
        return Proof(code=self.cleaned_data["code"], answer=self.cleaned_data["answer"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        if not self.errors and not cleaned["code"] and not cleaned["answer"]:
            self.add_error("code", AccountError("code_missing").as_validation_error())
        return cleaned

    def refuse(self) -> None:
        """Say that what was shown is not right."""
        field, code = (None, "passkey_wrong") if self.proof.answer else ("code", "code_wrong")
        self.add_error(field, AccountError(code).as_validation_error())


class NameForm(forms.Form):
    """What a person calls one of their second factors."""

    name = forms.CharField(
        label=_("Name"),
        max_length=LONGEST_NAME,
        validators=[identity.validate_one_line],
        help_text=_("So that you recognise it in the list, like “Phone”."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class NewPasskeyForm(_WithAnswer, NameForm):
    answer = AnswerField()


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
