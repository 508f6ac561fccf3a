"""Changing the own password while signed in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.core.exceptions import ValidationError
from django.test import Client

from accounts import breaches, life_cycle, services
from accounts.models import User
from tests.accounts.conftest import codes, jobs, run_jobs, sign_in, text_of
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db

CHANGE = "/accounts/password/change/"
PROFILE = "/accounts/profile/"
NEW = "Another-Password-8"


@pytest.fixture
def browser(owner: User) -> Client:
    signed_in = Client()
    sign_in(signed_in, "owner")
    return signed_in


def change(browser: Client, old: str = PASSWORD, new: str = NEW, again: str | None = None) -> Any:
    form = {"old_password": old, "new_password1": new, "new_password2": new if again is None else again}
    return browser.post(CHANGE, form)


def test_this_session_goes_on_and_all_others_end(browser: Client, owner: User) -> None:
    other = Client()
    sign_in(other, "owner")
    before = browser.session.session_key
    response = change(browser)
    assert (response.status_code, response["Location"]) == (303, PROFILE)
    assert "Your password is changed." in text_of(browser.get(PROFILE))
    assert browser.session.session_key != before
    assert other.get(PROFILE).status_code == 302
    assert sign_in(Client(), "owner", PASSWORD).status_code == 422
    assert sign_in(Client(), "owner", NEW).status_code == 302


def test_the_owner_is_told_by_mail(browser: Client, owner: User) -> None:
    change(browser)
    assert jobs() == [("send_mail_to_user", ["password_changed", str(owner.pk)])]
    (message,) = run_jobs()
    assert (message.to, message.subject) == (["owner@example.com"], "Your password was changed")
    assert NEW not in message.body


@pytest.mark.parametrize(
    ("old", "new", "again", "field", "expected"),
    [
        ("Wrong-Password-1", NEW, NEW, "old_password", ["password_incorrect"]),
        ("", NEW, NEW, "old_password", ["required"]),
        (PASSWORD, "Abcdefgh12345", "Abcdefgh12345", "new_password1", ["password_no_symbol"]),
        (PASSWORD, "owner@Example.com1", "owner@Example.com1", "new_password1", ["password_too_similar"]),
        (PASSWORD, NEW, "Another-Password-9", "new_password2", ["password_mismatch"]),
    ],
)
def test_a_refusal_changes_nothing(
    browser: Client, owner: User, old: str, new: str, again: str, field: str, expected: list[str]
) -> None:
    response = change(browser, old, new, again)
    assert response.status_code == 422
    assert codes(response.context["form"], field) == expected
    assert list(response.context["form"].errors) == [field]
    assert User.objects.get().check_password(PASSWORD)
    assert browser.get(PROFILE).status_code == 200
    assert jobs() == []


def test_a_repetition_that_differs_hides_nothing_else_that_is_wrong(browser: Client, owner: User) -> None:
    form = change(browser, PASSWORD, f" {NEW}", NEW).context["form"]
    assert codes(form, "new_password1") == ["password_white_space"]
    assert codes(form, "new_password2") == ["password_mismatch"]


def test_no_password_is_sent_back(browser: Client) -> None:
    page = text_of(change(browser, "Wrong-Secret-1", "weak-secret"))
    assert "Wrong-Secret-1" not in page
    assert "weak-secret" not in page


def test_a_stranger_is_asked_to_sign_in_first(stranger: Client, owner: User) -> None:
    for response in (stranger.get(CHANGE), change(stranger)):
        assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={CHANGE}")
    assert User.objects.get().check_password(PASSWORD)


def test_the_form_needs_a_token(owner: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(owner)
    assert change(browser).status_code == 403
    assert User.objects.get().check_password(PASSWORD)


def test_a_change_writes_nothing_but_the_password(owner: User) -> None:
    stale = User.objects.get()
    User.objects.update(full_name="Changed elsewhere")
    services.change_password(stale, NEW)
    assert User.objects.get().full_name == "Changed elsewhere"


def test_the_service_applies_the_policy_too(owner: User) -> None:
    with pytest.raises(ValidationError):
        services.change_password(owner, "weak")
    assert User.objects.get().check_password(PASSWORD)
    assert jobs() == []


def reset(user: User) -> None:
    services.reset_password(user, default_token_generator.make_token(user), "Third-Password-9")


@pytest.mark.parametrize(
    "happens",
    [
        pytest.param(reset, id="reset"),
        pytest.param(lambda user: life_cycle.erase(user, acting_user=None), id="erased"),
        pytest.param(lambda user: life_cycle.deactivate(user, acting_user=None), id="shut_out"),
    ],
)
def test_what_happens_after_the_old_password_was_checked_is_not_overwritten(
    browser: Client, owner: User, monkeypatch: pytest.MonkeyPatch, happens: Callable[[User], object]
) -> None:
    judge, after = breaches.require_unknown, []

    def slowly(password: str) -> None:
        judge(password)
        if password == NEW:
            happens(User.objects.get(pk=owner.pk))
            after.append(User.objects.get(pk=owner.pk).password)

    monkeypatch.setattr(breaches, "require_unknown", slowly)
    response = change(browser)
    assert (response.status_code, codes(response.context["form"], "__all__")) == (409, ["account_changed"])
    assert after == [User.objects.get(pk=owner.pk).password]
    assert browser.get(PROFILE).status_code == 302
