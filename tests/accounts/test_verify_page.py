"""Confirming an address by the link in a mail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.core import signing
from django.test import Client
from django.utils import timezone

from accounts import links, services
from accounts.errors import AccountError
from accounts.models import User
from tests.accounts.conftest import jobs, link_in, run_jobs, sign_in, text_of
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

VERIFY = "/accounts/verify/"
AGAIN = "/accounts/verify/again/"
LOGIN = "/accounts/login/"


@pytest.fixture
def newcomer(db: None) -> User:
    """Signed up, but has not opened the mail yet."""
    return UserFactory.create(username="newcomer", email="Newcomer@example.com", email_verified_at=None)


def is_verified(user: User) -> bool:
    user.refresh_from_db()
    return user.email_verified_at is not None


def open_link(browser: Client, token: str) -> Any:
    return browser.get(f"{VERIFY}{token}/", follow=True)


def confirm(browser: Client, token: str) -> Any:
    open_link(browser, token)
    return browser.post(VERIFY)


def test_from_signing_up_to_signing_in(stranger: Client) -> None:
    stranger.get("/accounts/signup/")
    form = {"username": "newcomer", "email": "newcomer@example.com", "password": PASSWORD}
    assert stranger.post("/accounts/signup/", form).status_code == 303
    (message,) = run_jobs()
    opened = stranger.get(link_in(message))
    assert (opened.status_code, opened["Location"]) == (302, VERIFY)  # the token has left the address
    page = stranger.get(VERIFY)
    assert (page.status_code, "newcomer@example.com" in text_of(page)) == (200, True)
    assert not is_verified(User.objects.get())
    assert sign_in(stranger, "newcomer").status_code == 422
    confirmed = stranger.post(VERIFY)
    assert (confirmed.status_code, confirmed["Location"]) == (303, LOGIN)
    assert "_verify_email_token" not in stranger.session
    assert "your address is confirmed" in text_of(stranger.get(LOGIN))
    assert is_verified(User.objects.get())
    assert sign_in(stranger, "newcomer").status_code == 302


@pytest.mark.parametrize("method", ["get", "head"])
def test_opening_the_link_confirms_nothing_so_scanners_do_no_harm(newcomer: User, method: str) -> None:
    path = f"{VERIFY}{links.verification_token(newcomer)}/"
    for _time in range(3):
        scanner = Client()
        assert getattr(scanner, method)(path).status_code == 302
        assert getattr(scanner, method)(VERIFY).status_code == 200
    assert not is_verified(newcomer)
    assert confirm(Client(), links.verification_token(newcomer)).status_code == 303


@pytest.mark.parametrize("path", [f"{VERIFY}token/", VERIFY])
def test_pages_that_carry_the_token_are_not_stored(stranger: Client, path: str) -> None:
    response = stranger.get(path)
    assert "no-store" in response["Cache-Control"]
    assert response["Referrer-Policy"] in ("same-origin", "no-referrer")


def test_a_link_confirms_once(newcomer: User) -> None:
    first, second = Client(), Client()
    token = links.verification_token(newcomer)
    open_link(second, token)
    assert confirm(first, token).status_code == 303
    newcomer.refresh_from_db()
    verified_at = newcomer.email_verified_at
    third = Client()
    for browser, again in ((second, second.post(VERIFY, follow=True)), (third, open_link(third, token))):
        assert again.redirect_chain[-1] == (LOGIN, 303)
        assert "Your address is confirmed already. You can sign in." in text_of(again)
        assert browser.get(VERIFY).status_code == 404, "the token is spent in this browser too"
    assert first.post(VERIFY).status_code == 404
    newcomer.refresh_from_db()
    assert newcomer.email_verified_at == verified_at


def assert_is_dead(token: str) -> None:
    browser = Client()
    for response in (open_link(browser, token), browser.post(VERIFY)):
        assert response.status_code == 404
        assert "This link no longer works" in text_of(response)


def test_a_link_ends_after_its_hours(newcomer: User, settings: Any) -> None:
    token = links.verification_token(newcomer)
    later = timezone.now() + timedelta(hours=settings.EMAIL_VERIFICATION_HOURS)
    with mock.patch("django.core.signing.time.time", return_value=later.timestamp() - 60):
        assert links.read_verification_token(token) == (str(newcomer.pk), "newcomer@example.com")
    with mock.patch("django.core.signing.time.time", return_value=later.timestamp() + 60):
        assert_is_dead(token)
    assert not is_verified(newcomer)


@pytest.mark.parametrize(
    "token", ["x", "a:b:c", "%C3%BC:%E2%82%AC:x", "." * 500, "'\"<script>", "WyJhIiwgImIiXQ:1abcde:" + "A" * 43]
)
def test_a_forged_link_is_refused(newcomer: User, token: str) -> None:
    assert_is_dead(token)
    assert not is_verified(newcomer)


def test_a_token_signed_for_another_purpose_is_refused(newcomer: User) -> None:
    assert_is_dead(signing.dumps([str(newcomer.pk), newcomer.email_canonical], salt="another"))
    assert not is_verified(newcomer)


def test_a_token_with_one_letter_changed_is_refused(newcomer: User) -> None:
    token = links.verification_token(newcomer)
    assert_is_dead(token[:-1] + ("A" if token[-1] != "A" else "B"))
    assert not is_verified(newcomer)


def test_a_link_to_an_address_that_was_changed_is_refused(newcomer: User) -> None:
    browser = Client()
    open_link(browser, links.verification_token(newcomer))
    newcomer.email = "other@example.com"
    newcomer.save()
    assert browser.post(VERIFY).status_code == 404
    assert not is_verified(newcomer)


def test_a_link_of_a_deleted_account_is_refused(newcomer: User) -> None:
    token = links.verification_token(newcomer)
    User.objects.filter(pk=newcomer.pk).update(deleted_at=timezone.now())
    assert confirm(Client(), token).status_code == 404
    newcomer.delete()
    assert confirm(Client(), token).status_code == 404


def test_without_a_link_there_is_nothing_to_confirm(stranger: Client) -> None:
    assert stranger.get(VERIFY).status_code == 404
    assert stranger.post(VERIFY).status_code == 404


def test_confirming_needs_a_form_token(newcomer: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    open_link(browser, links.verification_token(newcomer))
    assert browser.post(VERIFY).status_code == 403
    assert not is_verified(newcomer)


def test_the_service_says_why(newcomer: User) -> None:
    with pytest.raises(AccountError) as refused:
        services.verify_email("forged")
    assert refused.value.code == "link_invalid"


# --- another mail -----------------------------------------------------------------------------------


def ask_again(browser: Client, email: str, **more: Any) -> tuple[int, str, bytes, bool]:
    response = browser.post(AGAIN, {"email": email}, **more)
    said = "a new mail is on its way" in text_of(browser.get(response["Location"]))
    return response.status_code, response["Location"], response.content, said


def test_only_who_still_waits_gets_another_mail_but_all_get_the_same_answer(newcomer: User, owner: User) -> None:
    User.objects.filter(pk=UserFactory.create(username="shut-out", email_verified_at=None).pk).update(is_active=False)
    asked = ["NEWCOMER@example.com", "nobody@example.com", "owner@example.com", "shut-out@example.com"]
    assert [ask_again(Client(), email) for email in asked] == [(303, LOGIN, b"", True)] * 4
    assert jobs() == [("send_mail_to_address", ["verify_email", email]) for email in asked]
    (message,) = run_jobs()
    assert message.to == ["Newcomer@example.com"]
    assert confirm(Client(), link_in(message).split("/")[-2]).status_code == 303


@pytest.mark.parametrize("email", ["", "nonsense", "a@b@c", "\0@example.com", "a" * 300 + "@example.com"])
def test_an_odd_address_is_explained(stranger: Client, email: str) -> None:
    response = stranger.post(AGAIN, {"email": email})
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["email"])
    assert jobs() == []


def test_the_link_is_built_on_the_configured_address_whatever_the_host(newcomer: User, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.BASE_URL = "https://accounts.example.org"
    ask_again(Client(), newcomer.email, headers={"Host": "evil.example"})
    (message,) = run_jobs()
    assert "https://accounts.example.org/accounts/verify/" in message.body
    assert "evil.example" not in str(message.message())
