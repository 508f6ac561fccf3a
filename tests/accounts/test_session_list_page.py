"""The list of one's own devices: all of them, readable, each with a button that signs it out."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import services, sessions
from accounts.models import Session, User
from accounts.session_engine import digest_of
from accounts.user_agents import readable
from auditlog.models import Record
from tests.accounts.conftest import sign_in, text_of
from tests.accounts.test_user_admin import run_action
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db

LIST = "/accounts/security/sessions/"
END_OTHERS = f"{LIST}end-others/"
PROFILE = "/accounts/profile/"
LOGIN = "/accounts/login/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)


def signed_in(agent: str, address: str = "198.51.100.7", name: str = "owner") -> Client:
    browser = Client(headers={"user-agent": agent}, REMOTE_ADDR=address)
    assert sign_in(browser, name).status_code == 302
    return browser


def row(browser: Client) -> Session:
    return Session.objects.get(key_digest=digest_of(browser.session.session_key or ""))


def is_signed_in(browser: Client) -> bool:
    return browser.get(PROFILE).status_code == 200


def end(browser: Client, session: Session) -> Any:
    return browser.post(f"{LIST}{session.pk}/end/")


@pytest.fixture
def laptop(owner: User) -> Client:
    return signed_in(FIREFOX)


@pytest.fixture
def phone(owner: User) -> Client:
    return signed_in(SAFARI, "2001:db8::7")


# --- seeing -----------------------------------------------------------------------------------------


def test_every_device_is_there_with_name_address_and_times_and_says_which_one_this_is(
    laptop: Client, phone: Client
) -> None:
    page = text_of(laptop.get(LIST))
    devices = [re.sub(r"<[^>]+>|\s+", " ", item) for item in re.findall(r"<li>\s*<div>.*?</li>", page, re.S)]
    this, other = [re.sub(" +", " ", item).strip() for item in devices]
    assert this.startswith("Firefox on Linux this device from 198.51.100.7 signed in 20")
    assert other.startswith("Mobile Safari on iOS from 2001:db8::7 signed in 20")
    assert "last seen 20" in this
    assert other.endswith("Sign out")
    assert not this.endswith("Sign out")


def test_no_page_holds_a_key(laptop: Client, phone: Client) -> None:
    pages = text_of(laptop.get(LIST)) + text_of(end(laptop, row(phone))) + text_of(laptop.get("/accounts/activity/"))
    for secret in [laptop.session.session_key, *Session.objects.values_list("key_digest", flat=True)]:
        assert secret
        assert secret not in pages


def test_nobody_sees_anothers_and_a_stranger_none(laptop: Client, colleague: User, stranger: Client) -> None:
    assert "Firefox" not in text_of(signed_in(SAFARI, name="colleague").get(LIST))
    answer = stranger.get(LIST)
    assert (answer.status_code, answer["Location"]) == (302, f"{LOGIN}?next={LIST}")


def test_a_browser_writes_no_markup_into_the_page(laptop: Client) -> None:
    signed_in("<script>alert(1)</script>Bot/3 <b>\x01\u2028" + "W" * 5000)
    page = text_of(laptop.get(LIST))
    assert "alert(1)" not in page
    assert "Bot" in page


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        (FIREFOX, "Firefox on Linux"),
        (SAFARI, "Mobile Safari on iOS"),
        ("curl/8.5", "curl"),
        ("", "Unknown browser"),
        ("((((" * 200, "Unknown browser"),
        ("\ud800\0\x1b[31m", "Unknown browser"),
        ("Mozilla/5.0 (X11; Linux x86_64)", "Unknown browser on Linux"),
    ],
)
def test_every_browser_has_a_readable_name(agent: str, name: str) -> None:
    assert readable(agent) == name


def test_a_name_is_no_address_that_a_mail_would_make_a_link_of() -> None:
    name = readable("Mozilla/5.0 (compatible; www.evil.example/win-Bot/1.0; +http://evil.example/)")
    assert not re.search(r"[./:]", name)


def test_more_devices_cost_no_more_statements(laptop: Client) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert laptop.get(LIST).status_code == 200
        return len(queries)

    one = statements()
    for number in range(5):
        signed_in(SAFARI, f"203.0.113.{number}")
    assert len(sessions.of(User.objects.get())) == 6
    assert statements() == one


# --- ending -----------------------------------------------------------------------------------------


def test_one_device_is_signed_out_and_the_others_go_on(laptop: Client, phone: Client) -> None:
    third = signed_in(FIREFOX)
    answer = end(laptop, row(phone))
    assert (answer.status_code, answer["Location"]) == (303, LIST)
    page = text_of(laptop.get(LIST))
    assert "That device is signed out." in page
    assert "Mobile Safari" not in page
    assert [is_signed_in(each) for each in (laptop, phone, third)] == [True, False, True]


def test_all_others_are_signed_out_at_once(laptop: Client, phone: Client, colleague: User) -> None:
    signed_in(FIREFOX)
    bystander = signed_in(SAFARI, name="colleague")
    answer = laptop.post(END_OTHERS)
    assert (answer.status_code, answer["Location"]) == (303, LIST)
    page = text_of(laptop.get(LIST))
    assert "2 other devices are signed out." in page
    assert "You are signed in nowhere else." in page
    assert [is_signed_in(each) for each in (laptop, phone, bystander)] == [True, False, True]
    assert "You were not signed in anywhere else." in text_of(laptop.post(END_OTHERS, follow=True))


def test_a_device_of_somebody_else_is_not_touched_and_answered_like_one_that_is_gone(
    laptop: Client, phone: Client, colleague: User
) -> None:
    bystander = signed_in(SAFARI, name="colleague")
    gone = row(phone)
    assert "That device is signed out." in text_of(laptop.post(f"{LIST}{gone.pk}/end/", follow=True))
    pages = []
    for target in (gone, row(bystander)):
        answer = laptop.post(f"{LIST}{target.pk}/end/", follow=True)
        assert "That device was signed out already." in text_of(answer)
        pages.append(re.sub(r'csrfmiddlewaretoken" value="\w+"', "", text_of(answer)))
    assert pages[0] == pages[1]
    assert is_signed_in(bystander)


def test_who_ends_the_own_session_is_at_the_login(laptop: Client) -> None:
    answer = end(laptop, row(laptop))
    assert (answer.status_code, answer["Location"]) == (303, LOGIN)
    assert not is_signed_in(laptop)
    assert not Session.objects.exists()


def test_ending_needs_a_post_with_a_token(laptop: Client, phone: Client) -> None:
    for path in (END_OTHERS, f"{LIST}{row(phone).pk}/end/"):
        assert laptop.get(path).status_code == 405
        laptop.handler.enforce_csrf_checks = True
        assert laptop.post(path).status_code == 403
        laptop.handler.enforce_csrf_checks = False
    assert is_signed_in(phone)


def test_signing_out_takes_the_entry_away(laptop: Client, phone: Client) -> None:
    key = phone.session.session_key
    phone.post("/accounts/logout/")
    assert "Mobile Safari" not in text_of(laptop.get(LIST))
    phone.cookies[settings.SESSION_COOKIE_NAME] = key or ""
    assert not is_signed_in(phone), "the old key is of no use"


def test_the_trail_tells_who_signed_which_device_out(laptop: Client, phone: Client, owner: User) -> None:
    end(laptop, row(phone))
    record = Record.objects.order_by("-id")[0]
    assert (record.action, record.object_id, record.actor_id) == ("session_ended", str(owner.pk), str(owner.pk))
    assert record.new == {"count": 1, "devices": ["Mobile Safari on iOS"]}
    assert "Signed out a device" in text_of(laptop.get("/accounts/activity/"))


# --- what else empties the list ---------------------------------------------------------------------


def test_a_changed_password_leaves_this_session_only(laptop: Client, phone: Client, owner: User) -> None:
    this = row(laptop).pk
    form = {"old_password": PASSWORD, "new_password1": "Another-Horse-8-Battery"}
    answer = laptop.post("/accounts/password/change/", form | {"new_password2": form["new_password1"]})
    assert answer.status_code == 303
    assert [each.pk for each in Session.objects.all()] == [this]
    assert is_signed_in(laptop)
    assert not is_signed_in(phone)


def test_a_reset_password_leaves_none(laptop: Client, phone: Client, owner: User) -> None:
    owner.refresh_from_db()
    services.reset_password(owner, default_token_generator.make_token(owner), "Another-Horse-8-Battery")
    assert not Session.objects.exists()


def test_a_password_that_was_written_past_us_empties_the_list_too(laptop: Client, owner: User) -> None:
    User.objects.update(password="!")
    assert sessions.of(User.objects.get()) == []
    assert not is_signed_in(laptop)


def test_staff_sign_somebody_out_everywhere(
    laptop: Client, phone: Client, owner: User, colleague: User, inviters_browser: Client, administrator: User
) -> None:
    keeper = signed_in(SAFARI, name="keeper")
    answer = run_action(inviters_browser, "sign_out", owner, administrator)
    assert "2 sessions ended." in text_of(answer)
    assert "“keeper”: You may not edit this person." in text_of(answer)
    assert not is_signed_in(laptop)
    assert not is_signed_in(phone)
    assert is_signed_in(keeper), "Support does not touch who may do more"
