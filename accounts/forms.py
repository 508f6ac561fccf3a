"""Forms explain: they check shapes and say what is wrong; services check again and act."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import password_validation
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, SetPasswordForm
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from accounts import identity, services
from accounts.models import User
from accounts.passwords import LONGEST_PASSWORD_BYTES


def password_rules() -> list[str]:
    """The policy in words, one rule a line."""
    return [text for text in password_validation.password_validators_help_texts() if text]


class PasswordField(forms.CharField):
    """A password exactly as typed: never stripped, bounded, never sent back to the browser."""

    def __init__(self, *, autocomplete: str, **kwargs: Any) -> None:
        widget = forms.PasswordInput(attrs={"autocomplete": autocomplete})
        super().__init__(strip=False, max_length=LONGEST_PASSWORD_BYTES, widget=widget, **kwargs)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        # No maxlength in the page: browsers would cut a pasted password without a word.
        return {name: value for name, value in super().widget_attrs(widget).items() if name != "maxlength"}


class SignUpForm(forms.Form):
    username = forms.CharField(
        label=_("Username"),
        max_length=identity.LONGEST_USERNAME,
        validators=[identity.validate_username],
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
        help_text=_("3 to 64 letters and digits; dots, hyphens and underscores in between."),
    )
    email = forms.CharField(
        label=_("E-mail address"),
        max_length=identity.LONGEST_EMAIL,
        validators=[identity.validate_email_address, identity.validate_email_domain],
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
        help_text=_("We send one mail to confirm it."),
    )
    full_name = forms.CharField(
        label=_("Full name"),
        max_length=150,
        required=False,
        validators=[identity.validate_one_line],
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        help_text=_("Optional."),
    )
    password = PasswordField(label=_("Password"), autocomplete="new-password")

    def __init__(self, *args: Any, browser: str, **kwargs: Any) -> None:
        self.browser = browser
        super().__init__(*args, **kwargs)

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        given = {name: cleaned.get(name, "") for name in ("username", "email", "full_name")}
        user = User(**given)
        if {"username", "email"} <= cleaned.keys():
            user.signup_key = services.SignUp(**given, password="", browser=self.browser).key
        if "username" in cleaned and (refusal := services.username_refusal(user)):
            self.add_error("username", refusal.as_validation_error())
        if "password" in cleaned:
            try:
                password_validation.validate_password(cleaned["password"], user)
            except ValidationError as error:
                self.add_error("password", error)
        return cleaned

    def signup(self) -> services.SignUp:
        """Return the valid form's content as the service takes it."""
        return services.SignUp(**self.cleaned_data, browser=self.browser)


class LoginForm(AuthenticationForm):
    """Same words for a wrong password, an unknown name and an account that may not sign in."""

    error_messages = {
        "invalid_login": _(
            "That did not match. Please check the name and the password. If you have just signed up, first "
            "open the link in the mail we sent you."
        ),
    }
    username = forms.CharField(
        label=_("Username or e-mail address"),
        max_length=identity.LONGEST_EMAIL,
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}),
    )
    password = PasswordField(label=_("Password"), autocomplete="current-password")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Django sets the length of the username column, which is shorter than an address.
        self.fields["username"].widget.attrs["maxlength"] = identity.LONGEST_EMAIL


class StaffLoginForm(LoginForm):
    """The admin's door: whoever is no staff gets the same words as a wrong password."""

    required_css_class = "required"

    def confirm_login_allowed(self, user: User) -> None:
        super().confirm_login_allowed(user)
        if not user.is_staff:
            raise self.get_invalid_login_error()


class AddressForm(forms.Form):
    """Asks for an address to write to; whether it has an account is nobody's business."""

    email = forms.CharField(
        label=_("E-mail address"),
        max_length=identity.LONGEST_EMAIL,
        validators=[identity.validate_email_address],
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )


class ChoosePasswordForm(SetPasswordForm):  # type: ignore[type-arg]  # not generic at run time
    new_password1 = PasswordField(label=_("New password"), autocomplete="new-password")
    new_password2 = PasswordField(label=_("New password again"), autocomplete="new-password")


class ChangePasswordForm(PasswordChangeForm):
    old_password = PasswordField(label=_("Current password"), autocomplete="current-password")
    new_password1 = PasswordField(label=_("New password"), autocomplete="new-password")
    new_password2 = PasswordField(label=_("New password again"), autocomplete="new-password")


class ProfileForm(forms.ModelForm[User]):
    class Meta:
        model = User
        fields = ["full_name", "bio", "avatar_url"]
        widgets = {
            "full_name": forms.TextInput(attrs={"autocomplete": "name"}),
            "bio": forms.Textarea(attrs={"rows": 4}),
            "avatar_url": forms.URLInput(attrs={"autocomplete": "photo"}),
        }
