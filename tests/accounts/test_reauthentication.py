"""Sensitive steps ask for the password again: when, by which page, and back to where."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.hashers import identify_hasher
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import include, path
from django.utils.decorators import method_decorator
from django.views import View

from accounts import reauthentication
from accounts.models import LoginAttempt, Session, User
from tests.accounts.conftest import codes, failures, text_of
from tests.accounts.phones import give_phone
from tests.factories import PASSWORD

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

CONFIRM = "/accounts/confirm/"
done: list[str] = []


@reauthentication.required
def pay(request: HttpRequest) -> HttpResponse:
    done.append(f"{request.method} {request.get_full_path()}")
    return HttpResponse("paid")


@reauthentication.required(back="profile")
def remove(request: HttpRequest) -> HttpResponse:
    done.append("removed")
    return HttpResponse("removed")


@method_decorator(reauthentication.required, name="dispatch")
class Move(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        done.append("moved")
        return HttpResponse("moved")


urlpatterns = [
    path("pay/", pay),
    path("remove/", remove),
    path("move/", Move.as_view()),
    path("", include("config.urls")),
]


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


def let_pass(**duration: float) -> None:
    """Let every session be older by this much, in use all the time."""
    Session.objects.update(first_seen_at=F("first_seen_at") - timedelta(**duration))


def asked(answer: Any) -> str:
    """Where the page that asks would go back to; the answer must be a redirect to it."""
    assert answer.status_code == 303
    assert answer["Location"].startswith(CONFIRM)
    return str(answer["Location"].removeprefix(CONFIRM))


def confirm(browser: Client, password: str = PASSWORD, place: str = "") -> Any:
    return browser.post(CONFIRM, {"password": password, "next": place})


def test_a_fresh_login_is_enough_and_a_stranger_is_sent_to_it(owners_browser: Client, stranger: Client) -> None:
    let_pass(minutes=14)
    assert owners_browser.get("/pay/?to=me").content == b"paid"
    assert done == ["GET /pay/?to=me"]
    assert stranger.get("/pay/?to=me")["Location"] == "/accounts/login/?next=/pay/%3Fto%3Dme"


def test_later_the_password_is_asked_for_and_then_the_way_goes_back(owners_browser: Client) -> None:
    let_pass(minutes=16)
    assert asked(owners_browser.get("/pay/?to=me")) == "?next=%2Fpay%2F%3Fto%3Dme"
    page = text_of(owners_browser.get(f"{CONFIRM}?next=%2Fpay%2F%3Fto%3Dme"))
    assert 'name="next" value="/pay/?to=me"' in page
    before = owners_browser.session.session_key
    answer = confirm(owners_browser, place="/pay/?to=me")
    assert (answer.status_code, answer["Location"]) == (303, "/pay/?to=me")
    assert owners_browser.session.session_key != before
    assert owners_browser.get("/pay/?to=me").content == b"paid"
    assert Session.objects.count() == 1


def test_what_was_posted_too_late_is_not_done(owners_browser: Client) -> None:
    let_pass(minutes=16)
    assert asked(owners_browser.post("/pay/?to=me", {"sum": "1"})) == "?next=%2Fpay%2F%3Fto%3Dme"
    assert asked(owners_browser.post("/remove/")) == "?next=%2Faccounts%2Fprofile%2F"
    assert asked(owners_browser.post("/move/")) == "?next=%2Fmove%2F"
    assert done == []
    confirm(owners_browser)
    assert [owners_browser.post(path).status_code for path in ("/pay/", "/remove/", "/move/")] == [200] * 3
    assert done == ["POST /pay/", "removed", "moved"]


def test_a_confirmation_is_of_this_session_and_does_not_last(owners_browser: Client, owner: User) -> None:
    other = Client()
    other.force_login(owner)
    let_pass(minutes=16)
    confirm(owners_browser)
    assert owners_browser.get("/pay/").status_code == 200
    asked(other.get("/pay/"))
    session = owners_browser.session
    session[reauthentication._CONFIRMED_AT] -= 16 * 60
    session.save()
    asked(owners_browser.get("/pay/"))


def test_the_time_is_a_setting(owners_browser: Client, settings: Any) -> None:
    settings.REAUTHENTICATION_MINUTES = 60
    let_pass(minutes=16)
    assert owners_browser.get("/pay/").status_code == 200


@pytest.mark.parametrize("password", ["Wrong-Password-1", "", "x" * 1025, "a\0b"])
def test_a_wrong_password_opens_nothing(owners_browser: Client, password: str) -> None:
    let_pass(minutes=16)
    answer = confirm(owners_browser, password, "/pay/")
    assert answer.status_code == 422
    assert 'name="next" value="/pay/"' in text_of(answer)
    assert len(codes(answer.context["form"], "password")) == 1
    assert password == "" or password not in text_of(answer)
    asked(owners_browser.get("/pay/"))


def test_guesses_count_as_at_the_login(owners_browser: Client, owner: User, hashed: list[str]) -> None:
    for _guess in range(5):
        assert confirm(owners_browser, "Wrong-Password-1").status_code == 422
    hashed.clear()
    answer = confirm(owners_browser)
    assert answer.status_code == 429
    assert int(answer["Retry-After"]) > 0
    assert hashed == []
    assert failures(Client(), 1) == [429]
    assert LoginAttempt.objects.count() == 5


def test_the_page_of_the_lock_offers_a_reset_only_where_it_helps(owners_browser: Client, owner: User) -> None:
    for _guess in range(5):
        confirm(owners_browser, "Wrong-Password-1")
    assert "/accounts/password/reset/" in text_of(confirm(owners_browser))
    give_phone(owner)
    page = text_of(confirm(owners_browser))
    assert "/accounts/password/reset/" not in page
    assert "ask whoever runs the site" in page


@pytest.mark.parametrize(
    "place",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "javascript:alert(1)",
        "/a\tb",
        CONFIRM,
        "a" * 9000,
        "",
    ],
)
def test_nobody_is_sent_anywhere_but_to_a_page_of_this_site(owners_browser: Client, place: str) -> None:
    assert confirm(owners_browser, place=place)["Location"] == "/accounts/profile/"


def test_a_stranger_is_not_asked(stranger: Client) -> None:
    for answer in (stranger.get(CONFIRM), confirm(stranger)):
        assert (answer.status_code, answer["Location"]) == (302, f"/accounts/login/?next={CONFIRM}")


def test_a_password_that_is_hashed_anew_by_it_does_not_end_the_session(owners_browser: Client, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["accounts.hashers.ScryptHasher", "accounts.hashers.BcryptHasher"]
    assert confirm(owners_browser, place="/pay/").status_code == 303
    assert identify_hasher(User.objects.get().password).algorithm == "scrypt"
    assert owners_browser.get("/pay/").status_code == 200


def test_staff_are_asked_in_the_admin_after_a_working_day(admins_browser: Client, settings: Any) -> None:
    place = "/admin/accounts/user/"
    let_pass(hours=7)
    assert admins_browser.get(place).status_code == 200
    let_pass(hours=2)
    assert asked(admins_browser.get(f"{place}?q=a")) == "?next=%2Fadmin%2Faccounts%2Fuser%2F%3Fq%3Da"
    assert asked(admins_browser.post(place, {"action": "deactivate"})) == "?next=%2Fadmin%2Faccounts%2Fuser%2F"
    assert admins_browser.get("/accounts/profile/").status_code == 200
    confirm(admins_browser)
    assert admins_browser.get(place).status_code == 200
    let_pass(hours=9)
    settings.STAFF_SESSION_HOURS = 100
    session = admins_browser.session
    session[reauthentication._CONFIRMED_AT] -= 9 * 3600
    session.save()
    assert admins_browser.post("/admin/logout/").status_code in (200, 302), "the way out stays open"
    assert not Session.objects.exists()


SENSITIVE = {
    "/accounts/security/second-factor/app/": "/accounts/security/second-factor/",
    "/accounts/security/second-factor/app/confirm/": "",
    "/accounts/security/second-factor/passkey/": "",
    "/accounts/security/second-factor/codes/": "",
    "/accounts/data/": "",
    "/accounts/data/01a22bef-0de5-7151-9059-43b6d4f56e1e/": "/accounts/data/",
}


@pytest.mark.parametrize("place", SENSITIVE)
def test_second_factors_and_the_copy_of_ones_data_are_sensitive(owners_browser: Client, place: str) -> None:
    let_pass(minutes=16)
    for answer in (owners_browser.get(place), owners_browser.post(place)):
        assert asked(answer) == f"?{urlencode({'next': SENSITIVE[place] or place})}"
    assert confirm(owners_browser).status_code in (302, 303)
    assert not owners_browser.get(place).get("Location", "").startswith(CONFIRM)
