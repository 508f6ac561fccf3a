"""Dates and times: one way to show them on all pages, the console's lists and forms included."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib import admin
from django.db.models import DateTimeField
from django.test import Client
from django.urls import reverse
from django.utils import timezone, translation

from accounts import preferences
from accounts.models import LoginAttempt, User
from config.templatetags.moments import moment
from tests.factories import UserFactory

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
USERS = "/admin/accounts/user/"


def test_a_moment_is_told_in_utc_until_the_reader_s_zone_is_known() -> None:
    assert moment(NOON) == (
        '<time datetime="2026-03-01T12:00:00Z" title="2026-03-01 12:00:00 UTC" data-moment="">'
        "2026-03-01 12:00:00 UTC</time>"
    )
    clock = '<time datetime="2026-03-01T12:00:00Z" data-moment="clock">12:00</time>'
    assert moment("2026-03-01T13:00:00+01:00", "clock") == clock
    assert moment(None) == "–"


def test_a_chosen_zone_is_named_and_utc_stays_in_the_title() -> None:
    with preferences.of_user(User(time_zone="Europe/Berlin")):
        assert moment(NOON + timedelta(microseconds=7), "exact") == (
            '<time datetime="2026-03-01T12:00:00Z" title="2026-03-01 12:00:00.000007 UTC" data-moment="exact"'
            ' data-zone="Europe/Berlin">2026-03-01 13:00:00 CET</time>'
        )
        with translation.override("de"):
            assert ">1 März 2026, 13:00 CET<" in moment(NOON, "minute")
    with preferences.of_user(User(time_zone=preferences.UTC)):
        assert ' data-zone="Etc/UTC">2026-03-01 12:00:00 UTC<' in moment(NOON)


def test_no_template_writes_a_time_of_day_by_hand() -> None:
    by_hand = re.compile(r"""\|date:["'][^"']*[HisP]|\|time\b|<time(?![>])""")
    pages = [path for path in Path(settings.BASE_DIR, "templates").rglob("*.html") if path.parent.name != "emails"]
    assert {path.name for path in pages if by_hand.search(path.read_text())} == set()


@pytest.fixture
def browser(db: None) -> Client:
    keeper = UserFactory.create(username="keeper", is_staff=True, is_superuser=True, time_zone="Asia/Tokyo")
    browser = Client()
    browser.force_login(keeper, "accounts.backends.IdentityBackend")
    return browser


def test_lists_and_forms_of_the_console_show_times_in_the_reader_s_zone(browser: Client) -> None:
    ada = UserFactory.create(username="ada", last_login=NOON, erase_at=timezone.now() + timedelta(days=3))
    LoginAttempt.objects.create(account=str(ada.pk), network="192.0.2.0/24", reserved_at=NOON)
    shown = 'title="2026-03-01 12:00:00 UTC" data-moment="" data-zone="Asia/Tokyo">2026-03-01 21:00:00 JST</time>'
    for page in (USERS, f"{USERS}{ada.pk}/change/", "/admin/accounts/loginattempt/"):
        assert shown in browser.get(page).content.decode(), page
    assert "to be erased: <time" in browser.get(USERS).content.decode()


def test_every_column_of_a_time_in_every_list_is_shown_so(browser: Client) -> None:
    for model, model_admin in admin.site._registry.items():
        times = {field.name for field in model._meta.fields if isinstance(field, DateTimeField)}
        response = browser.get(reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"))
        if "cl" in (response.context or {}):
            assert not times & set(response.context["cl"].list_display), model_admin


def test_a_column_of_times_still_sorts_and_names_itself(browser: Client) -> None:
    first = UserFactory.create(username="first", created_at=NOON)
    column = list(admin.site.get_model_admin(User).list_display).index("created_at") + 1  # behind the boxes
    page = browser.get(USERS, {"o": str(column)})
    assert page.context["cl"].result_list[0] == first
    assert 'class="sortable column-created_at sorted ascending"' in page.content.decode()
    assert page.context["result_headers"][column]["text"] == "created"


@pytest.mark.parametrize(
    "query",
    ["state=nonsense", "is_staff__exact=7", "created_at__gte=yesterday", "nobody_offers_this=1", "o=x&state=nonsense"],
)
def test_a_filter_that_is_not_understood_is_told(browser: Client, query: str) -> None:
    response = browser.get(f"{USERS}?{query}", follow=True)
    assert response.redirect_chain == [(USERS, 302)]
    assert "That filter could not be understood, so the whole list is shown." in response.content.decode()


@pytest.mark.parametrize("query", ["state=active", "is_staff__exact=1", "created_at__gte=2026-03-01T00:00Z", "q=ada"])
def test_a_filter_that_is_understood_is_used(browser: Client, query: str) -> None:
    assert browser.get(f"{USERS}?{query}").status_code == 200
