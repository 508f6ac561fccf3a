"""Signing in and out, through the page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import LoginAttempt, User
from tests.accounts.conftest import codes, sign_in, text_of
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

LOGIN = "/accounts/login/"
PROFILE = "/accounts/profile/"

# Who may not sign in -> what sets their row apart from a good one's
REFUSED: dict[str, dict[str, Any]] = {
    "inactive": {"is_active": False},
    "unverified": {"email_verified_at": None},
    "deleted": {"deleted_at": timezone.now()},
    "without-password": {"password": "!"},
}


def is_signed_in(browser: Client) -> bool:
    return browser.get(PROFILE).status_code == 200


def person(kind: str) -> User:
    user = UserFactory.create(username=kind)
    User.objects.filter(pk=user.pk).update(**REFUSED[kind])
    return user


@pytest.mark.parametrize(
    "name",
    ["owner", "OWNER", " owner ", "ｏｗｎｅｒ", "owner@example.com", "Owner@EXAMPLE.com", " owner@example.com "],
)
def test_by_username_or_address_in_any_spelling(stranger: Client, owner: User, name: str) -> None:
    response = sign_in(stranger, name)
    assert (response.status_code, response["Location"]) == (302, PROFILE)
    assert is_signed_in(stranger)


def test_by_an_address_of_an_international_domain(stranger: Client) -> None:
    UserFactory.create(email="jane@bücher.de")
    assert sign_in(stranger, "JANE@xn--bcher-kva.de").status_code == 302


def test_an_address_longer_than_a_username_may_be_is_let_in(stranger: Client) -> None:
    user = UserFactory.create(email="a" * 64 + "@" + "b" * 60 + ".example.com")
    assert sign_in(stranger, user.email).status_code == 302


def test_the_login_is_counted_and_timed_once(stranger: Client, owner: User) -> None:
    before = timezone.now()
    for count in (1, 2):
        sign_in(stranger, "owner")
        owner.refresh_from_db()
        assert owner.login_count == count
        assert owner.last_login is not None and before <= owner.last_login <= timezone.now()
        stranger.logout()


def test_a_login_writes_the_account_once(stranger: Client, owner: User) -> None:
    with CaptureQueriesContext(connection) as asked:
        sign_in(stranger, "owner")
    writes = [query["sql"] for query in asked if query["sql"].startswith('UPDATE "accounts_user"')]
    assert len(writes) == 1 and "login_count" in writes[0]


def test_the_session_key_changes_at_login(stranger: Client, owner: User) -> None:
    stranger.get("/accounts/verify/anything/")  # makes a session before anybody signs in
    before = stranger.session.session_key
    assert before is not None
    sign_in(stranger, "owner")
    assert stranger.session.session_key not in (None, before)
    assert not stranger.session.exists(before)


# --- refusals ---------------------------------------------------------------------------------------


def refused_page(browser: Client, name: str, password: str) -> tuple[int, str]:
    response = sign_in(browser, name, password)
    page = re.sub(r'csrfmiddlewaretoken" value="\w+"', "", text_of(response))
    return response.status_code, page.replace(name, "NAME")


@pytest.mark.parametrize("kind", REFUSED)
def test_the_right_password_of_who_may_not_sign_in_is_answered_like_a_wrong_one(owner: User, kind: str) -> None:
    user = person(kind)
    wrong = refused_page(Client(), "owner", "Wrong-Password-1")
    assert wrong[0] == 422
    assert "That did not match." in wrong[1]
    assert refused_page(Client(), user.username, PASSWORD) == wrong
    assert refused_page(Client(), user.email, PASSWORD) == wrong
    assert refused_page(Client(), "nobody-here", PASSWORD) == wrong
    assert refused_page(Client(), "nobody@example.com", PASSWORD) == wrong


@pytest.mark.parametrize("name", ["owner", "nobody", "nobody@example.com", *REFUSED])
def test_a_refusal_costs_one_hash_whatever_the_reason(
    stranger: Client, owner: User, hashed: list[str], name: str
) -> None:
    if name in REFUSED:
        person(name)
    hashed.clear()
    assert sign_in(stranger, name, "Wrong-Password-1").status_code == 422
    assert len(hashed) == 1


def test_a_session_ends_when_its_account_is_shut_out(owners_browser: Client, owner: User) -> None:
    assert is_signed_in(owners_browser)
    User.objects.filter(pk=owner.pk).update(is_active=False)
    assert not is_signed_in(owners_browser)


@pytest.mark.parametrize(
    ("name", "password", "field", "code"),
    [
        ("", PASSWORD, "username", "required"),
        ("   ", PASSWORD, "username", "required"),
        ("owner", "", "password", "required"),
        ("a" * 255, PASSWORD, "username", "max_length"),
        ("a" * 300, PASSWORD, "username", "max_length"),
        ("a" * 15_000, PASSWORD, "username", "max_length"),
        ("owner\0", PASSWORD, "username", "null_characters_not_allowed"),
        ("owner", PASSWORD + "\0", "password", "null_characters_not_allowed"),
        ("owner", "x" * 1025, "password", "max_length"),
    ],
)
def test_a_form_of_bad_shape_is_explained_hashes_nothing_and_counts_for_nobody(
    stranger: Client, owner: User, hashed: list[str], name: str, password: str, field: str, code: str
) -> None:
    hashed.clear()
    response = sign_in(stranger, name, password)
    assert response.status_code == 422
    assert codes(response.context["form"], field) == [code]
    assert hashed == []
    assert not LoginAttempt.objects.exists()


@pytest.mark.parametrize("name", ["a" * 254, "ü" * 254, "ﷺ" * 254, "%" * 254, "a@" + "ü" * 252, "@", "😀\u202e'\"<"])
def test_long_and_odd_names_are_wrong_and_nothing_else(stranger: Client, name: str) -> None:
    assert sign_in(stranger, name).status_code == 422
    assert len(LoginAttempt.objects.get().account) <= 200


def test_a_body_without_fields_is_explained(stranger: Client) -> None:
    assert stranger.post(LOGIN).status_code == 422
    assert stranger.post(LOGIN, b"\xff\xfe", content_type="application/octet-stream").status_code == 422


def test_the_password_is_never_sent_back_or_kept(stranger: Client, owner: User) -> None:
    assert "Wrong-Secret-1" not in text_of(sign_in(stranger, "owner", "Wrong-Secret-1"))
    kept = LoginAttempt.objects.values().get()
    assert "Wrong-Secret-1" not in str(kept)


def test_a_login_without_a_token_is_refused(owner: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    assert sign_in(browser, "owner").status_code == 403


# --- where to go next -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/accounts/password/change/", "/accounts/profile/?tab=1#top"])
def test_who_was_on_the_way_to_a_page_gets_there(stranger: Client, owner: User, path: str) -> None:
    response = stranger.post(LOGIN, {"username": "owner", "password": PASSWORD, "next": path})
    assert (response.status_code, response["Location"]) == (302, path)


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "///evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "\\/evil.example",
        "https://evil.example",
        "http:evil.example",
        "http:///evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "https://testserver@evil.example",
        "http://user@testserver/",
        "http://testserver/accounts/profile/",
        "/\t/evil.example",
        "/\n/evil.example",
        "\t//evil.example",
        " //evil.example",
        "\0//evil.example",
        "/\0/evil.example",
        "evil.example",
        LOGIN,
        "",
    ],
)
def test_nobody_is_sent_anywhere_but_to_a_page_of_this_site(owner: User, target: str) -> None:
    fields = {"username": "owner", "password": PASSWORD}
    for response in (
        Client().post(LOGIN, fields | {"next": target}),
        Client().post(f"{LOGIN}?next={quote(target)}", fields),
    ):
        # A NUL in the address is refused before anybody looks at it.
        assert response.status_code == 400 or (response.status_code, response["Location"]) == (302, PROFILE)


@pytest.mark.parametrize("target", ["", PROFILE, LOGIN, f"{LOGIN}?next={LOGIN}", "//evil.example"])
def test_who_is_signed_in_is_sent_on_without_a_loop(owners_browser: Client, target: str) -> None:
    response = owners_browser.get(f"{LOGIN}?next={quote(target)}", follow=True)
    assert response.status_code == 200
    assert response.request["PATH_INFO"] == PROFILE


# --- signing out ------------------------------------------------------------------------------------


def test_signing_out_is_a_post(owners_browser: Client) -> None:
    assert owners_browser.get("/accounts/logout/").status_code == 405
    assert is_signed_in(owners_browser)
    response = owners_browser.post("/accounts/logout/")
    assert (response.status_code, response["Location"]) == (302, LOGIN)
    assert not is_signed_in(owners_browser)


def test_signing_out_needs_a_token(owner: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(owner)
    assert browser.post("/accounts/logout/").status_code == 403
    assert is_signed_in(browser)


def test_a_login_takes_few_queries(
    stranger: Client, owner: User, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    with django_assert_max_num_queries(20):
        assert sign_in(stranger, "owner").status_code == 302


def test_signing_out_leads_to_our_own_paths_only(stranger: Client, owner: User) -> None:
    for path in ("/accounts/logout/", "/admin/logout/"):
        stranger.force_login(owner)
        response = stranger.post(f"{path}?next=http://testserver/somewhere")
        assert response.get("Location", "/").startswith("/")
