"""The page of one's own account."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client
from django.utils import timezone, translation

from accounts import jobs, services
from accounts.models import User
from auditlog.models import Record
from tests.accounts.conftest import codes, run_jobs, sign_in, text_of
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

PROFILE = "/accounts/profile/"
FORM = {
    "full_name": "Olivia New",
    "bio": "Opens doors.",
    "avatar_url": "https://example.com/me.png",
    "time_zone": "Europe/Berlin",
    "language": "",
    "version": "1",
}
SAID = ("full_name", "bio", "avatar_url", "time_zone", "language")


def test_the_address_above_it_leads_there_or_to_the_login(owners_browser: Client, stranger: Client) -> None:
    assert owners_browser.get("/accounts/").headers["Location"] == PROFILE
    assert stranger.get("/accounts/").headers["Location"] == "/accounts/login/?next=/accounts/"


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
    assert [getattr(owner, name) for name in SAID] == [FORM[name] for name in SAID]
    assert owner.version == 2
    (record,) = Record.objects.filter(object_id=str(owner.pk), action="update")
    assert (record.actor_kind, record.actor_id, record.object_label) == ("user", str(owner.pk), "owner")
    assert (record.before["full_name"], record.after["full_name"]) == ("Olivia Owner", "Olivia New")


def test_all_of_it_may_be_empty(owners_browser: Client, owner: User) -> None:
    assert owners_browser.post(PROFILE, {"version": "1"}).status_code == 303
    owner.refresh_from_db()
    assert [getattr(owner, name) for name in SAID] == [""] * 5


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
        ("time_zone", "Europe/Atlantis", ["invalid_choice"]),
        ("time_zone", "../../etc/passwd", ["invalid_choice"]),
        ("time_zone", "UTC\0", ["invalid_choice"]),
        ("version", "", ["required"]),
        ("version", "one", ["invalid"]),
        ("version", "99999999999999999999", ["max_value"]),
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


# --- two tabs ---------------------------------------------------------------------------------------


def version_in(page: str) -> str:
    (version,) = re.findall(r'name="version" value="(\d+)"', page)
    return str(version)


def test_of_two_tabs_the_second_is_told_and_may_then_decide(owners_browser: Client, owner: User) -> None:
    version = version_in(text_of(owners_browser.get(PROFILE)))
    first, second = ({"version": version, "full_name": name} for name in ("First", "Second"))
    assert owners_browser.post(PROFILE, first).status_code == 303
    told = owners_browser.post(PROFILE, second)
    assert (told.status_code, codes(told.context["form"], "__all__")) == (409, ["changed_meanwhile"])
    assert 'value="Second"' in text_of(told)
    assert told.context["form"].stored == [("Full name", "First")]
    assert "What is saved now" in text_of(told)
    owner.refresh_from_db()
    assert owner.full_name == "First"
    assert owners_browser.post(PROFILE, second | {"version": version_in(text_of(told))}).status_code == 303
    owner.refresh_from_db()
    assert owner.full_name == "Second"


def test_what_the_second_tab_has_left_alone_stays_as_the_first_has_saved_it(
    owners_browser: Client, owner: User
) -> None:
    shown = owners_browser.get(PROFILE).context["form"]
    first, second = sent(shown), sent(shown)
    assert owners_browser.post(PROFILE, first | {"full_name": "First", "bio": "By the first"}).status_code == 303
    told = owners_browser.post(PROFILE, second | {"bio": "By the second"})
    assert told.status_code == 409
    assert told.context["form"].stored == [("About you", "By the first")]
    assert owners_browser.post(PROFILE, sent(told.context["form"])).status_code == 303
    owner.refresh_from_db()
    assert (owner.full_name, owner.bio) == ("First", "By the second")


def sent(form: Any) -> dict[str, str]:
    """What a browser sends of a form that nobody touches."""
    page = str(form)
    pairs = {name: str(form[name].value() or "") for name in form.fields}
    hidden = re.findall(r'name="(initial-\w+)"(?: value="([^"]*)")?', page) + re.findall(
        r'value="([^"]*)" name="(initial-\w+)"', page
    )
    assert len(hidden) == len(SAID)
    return pairs | dict(hidden)


def test_a_double_click_is_no_second_tab(owners_browser: Client) -> None:
    assert [owners_browser.post(PROFILE, FORM).status_code for _click in range(2)] == [303, 303]
    assert Record.objects.filter(resource="accounts.user", action="update", reason="own profile edited").count() == 1


def test_signing_in_elsewhere_makes_no_open_page_stale(owners_browser: Client) -> None:
    version = version_in(text_of(owners_browser.get(PROFILE)))
    assert sign_in(Client(), "owner").status_code == 302
    assert owners_browser.post(PROFILE, FORM | {"version": version}).status_code == 303


# --- picture, zone and language ---------------------------------------------------------------------


def test_a_picture_is_a_link_that_no_page_fetches(owners_browser: Client) -> None:
    User.objects.update(avatar_url="https://tracker.example/me.png")
    page = text_of(owners_browser.get(PROFILE))
    assert re.findall(r'<(\w+)[^>]*"https://tracker\.example/me\.png"', page) == ["a", "input", "input"]
    assert 'rel="noopener noreferrer nofollow"' in page


def joined(owner: User) -> None:
    User.objects.filter(pk=owner.pk).update(created_at=datetime(2026, 7, 1, 22, 30, tzinfo=UTC))


def test_times_are_in_the_persons_zone_with_utc_beside(owners_browser: Client, owner: User) -> None:
    joined(owner)
    assert "data-zone" not in text_of(owners_browser.get(PROFILE))
    assert ">2026-07-01 22:30:00 UTC</time>" in text_of(owners_browser.get(PROFILE))
    User.objects.update(time_zone="Asia/Kolkata")
    page = text_of(owners_browser.get(PROFILE))
    assert 'title="2026-07-01 22:30:00 UTC" data-moment="" data-zone="Asia/Kolkata">2026-07-02 04:00:00 IST<' in page


def test_who_chooses_utc_gets_it_whatever_the_browser_says(owners_browser: Client, owner: User) -> None:
    joined(owner)
    User.objects.update(time_zone="Etc/UTC")
    assert 'data-zone="Etc/UTC">2026-07-01 22:30:00 UTC<' in text_of(owners_browser.get(PROFILE))


def test_the_zone_of_one_request_is_not_that_of_the_next(owners_browser: Client, stranger: Client) -> None:
    User.objects.update(time_zone="Asia/Kolkata")
    owners_browser.get(PROFILE)
    assert (timezone.get_current_timezone_name(), translation.get_language()) == ("UTC", "en")
    stranger.get(PROFILE)
    assert timezone.get_current_timezone_name() == "UTC"


def test_a_zone_or_language_of_yesterday_does_no_harm(owners_browser: Client) -> None:
    User.objects.update(time_zone="Mars/Olympus", language="tlh")
    response = owners_browser.get(PROFILE)
    assert (response.status_code, "data-zone" in text_of(response)) == (200, False)


def test_zones_are_those_of_places_and_utc(owners_browser: Client) -> None:
    page = text_of(owners_browser.get(PROFILE)).partition('name="language"')[0]
    offered = re.findall(r'<option value="([^"]+)"', page)
    assert offered == [*offered[:1], *sorted(offered[1:])]
    assert (offered[0], len(offered) > 400) == ("Etc/UTC", True)
    assert {"Europe/Berlin", "America/Argentina/Buenos_Aires"} < set(offered)
    assert not {"UTC", "US/Eastern", "EST", "Zulu", "localtime", "posixrules"} & set(offered)


def test_with_one_language_there_is_nothing_to_choose(owners_browser: Client, owner: User, settings: Any) -> None:
    settings.LANGUAGES = [("en", "English")]
    assert 'name="language"' not in text_of(owners_browser.get(PROFILE))
    User.objects.update(language="en")
    assert owners_browser.post(PROFILE, FORM | {"language": "de", "version": "2"}).status_code == 303
    owner.refresh_from_db()
    assert owner.language == "en"


def test_pages_speak_the_language_that_was_chosen(owners_browser: Client, owner: User) -> None:
    assert owners_browser.post(PROFILE, FORM | {"language": "de"}).status_code == 303
    owner.refresh_from_db()
    assert owner.language == "de"
    for path in (PROFILE, "/"):
        assert '<html lang="de"' in text_of(owners_browser.get(path))
    refused = owners_browser.post(PROFILE, FORM | {"time_zone": "x"})
    assert "keine gültige Auswahl" in text_of(refused)
    assert '<html lang="de"' in text_of(owners_browser.get("/", headers={"Accept-Language": "en"}))
    assert '<html lang="en"' in text_of(Client().get("/"))


def test_mails_speak_the_language_of_who_gets_them(owner: User) -> None:
    User.objects.update(language="de")
    services.request_password_reset(owner.email)
    jobs.send_new_device.enqueue(str(owner.pk), "Firefox", "", timezone.now().isoformat())
    messages = run_jobs()
    assert [message.subject for message in messages] == [
        "Neues Passwort wählen",
        "Ein neues Gerät hat sich an Ihrem Konto angemeldet",
    ]
    assert all('<html lang="de" dir="ltr">' in message.alternatives[0][0] for message in messages)
    assert translation.get_language() == "en"


def test_under_asgi_requests_side_by_side_keep_their_own_zone(owner: User, colleague: User) -> None:
    zones = {owner: "Asia/Kolkata", colleague: "America/Lima"}
    for user, zone in zones.items():
        User.objects.filter(pk=user.pk).update(time_zone=zone)

    async def look(browser: AsyncClient) -> str:
        return text_of(await browser.get(PROFILE))

    async def look_at_once() -> list[str]:
        return list(await asyncio.gather(*map(look, browsers * 3)))

    browsers = []
    for user in zones:
        browser = AsyncClient()
        browser.force_login(user)
        browsers.append(browser)
    for page, zone in zip(async_to_sync(look_at_once)(), [*zones.values()] * 3, strict=True):
        assert set(re.findall(r'data-zone="([^"]+)"', page)) == {zone}
    assert timezone.get_current_timezone_name() == "UTC"
