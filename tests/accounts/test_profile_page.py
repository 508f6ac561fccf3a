"""The page of one's own account."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from auditlog.models import Record
from tests.accounts.conftest import codes, text_of
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

PROFILE = "/accounts/profile/"
FORM = {"full_name": "Olivia New", "bio": "Opens doors.", "avatar_url": "https://example.com/me.png"}


def test_it_shows_who_is_signed_in(owners_browser: Client) -> None:
    response = owners_browser.get(PROFILE)
    page = text_of(response)
    for text in ("owner@example.com", "Olivia Owner", ">OO<"):
        assert text in page
    assert "no-store" in response["Cache-Control"]


def test_what_people_say_about_themselves_is_saved(owners_browser: Client, owner: User) -> None:
    response = owners_browser.post(PROFILE, FORM | {"full_name": "  Olivia New "})
    assert (response.status_code, response["Location"]) == (303, PROFILE)
    assert "Your profile is saved." in text_of(owners_browser.get(PROFILE))
    owner.refresh_from_db()
    assert (owner.full_name, owner.bio, owner.avatar_url) == tuple(FORM.values())
    (record,) = Record.objects.filter(object_id=str(owner.pk), action="update")
    assert (record.actor_kind, record.actor_id, record.object_label) == ("user", str(owner.pk), "owner")
    assert (record.before["full_name"], record.after["full_name"]) == ("Olivia Owner", "Olivia New")


def test_all_of_it_may_be_empty(owners_browser: Client, owner: User) -> None:
    assert owners_browser.post(PROFILE, {}).status_code == 303
    owner.refresh_from_db()
    assert (owner.full_name, owner.bio, owner.avatar_url) == ("", "", "")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("full_name", "x" * 151, ["max_length"]),
        ("full_name", "a\0b", ["null_characters_not_allowed"]),
        ("bio", "x" * 1001, ["max_length"]),
        ("avatar_url", "http://example.com/me.png", ["invalid"]),
        ("avatar_url", "javascript:alert(1)", ["invalid"]),
        ("avatar_url", "https://example.com/" + "x" * 500, ["max_length"]),
        ("avatar_url", "https://", ["invalid"]),
    ],
)
def test_bad_input_is_explained_kept_in_the_form_and_not_saved(
    owners_browser: Client, owner: User, field: str, value: str, expected: list[str]
) -> None:
    response = owners_browser.post(PROFILE, FORM | {field: value})
    assert response.status_code == 422
    assert codes(response.context["form"], field) == expected
    assert "Olivia Owner" in text_of(response)  # who it is, still as it was
    assert User.objects.get().full_name == "Olivia Owner"


def test_extra_fields_change_nothing(owners_browser: Client, owner: User) -> None:
    forbidden = {
        "username": "hacker",
        "email": "hacker@example.com",
        "is_staff": "on",
        "is_superuser": "on",
        "is_active": "",
        "password": "x",
        "login_count": "99",
        "id": "0",
    }
    before = User.objects.values(*forbidden).get()
    assert owners_browser.post(PROFILE, FORM | forbidden).status_code == 303
    assert User.objects.values(*forbidden).get() == before


def test_what_others_wrote_is_shown_as_text(owner: User) -> None:
    User.objects.update(full_name="<script>alert(1)</script>")
    browser = Client()
    browser.force_login(owner)
    page = text_of(browser.get(PROFILE))
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page


def test_saving_writes_only_these_fields(owners_browser: Client, owner: User, colleague: User) -> None:
    before = User.objects.values().get(pk=colleague.pk)
    owners_browser.post(PROFILE, FORM)
    assert User.objects.values().get(pk=colleague.pk) == before


def test_a_stranger_is_asked_to_sign_in_and_brought_back(stranger: Client, owner: User) -> None:
    for response in (stranger.get(PROFILE), stranger.post(PROFILE, FORM)):
        assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={PROFILE}")
    assert User.objects.get().full_name == "Olivia Owner"


def test_the_page_costs_the_same_however_many_people_there_are(
    owners_browser: Client, django_assert_num_queries: Callable[..., Any]
) -> None:
    with django_assert_num_queries(3):  # session, who is signed in, the form's own copy
        owners_browser.get(PROFILE)
    UserFactory.create_batch(5)
    with django_assert_num_queries(3):
        owners_browser.get(PROFILE)
