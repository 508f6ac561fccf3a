"""Forms explain: they check shapes and say what is wrong; services check again and act."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm, SetPasswordForm
from django.contrib.auth.models import Group
from django.contrib.auth.signals import user_login_failed
from django.core.exceptions import ValidationError
from django.forms import model_to_dict
from django.http import HttpRequest, QueryDict
from django.utils.translation import gettext_lazy as _

from accounts import identity, invitations, lockout, meter, policy, preferences, roles, services
from accounts.errors import AccountError, words_of
from accounts.models import Invitation, User
from accounts.passwords import LONGEST_PASSWORD_BYTES
from config.database import retry


class PasswordField(forms.CharField):
    """A password exactly as typed: never stripped, bounded, never sent back to the browser."""

    def __init__(self, *, autocomplete: str, **kwargs: Any) -> None:
        widget = forms.PasswordInput(attrs={"autocomplete": autocomplete})
        super().__init__(strip=False, max_length=LONGEST_PASSWORD_BYTES, widget=widget, **kwargs)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        # No maxlength in the page: browsers would cut a pasted password without a word.
        return {name: value for name, value in super().widget_attrs(widget).items() if name != "maxlength"}


class NewPasswordField(PasswordField):
    """A password that is chosen: the policy alone says what is wrong with it, so that the meter says the same."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocomplete="new-password", **kwargs)
        self.max_length, self.validators = None, []


class JudgedForm(forms.BaseForm):
    """A form for a new password, which it judges once, as the live meter does, and shows the verdict of."""

    new_password: str  # the name of the field
    verdict: policy.Verdict | None = None

    def judge(self, user: User) -> None:
        """Put what the policy has against the password where it was typed."""
        password = self.cleaned_data.get(self.new_password)
        if password is not None:
            self.verdict = policy.judge(password, user)
            if self.verdict.refusals:
                self.add_error(self.new_password, ValidationError(self.verdict.refusals))

    def refuse(self, refusal: ValidationError) -> None:
        """Put what a service has against the password there too, and let the verdict follow."""
        self.add_error(self.new_password, refusal)
        if self.verdict is not None:
            self.verdict = self.verdict.refused_by(refusal)


class SignUpForm(JudgedForm, forms.Form):
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
    password = NewPasswordField(label=_("Password"))
    new_password = "password"  # noqa: S105 - the name of a field

    def __init__(self, *args: Any, browser: str, invitation: Invitation | None = None, **kwargs: Any) -> None:
        self.browser = browser
        super().__init__(*args, **kwargs)
        if invitation is not None and invitation.email:
            # The invited address comes from the row, whatever is posted.
            self.fields["email"].disabled = True
            self.fields["email"].help_text = _("Your invitation is for this address.")
            self.initial["email"] = invitation.email

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        given = {name: cleaned.get(name, "") for name in ("username", "email", "full_name")}
        user = User(**given)
        if {"username", "email"} <= cleaned.keys():
            user.signup_key = services.SignUp(**given, password="", browser=self.browser).key
        look = partial(services.username_refusal, user)
        if "username" in cleaned and (refusal := retry.run(look, idempotent=True)):
            self.add_error("username", refusal.as_validation_error())
        # As typed, also where that is refused: the meter knows no better.
        self.judge(User(**meter.typed(lambda name: self[name].value())))
        return cleaned

    def signup(self, *, invitation: str = "") -> services.SignUp:
        """Return the valid form's content as the service takes it; `invitation` is a link's token."""
        return services.SignUp(**self.cleaned_data, browser=self.browser, invitation=invitation)


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
    """The admin's door: whoever is no staff gets the same words as a wrong password, and it counts as one."""

    required_css_class = "required"

    def confirm_login_allowed(self, user: User) -> None:
        super().confirm_login_allowed(user)
        if not user.is_staff:
            lockout.fails_because(self.request, lockout.NOT_STAFF)
            credentials = {"username": user.username}
            user_login_failed.send(sender=__name__, credentials=credentials, request=self.request)
            raise self.get_invalid_login_error()


class AddressForm(forms.Form):
    """Asks for an address to write to; whether it has an account is nobody's business."""

    email = forms.CharField(
        label=_("E-mail address"),
        max_length=identity.LONGEST_EMAIL,
        validators=[identity.validate_email_address],
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )


class JudgedBesideFirstField(JudgedForm):
    """What the policy refuses stands where it was typed first; only a mismatch belongs to the repetition."""

    new_password = "new_password1"  # noqa: S105 - the name of a field
    user: User

    def validate_password_for_user(
        self,
        user: User,
        password_field_name: str = "new_password2",  # noqa: S107 - the name of a field
    ) -> None:
        """Also when the repetition differs: all that is wrong is told at once."""
        self.judge(user)

    @property
    def whose(self) -> str:
        """Tells the meter whose password it is."""
        return meter.owner_token(self.user)


class ChoosePasswordForm(JudgedBesideFirstField, SetPasswordForm):  # type: ignore[type-arg]  # not generic at run time
    new_password1 = NewPasswordField(label=_("New password"))
    new_password2 = NewPasswordField(label=_("New password again"))


class ChangePasswordForm(JudgedBesideFirstField, PasswordChangeForm):
    old_password = PasswordField(label=_("Current password"), autocomplete="current-password")
    new_password1 = NewPasswordField(label=_("New password"))
    new_password2 = NewPasswordField(label=_("New password again"))
    error_messages = {
        **PasswordChangeForm.error_messages,
        "password_incorrect": _("That is not your current password. Please type it again."),
    }

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        self.request = request
        super().__init__(*args, **kwargs)

    def clean_old_password(self) -> str:
        old_password: str = self.cleaned_data["old_password"]
        if not lockout.checked_password(self.request, self.user, old_password):
            raise ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return old_password


class ConfirmForm(forms.Form):
    """Asks whoever is signed in for the password again; a wrong one counts as at the login."""

    password = PasswordField(label=_("Your password"), autocomplete="current-password")

    def __init__(self, *args: Any, request: HttpRequest, **kwargs: Any) -> None:
        self.request = request
        super().__init__(*args, **kwargs)

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        if not lockout.checked_password(self.request, cast("User", self.request.user), password):
            raise ValidationError(_("That is not your password."), code="password_incorrect")
        return password


class ChangeAddressForm(forms.Form):
    """A new address, and the password again, which counts as a login does."""

    email = forms.CharField(
        label=_("New e-mail address"),
        max_length=identity.LONGEST_EMAIL,
        validators=[identity.validate_email_address, identity.validate_email_domain],
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )
    password = PasswordField(label=_("Current password"), autocomplete="current-password")

    def __init__(self, data: QueryDict | None = None, *, request: HttpRequest) -> None:
        self.request = request
        super().__init__(data)

    def clean_email(self) -> str:
        email: str = self.cleaned_data["email"]
        if identity.canonical_email(email) == cast("User", self.request.user).email_canonical:
            raise AccountError("address_same").as_validation_error()
        return email

    def clean_password(self) -> str:
        password: str = self.cleaned_data["password"]
        if "email" not in self.cleaned_data:  # what is refused anyway must cost no try
            return password
        if not lockout.checked_password(self.request, cast("User", self.request.user), password):
            text = PasswordChangeForm.error_messages["password_incorrect"]
            raise ValidationError(text, code="password_incorrect")
        return password


class ProfileForm(forms.ModelForm[User]):
    """`version` is that of the row when the page was made: of two tabs, the second is told, and loses nothing."""

    stored: Sequence[tuple[Any, str]] = ()  # (label, value)
    version = forms.IntegerField(min_value=1, max_value=2**31 - 1, widget=forms.HiddenInput)
    time_zone = forms.ChoiceField(
        label=_("Time zone"),
        required=False,
        choices=preferences.zone_choices,
        help_text=_("In which pages show times. UTC is shown when you point at one."),
    )
    language = forms.ChoiceField(
        label=_("Language"),
        required=False,
        choices=preferences.language_choices,
        help_text=_("In which pages and mails speak. Without a choice, pages follow your browser, mails the site."),
    )

    class Meta:
        model = User
        fields = ["full_name", "bio", "avatar_url", "time_zone", "language"]
        widgets = {
            "full_name": forms.TextInput(attrs={"autocomplete": "name"}),
            "bio": forms.Textarea(attrs={"rows": 4}),
            "avatar_url": forms.URLInput(attrs={"autocomplete": "photo"}),
        }

    def __init__(self, data: QueryDict | None = None, *, instance: User) -> None:
        super().__init__(data, instance=instance, initial={"version": instance.version})
        if len(settings.LANGUAGES) == 1:
            del self.fields["language"]
        for name in self._meta.fields or ():
            if name in self.fields:
                self.fields[name].show_hidden_initial = True  # so that it is known what was left alone

    def renewed(self, current: User) -> ProfileForm:
        """Return the form with what was typed and the version of `current`: sent again, it is meant.

        What was left alone is as `current` has it. `stored` says what is saved in place of what was typed.
        """
        data = cast("QueryDict", self.data).copy()
        data["version"] = str(current.version)
        saved = {name: value for name, value in model_to_dict(current).items() if name in self.fields}
        for name, value in saved.items():
            if name not in self.changed_data:
                data[name] = value
            data[self[name].html_initial_name] = value
        form = type(self)(data, instance=current)
        form.is_valid()
        form.stored = [(form[name].label, saved[name]) for name in form.changed_data if name in saved]
        return form


BY_MAIL, BY_LINK = "mail", "link"
MOST_ADDRESSES = 100  # that one form invites; each takes a few statements of the page's time


class InviteForm(forms.ModelForm[Invitation]):
    """Invite addresses by mail, or make a link for a domain or for whoever holds it; for the page and the admin."""

    # Asked for: an empty form once made a link for anybody.
    by = forms.ChoiceField(
        label=_("How"),
        choices=[(BY_MAIL, _("By mail")), (BY_LINK, _("By a link that you hand over"))],
        required=False,  # by mail, then
        initial=BY_MAIL,
        widget=forms.RadioSelect,
    )
    emails = forms.CharField(
        label=_("E-mail addresses"),
        required=False,
        max_length=20_000,
        widget=forms.Textarea(
            attrs={"rows": 3, "autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
        help_text=_("One or several, each on a line of its own."),
    )
    domain = forms.CharField(
        label=_("Only for this e-mail domain"),
        required=False,
        max_length=253,
        validators=[identity.validate_domain],
        help_text=_("For a link: who uses it needs an address at this domain, like example.com."),
    )
    max_uses = forms.IntegerField(
        label=_("How often the link may be used"), required=False, min_value=1, max_value=10_000, initial=1
    )
    days = forms.IntegerField(label=_("Days until it expires"), required=False, min_value=1, max_value=365)
    roles = forms.ModelMultipleChoiceField(
        label=_("Roles"),
        queryset=Group.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Without a choice: Member."),
    )
    note = forms.CharField(
        label=_("Personal note"),
        required=False,
        max_length=500,
        validators=[identity.validate_one_line],
        help_text=_("Optional. Shown in the mail and on the page."),
    )

    inviter: User
    field_order = ["by", "emails", "note", "roles", "days", "domain", "max_uses"]  # as on the page, for its faults

    class Meta:
        model = Invitation
        fields = ["domain", "max_uses", "roles", "note"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["days"].initial = settings.INVITATION_DAYS
        choice = cast("forms.ModelMultipleChoiceField[Group]", self.fields["roles"])
        choice.queryset = roles.grantable(self.inviter)

    @classmethod
    def of(cls, inviter: User) -> type[InviteForm]:
        """Return the form as `inviter` sees it."""
        return type(cls.__name__, (cls,), {"inviter": inviter})

    def clean_by(self) -> str:
        return self.cleaned_data["by"] or BY_MAIL

    def clean_emails(self) -> list[str]:
        """Return each address once; every bad one is named."""
        given = addresses_in(self.cleaned_data["emails"])
        addresses = list({identity.canonical_email(email): email for email in given}.values())
        if len(addresses) > MOST_ADDRESSES:
            text = _("Please invite at most %(most)d addresses at a time; these are %(count)d.")
            about = {"most": MOST_ADDRESSES, "count": len(addresses)}
            raise ValidationError(text, code="too_many", params=about)
        refusals = invitations.address_refusals(addresses, acting_user=self.inviter)
        if refusals:
            raise ValidationError([_about(email, refusal) for email, refusal in refusals.items()])
        return addresses

    def clean_max_uses(self) -> int:
        return self.cleaned_data["max_uses"] or 1

    def clean(self) -> dict[str, Any]:
        cleaned = self.cleaned_data
        if cleaned.get("by") == BY_LINK and cleaned.get("emails"):
            text = _("A link is for whoever holds it. Take the addresses out, or invite them by mail.")
            self.add_error("emails", ValidationError(text, code="both_ways"))
        elif cleaned.get("by") == BY_MAIL and "emails" in cleaned and not cleaned["emails"]:
            text = _("Whom do you invite? Type an address, or choose to make a link.")
            self.add_error("emails", ValidationError(text, code="nobody"))
        elif cleaned.get("emails"):
            if cleaned.get("domain"):
                self.add_error("domain", ValidationError(_("Choose addresses or a domain, not both."), code="both"))
            if cleaned.get("max_uses", 1) > 1:
                text = _("An invitation to an address can be used once.")
                self.add_error("max_uses", ValidationError(text, code="address_once"))
        return cleaned

    def invite(self) -> list[Invitation]:
        """Do what the valid form says. Raises AccountError as `invitations.invite_addresses` does."""
        cleaned = self.cleaned_data
        terms = invitations.Terms(
            domain=cleaned["domain"],
            max_uses=cleaned["max_uses"],
            days=cleaned["days"] or settings.INVITATION_DAYS,
            roles=list(cleaned["roles"]),
            note=cleaned["note"],
        )
        if cleaned["emails"]:
            return invitations.invite_addresses(cleaned["emails"], terms, acting_user=self.inviter)
        return invitations.make_links(1, terms, acting_user=self.inviter)


def addresses_in(text: str) -> list[str]:
    """Return the entries of a pasted list: one a line or between commas, also as ``Ada <ada@example.com>``."""
    entries = [entry.strip() for entry in re.split(r"[\n,;]+", text) if entry.strip()]
    bracketed = [re.sub(r"^[^<>]*<([^<>]*)>$", r"\1", entry).strip() for entry in entries]
    # Several addresses on one line; any other line with blanks is shown whole, as what is wrong.
    return [word for entry in bracketed for word in (entry.split() if _all_addresses(entry) else [entry])]


def _all_addresses(entry: str) -> bool:
    return all("@" in word for word in entry.split())


def _about(email: str, refusal: ValidationError | AccountError) -> ValidationError:
    text = _("%(email)s: %(fault)s")
    return ValidationError(text, code="email_refused", params={"email": email, "fault": words_of(refusal)})
