"""Deleting one's own account, and thinking better of it by the mailed link."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core import signing
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from accounts import life_cycle, links
from accounts.models import LoginAttempt, User, UserState
from auditlog.models import Record
from tests.accounts.conftest import but_new_devices, codes, failures, jobs, run_jobs, sign_in, text_of
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db

DELETE = "/accounts/delete/"
CANCEL = "/accounts/delete/cancel/"


def state_of(user: User) -> UserState:
    return User.objects.get(pk=user.pk).state


def link_of(message: Any) -> str:
    return str(message.body[message.body.index(CANCEL) :].split()[0])


@pytest.fixture
def link(owner: User, owners_browser: Client) -> str:
    """What the mail leads to, after the owner has deleted the account."""
    assert owners_browser.post(DELETE, {"password": PASSWORD}).status_code == 303
    (message,) = but_new_devices(run_jobs())
    return link_of(message)


def test_it_says_what_happens_and_asks_for_the_password(owners_browser: Client, settings: Any) -> None:
    page = text_of(owners_browser.get(DELETE))
    date = timezone.now() + timedelta(days=14)
    assert f"In 14 days, on {date.day} {date:%B %Y}, everything about you is erased." in strip_tags(page)
    assert 'autocomplete="current-password"' in page
    assert f'href="{DELETE}"' in text_of(owners_browser.get("/accounts/profile/"))
    settings.ACCOUNT_DELETION_GRACE_DAYS = 0
    assert "within minutes everything about you is erased" in text_of(owners_browser.get(DELETE))


def test_a_stranger_is_asked_to_sign_in(stranger: Client) -> None:
    for response in (stranger.get(DELETE), stranger.post(DELETE, {"password": PASSWORD})):
        assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={DELETE}")


def test_deleting_signs_out_everywhere_and_mails_the_date(owner: User, owners_browser: Client) -> None:
    elsewhere = Client()
    sign_in(elsewhere, "owner")
    response = owners_browser.post(DELETE, {"password": PASSWORD}, follow=True)
    planned = User.objects.get(pk=owner.pk).erase_at
    assert planned is not None and timedelta(days=13) < planned - timezone.now() <= timedelta(days=14)
    said = f"{planned.day} {planned:%B %Y, %H:%M} UTC"
    assert f"Your account will be erased on {said}" in text_of(response)
    for browser in (owners_browser, elsewhere):
        assert browser.get("/accounts/profile/").status_code == 302
    (message,) = but_new_devices(run_jobs())
    assert message.to == ["owner@example.com"]
    assert said in message.body
    assert Record.objects.filter(object_id=owner.pk, action="update").latest("id").reason == "own account deleted"


def test_until_then_no_door_opens(owner: User, link: str, stranger: Client) -> None:
    refused = sign_in(stranger, "owner")
    assert refused.context["form"].non_field_errors() == sign_in(Client(), "nobody").context["form"].non_field_errors()
    stranger.post("/accounts/password/reset/", {"email": "owner@example.com"})
    (message,) = but_new_devices(run_jobs())  # who has lost the mail gets it again
    assert (message.subject, link_of(message)) == ("Your account will be erased", link)


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"password": "Wrong-Password-1"}, "password_incorrect"),
        ({}, "required"),
        ({"password": "\0"}, "null_characters_not_allowed"),
    ],
)
def test_without_the_password_nothing_happens(owner: User, owners_browser: Client, form: Any, code: str) -> None:
    response = owners_browser.post(DELETE, form)
    assert response.status_code == 422
    assert codes(response.context["form"], "password") == [code]
    assert state_of(owner) == UserState.ACTIVE
    assert jobs() == []


def test_wrong_passwords_here_count_as_failed_logins(owner: User, owners_browser: Client) -> None:
    answers = [owners_browser.post(DELETE, {"password": "Wrong-Password-1"}).status_code for _ in range(3)]
    assert answers == [422] * 3
    assert failures(Client(), 3) == [422, 422, 429]
    assert owners_browser.post(DELETE, {"password": PASSWORD}).status_code == 429
    assert state_of(owner) == UserState.ACTIVE
    assert LoginAttempt.objects.filter(account=str(owner.pk)).count() == 5


def test_the_last_superuser_is_told_why_not(admins_browser: Client, administrator: User) -> None:
    response = admins_browser.post(DELETE, {"password": PASSWORD})
    assert response.status_code == 409
    assert codes(response.context["form"], "__all__") == ["last_superuser"]
    assert state_of(administrator) == UserState.ACTIVE


# --- the link ---------------------------------------------------------------------------------------


def test_the_link_asks_and_a_click_keeps_the_account(owner: User, link: str, stranger: Client) -> None:
    response = stranger.get(link)
    assert (response.status_code, response["Location"]) == (302, CANCEL)
    page = stranger.get(CANCEL)
    assert "One click, and it stays as it was." in text_of(page)
    assert "no-store" in page["Cache-Control"]
    assert state_of(owner) == UserState.SCHEDULED
    response = stranger.post(CANCEL)
    assert (response.status_code, response["Location"]) == (303, "/accounts/login/")
    assert state_of(owner) == UserState.ACTIVE
    assert sign_in(stranger, "owner").status_code == 302
    assert [message.subject for message in but_new_devices(run_jobs())] == ["Your account stays"]


def test_it_works_once_and_for_the_time_it_was_made_for(owner: User, link: str, stranger: Client) -> None:
    stranger.get(link)
    assert stranger.post(CANCEL).status_code == 303
    for browser in (stranger, Client()):
        assert browser.get(link, follow=True).status_code == 404
        assert browser.post(CANCEL).status_code == 404
    life_cycle.delete_own_account(owner)
    assert stranger.get(link, follow=True).status_code == 404
    assert stranger.post(CANCEL).status_code == 404
    assert state_of(owner) == UserState.SCHEDULED


def test_it_lets_in_nobody_who_was_shut_out_and_nobody_who_is_erased(
    owner: User, administrator: User, link: str, stranger: Client
) -> None:
    stranger.get(link)
    life_cycle.deactivate(owner, acting_user=administrator)
    assert stranger.post(CANCEL).status_code == 404
    life_cycle.restore(owner, acting_user=administrator)
    life_cycle.erase(owner, acting_user=administrator)
    assert stranger.post(CANCEL).status_code == 404
    assert state_of(owner) == UserState.ERASED


def test_a_forged_link_opens_nothing(owner: User, link: str, stranger: Client) -> None:
    signer = signing.Signer(salt="accounts.cancel-erasure")
    forged = [
        f"{CANCEL}nonsense/",
        f"{link[:-2]}x/",
        f"{CANCEL}{links.verification_token(owner)}/",
        f"{CANCEL}{signer.sign_object([str(owner.pk), 'tomorrow'])}/",
        f"{CANCEL}{signer.sign_object('x')}/",
    ]
    for path in forged:
        assert stranger.get(path).status_code == 404
    assert stranger.post(CANCEL).status_code == 404
    assert state_of(owner) == UserState.SCHEDULED
