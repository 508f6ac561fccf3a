"""Choosing a new password by the link in a mail."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from unittest import mock

import pytest
from django.contrib.auth.tokens import default_token_generator
from django.test import Client
from django.utils import timezone

from accounts import links, services
from accounts.errors import AccountError
from accounts.models import User
from tests.accounts.conftest import codes, jobs, link_in, run_jobs, sign_in, text_of
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

RESET = "/accounts/password/reset/"
SENT = "/accounts/password/reset/sent/"
LOGIN = "/accounts/login/"
PROFILE = "/accounts/profile/"
NEW = "Another-Password-8"


def path_of(user: User) -> str:
    return links.set_password_url(user).removeprefix("http://localhost:8000")


def token_of(user: User) -> str:
    return path_of(user).split("/")[-2]


def choose(browser: Client, path: str, password: str = NEW, again: str | None = None) -> Any:
    """Open the link of a mail and send the form behind it."""
    opened = browser.get(path)
    form = {"new_password1": password, "new_password2": password if again is None else again}
    return browser.post(opened["Location"] if opened.status_code == 302 else path, form)


def has_password(user: User, password: str) -> bool:
    return User.objects.get(pk=user.pk).check_password(password)


def test_from_asking_to_signing_in(stranger: Client, owner: User) -> None:
    asked = stranger.post(RESET, {"email": "OWNER@example.com"})
    assert (asked.status_code, asked["Location"]) == (303, SENT)
    assert "a mail is on its way" in text_of(stranger.get(SENT))
    (message,) = run_jobs()
    assert (message.to, message.subject) == (["owner@example.com"], "Choose a new password")
    opened = stranger.get(link_in(message))
    assert opened.status_code == 302
    assert opened["Location"].endswith("/set-password/")  # the token has left the address
    page = stranger.get(opened["Location"])
    assert (page.status_code, "Use at least 12 characters." in text_of(page)) == (200, True)
    chosen = stranger.post(opened["Location"], {"new_password1": NEW, "new_password2": NEW})
    assert (chosen.status_code, chosen["Location"]) == (303, LOGIN)
    assert "_password_reset_token" not in stranger.session
    assert "Your new password is set." in text_of(stranger.get(LOGIN))
    assert [message.subject for message in run_jobs()] == ["Your password was changed"]
    assert sign_in(Client(), "owner", PASSWORD).status_code == 422
    assert sign_in(Client(), "owner", NEW).status_code == 302


def test_unknown_and_known_addresses_get_the_same_answer(owner: User) -> None:
    UserFactory.create(username="shut-out", is_active=False)
    UserFactory.create(username="deleted", deleted_at=timezone.now())
    asked = ["owner@example.com", "nobody@example.com", "shut-out@example.com", "deleted@example.com"]
    answers = [Client().post(RESET, {"email": email}) for email in asked]
    assert {(each.status_code, each["Location"], each.content, str(each.cookies)) for each in answers} == {
        (303, SENT, b"", "")
    }
    assert jobs() == [("send_mail_to_address", ["password_reset", email]) for email in asked]
    assert [message.to for message in run_jobs()] == [["owner@example.com"]]


@pytest.mark.parametrize("email", ["", "owner", "a@b@c", "owner\0@example.com", "a" * 300 + "@example.com"])
def test_an_odd_address_is_explained(stranger: Client, owner: User, email: str) -> None:
    response = stranger.post(RESET, {"email": email})
    assert (response.status_code, list(response.context["form"].errors)) == (422, ["email"])
    assert jobs() == []


def test_who_has_no_password_yet_chooses_one_the_same_way(stranger: Client) -> None:
    user = User.objects.create_user("invited", "invited@example.com")
    assert choose(stranger, path_of(user)).status_code == 303
    assert sign_in(stranger, "invited", NEW).status_code == 302


def test_the_link_also_proves_the_address(stranger: Client) -> None:
    user = UserFactory.create(email_verified_at=None)
    assert sign_in(stranger, user.username).status_code == 422
    assert choose(stranger, path_of(user)).status_code == 303
    assert sign_in(stranger, user.username, NEW).status_code == 302


def test_an_address_that_was_proven_keeps_its_date(stranger: Client, owner: User) -> None:
    before = owner.email_verified_at
    choose(stranger, path_of(owner))
    owner.refresh_from_db()
    assert owner.email_verified_at == before


@pytest.mark.parametrize("method", ["get", "head", "options"])
def test_opening_the_link_changes_nothing_so_scanners_do_no_harm(owner: User, method: str) -> None:
    path = path_of(owner)
    for _time in range(3):
        scanner = Client()
        response = getattr(scanner, method)(path)
        if response.status_code == 302:
            getattr(scanner, method)(response["Location"])
    assert has_password(owner, PASSWORD)
    assert choose(Client(), path).status_code == 303


# --- one use ----------------------------------------------------------------------------------------


def assert_is_dead(path: str, browser: Client | None = None) -> None:
    browser = browser or Client()
    for response in (browser.get(path), browser.post(path, {"new_password1": NEW, "new_password2": NEW})):
        assert response.status_code == 404
        assert "This link no longer works" in text_of(response)


def test_a_link_works_once(owner: User) -> None:
    path = path_of(owner)
    assert choose(Client(), path).status_code == 303
    assert_is_dead(path)
    assert has_password(owner, NEW)


def test_of_two_that_have_opened_the_same_link_one_succeeds(owner: User) -> None:
    path, first, second = path_of(owner), Client(), Client()
    form = first.get(path)["Location"]
    assert second.get(path)["Location"] == form
    assert first.post(form, {"new_password1": NEW, "new_password2": NEW}).status_code == 303
    late = second.post(form, {"new_password1": "Third-Password-9", "new_password2": "Third-Password-9"})
    assert late.status_code == 404
    assert has_password(owner, NEW)


def test_the_service_looks_again_under_the_lock(owner: User) -> None:
    token = token_of(owner)
    first, second = User.objects.get(pk=owner.pk), User.objects.get(pk=owner.pk)
    services.reset_password(first, token, NEW)
    with pytest.raises(AccountError) as refused:
        services.reset_password(second, token, "Third-Password-9")
    assert refused.value.code == "link_invalid"
    assert has_password(owner, NEW)
    assert jobs() == [("send_mail_to_user", ["password_changed", str(owner.pk)])]


def test_the_page_explains_when_the_link_dies_between_its_check_and_the_write(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    reset_password = services.reset_password

    def after_another(user: User, token: str, password: str) -> None:
        reset_password(User.objects.get(pk=user.pk), token, "Third-Password-9")
        reset_password(user, token, password)

    monkeypatch.setattr(services, "reset_password", after_another)
    late = choose(Client(), path_of(owner))
    assert late.status_code == 404
    assert "This link no longer works" in text_of(late)
    assert has_password(owner, "Third-Password-9")


def move(user: User) -> None:
    user.email = "other@example.com"
    user.save()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda user: services.change_password(user, "Third-Password-9"), id="password"),
        pytest.param(move, id="address"),
        pytest.param(lambda user: sign_in(Client(), user.username), id="login"),
        pytest.param(lambda user: user.delete(), id="erased"),
    ],
)
def test_a_link_dies_when_what_it_was_made_for_changes(owner: User, change: Any) -> None:
    path = path_of(owner)
    browser = Client()
    form = browser.get(path)["Location"]
    change(owner)
    assert_is_dead(path)
    assert_is_dead(form, browser)


def test_a_link_ends_after_its_hours(owner: User, settings: Any) -> None:
    path = path_of(owner)
    later = timezone.make_naive(timezone.now()) + timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT + 60)
    with mock.patch("django.contrib.auth.tokens.PasswordResetTokenGenerator._now", return_value=later):
        assert_is_dead(path)


def test_a_link_of_one_account_does_not_open_another(owner: User, colleague: User) -> None:
    stolen = path_of(colleague).rsplit("/", 2)[0] + f"/{token_of(owner)}/"
    assert_is_dead(stolen)
    assert has_password(colleague, PASSWORD)


@pytest.mark.parametrize(
    "path",
    [
        f"{RESET}x/y/",
        f"{RESET}MQ/abc-def/",
        f"{RESET}%C3%BC/abc-def/",
        f"{RESET}AAAA/set-password/",
        f"{RESET}{'A' * 1000}/abc-def/",
        f"{RESET}bm9uc2Vuc2U/abc-def/",
    ],
)
def test_a_forged_link_is_refused(owner: User, path: str) -> None:
    assert_is_dead(path)


# --- the policy, and what ends ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "again", "expected"),
    [
        ("weak", "weak", ["password_too_short", "password_no_uppercase", "password_no_digit", "password_no_symbol"]),
        ("Olivia-Owner-1", "Olivia-Owner-1", ["password_too_similar"]),
        (NEW, "Another-Password-9", ["password_mismatch"]),
        ("Aa1-" + "ü" * 511, "Aa1-" + "ü" * 511, ["password_too_long"]),
    ],
)
def test_the_policy_holds_and_the_link_stays_usable(
    stranger: Client, owner: User, password: str, again: str, expected: list[str]
) -> None:
    response = choose(stranger, path_of(owner), password, again)
    assert response.status_code == 422
    place = "new_password2" if expected == ["password_mismatch"] else "new_password1"
    assert codes(response.context["form"], place) == expected
    assert password not in text_of(response)
    assert has_password(owner, PASSWORD)
    assert choose(stranger, path_of(owner)).status_code == 303


def test_a_reset_ends_all_sessions(owner: User) -> None:
    devices = [Client(), Client()]
    for device in devices:
        sign_in(device, "owner")
        assert device.get(PROFILE).status_code == 200
    owner.refresh_from_db()
    assert choose(devices[0], path_of(owner)).status_code == 303
    assert [device.get(PROFILE).status_code for device in devices] == [302, 302]


def test_the_link_is_built_on_the_configured_address_whatever_the_host(owner: User, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    settings.BASE_URL = "https://accounts.example.org"
    Client().post(RESET, {"email": owner.email}, headers={"Host": "accounts.example.org:1"})
    (message,) = run_jobs()
    assert "https://accounts.example.org/accounts/password/reset/" in message.body
    assert "example.org:1" not in str(message.message())


def test_a_reset_lifts_the_lock_that_others_brought_on(owner: User) -> None:
    browser = Client()
    for _ in range(6):
        locked = sign_in(browser, owner.email, "wrong")
    assert locked.status_code == 429
    token = default_token_generator.make_token(owner)
    services.reset_password(owner, token, "Another-Horse-8-Battery")
    assert sign_in(browser, owner.email, "Another-Horse-8-Battery").status_code == 302
