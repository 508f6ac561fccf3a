"""Browsers and password managers are told what each field is for, and nothing keeps anybody from pasting."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from django import forms
from django.conf import settings

from accounts.admin import UserForm
from accounts.models import User
from tests.factories import UserFactory

APPS = ("accounts", "auditlog", "healthcheck", "config")
# The tokens of the HTML standard ("Autofill", section 4.10.18.7) by the names of our fields; "" is a field without one.
TOKENS = {
    "username": {"username", "off"},  # off: the name of somebody else
    "email": {"email"},
    "full_name": {"name"},
    "avatar_url": {"photo"},
    "password": {"current-password", "new-password"},
    "old_password": {"current-password"},
    "new_password1": {"new-password"},
    "new_password2": {"new-password"},
    "code": {"one-time-code"},
    "emails": {"off"},
    "name": {"off"},  # of a device
}
OWN = {  # the form, and what its passwords are
    "SignUpForm": "new-password",
    "LoginForm": "current-password",
    "StaffLoginForm": "current-password",
    "ConfirmForm": "current-password",
    "ChangeAddressForm": "current-password",
}


def forms_of_ours(kind: type[forms.BaseForm] = forms.BaseForm) -> Iterator[type[forms.BaseForm]]:
    for each in kind.__subclasses__():
        if each.__module__.partition(".")[0] in APPS and each.__module__ != "config.style_guide":
            yield each
        yield from forms_of_ours(each)


def is_typed(field: forms.Field) -> bool:
    typed = (forms.TextInput, forms.EmailInput, forms.URLInput, forms.PasswordInput, forms.Textarea)
    return isinstance(field.widget, typed) and not isinstance(field.widget, forms.DateTimeInput | forms.NumberInput)


def test_every_field_says_what_it_is_for() -> None:
    for module in ("accounts.second_factor.forms", "accounts.import_admin", "accounts.role_admin", "auditlog.filters"):
        import_module(module)
    known, faults = set(), []
    for form in set(forms_of_ours()) - {UserForm}:
        for name, field in getattr(form, "base_fields", {}).items():
            if not is_typed(field):
                continue
            known.add(name)
            token = field.widget.attrs.get("autocomplete", "")
            wanted = {OWN[form.__name__]} if name == "password" else TOKENS.get(name, {"", "off"})
            if form.__module__.startswith("auditlog"):
                wanted = {""}  # what is looked for is nobody's own
            if token not in wanted:
                faults.append(f"{form.__name__}.{name}: {token!r} is not in {wanted}")
    assert not faults, faults
    assert known >= TOKENS.keys()


@pytest.mark.django_db
def test_the_consoles_form_of_another_person_is_not_filled_with_ones_own() -> None:
    form = UserForm(instance=UserFactory.create())
    assert {form.fields[name].widget.attrs["autocomplete"] for name in ("username", "email", "full_name")} == {"off"}
    assert User.objects.count() == 1


def test_nothing_stands_in_the_way_of_pasting() -> None:
    base = Path(settings.BASE_DIR)
    files = [*base.glob("config/static/**/*.js"), *base.glob("templates/**/*.html")]
    handler, event = r"\bon(paste|copy|cut|drop|beforeinput)\b", r"[\"'](paste|cut|drop|beforeinput|contextmenu)[\"']"
    forbidden = re.compile(f"{handler}|{event}")
    assert len(files) > 50
    assert [path.name for path in files if forbidden.search(path.read_text())] == []


def test_fields_that_templates_write_have_their_tokens() -> None:
    pages = Path(settings.BASE_DIR, "templates").rglob("*.html")
    field = re.compile(r'<input[^>]*type="(?:text|password|email)"[^>]*>')
    written = [tag for page in pages for tag in field.findall(page.read_text())]
    assert len(written) > 5
    shown = [tag for tag in written if "readonly" not in tag]
    assert all(re.search(r'autocomplete="(username|new-password)"', tag) for tag in shown), shown
