"""The first page of the console: figures, who sees which, and where they lead."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from html import unescape
from typing import Any
from urllib.parse import urljoin

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import daily
from accounts.models import EventDay, User
from auditlog import partitions
from auditlog.models import Record
from config import database_views
from config.dashboard import Number, Panel
from config.templatetags.dashboard import bars
from tests.accounts.conftest import failures, text_of
from tests.factories import InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db
START = "/admin/"


@pytest.fixture
def keeper(db: None) -> User:
    return UserFactory.create(username="keeper", is_staff=True, is_superuser=True)


@pytest.fixture
def browser(keeper: User) -> Client:
    return signed_in(keeper)


def signed_in(user: User) -> Client:
    browser = Client()
    browser.force_login(user)
    return browser


def today() -> date:
    return timezone.now().astimezone(UTC).date()


def at_noon(days_ago: int) -> datetime:
    return datetime(today().year, today().month, today().day, 12, tzinfo=UTC) - timedelta(days=days_ago)


def numbers(browser: Client, **asked: str) -> dict[str, Number]:
    context = browser.get(START, asked).context
    return {number.name: number for panel in context["panels"] for number in panel.numbers}


# Figures


def test_sign_ins_are_told_by_the_day_and_compared_with_the_days_before(browser: Client) -> None:
    for ago, count in ((0, 5), (6, 2), (7, 30), (13, 1), (14, 1000)):
        EventDay.objects.create(day=today() - timedelta(days=ago), event="login", count=count)
    EventDay.objects.create(day=today(), event="login_failed", count=1234)
    EventDay.objects.create(day=today() - timedelta(days=8), event="locked_out", count=3)
    EventDay.objects.create(day=today() - timedelta(days=2), event="locked_out", count=3)
    found = numbers(browser, days="7")
    assert found["login"].steps == [2, 0, 0, 0, 0, 0, 5]
    told = {name: (found[name].value, found[name].note) for name in ("login", "login_failed", "locked_out")}
    assert told == {
        "login": (7, "24 fewer than in the 7 days before"),
        "login_failed": (1234, "1,234 more than in the 7 days before"),
        "locked_out": (3, "as many as in the 7 days before"),
    }
    assert numbers(browser, days="30")["login"].value == 1038


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_people_are_counted_by_the_days_of_utc_wherever_the_reader_is() -> None:
    keeper = UserFactory.create(is_staff=True, created_at=at_noon(300), time_zone="Asia/Tokyo")
    keeper.user_permissions.set(Permission.objects.filter(codename="view_user"))
    # In Tokyo it is the next day already.
    midnight = at_noon(6).replace(hour=0)
    UserFactory.create(created_at=midnight)
    UserFactory.create(created_at=at_noon(6).replace(hour=23))
    UserFactory.create(created_at=midnight - timedelta(seconds=1), is_active=False)
    database_views.refresh(daily.SIGNUPS)
    try:
        browser = signed_in(keeper)
        found = numbers(browser, days="7")
        assert found["signups"].steps == [2, 0, 0, 0, 0, 0, 0]
        assert (found["signups"].value, found["signups"].note) == (2, "1 more than in the 7 days before")
        assert (found["active"].value, found["active"].estimated) == (3, False)
        assert listed(browser, found["signups"]) == 2
    finally:
        User.objects.all().delete()
        database_views.refresh(daily.SIGNUPS)


def test_of_invitations_there_is_the_funnel(browser: Client) -> None:
    for uses, ago in ((1, 1), (3, 2), (0, 3), (0, 20)):
        InvitationFactory.create(created_at=at_noon(ago), uses=uses, max_uses=5)
    found = numbers(browser, days="7")
    assert (found["made"].value, found["came"].value) == (3, 4)
    page = text_of(browser.get(START, {"days": "7"}))
    assert '<th scope="row">Accepted</th><td>2</td><td>67 %</td>' in page
    assert browser.get(found["made"].address).context["funnel"].stages.made == 3


def test_the_trail_is_told_by_the_week_as_the_server_estimates_it(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monday = at_noon(today().weekday()).replace(hour=0)
    kept = [
        partitions.Partition("", monday + timedelta(weeks=week), monday + timedelta(weeks=week + 1), records, size)
        for week, records, size in ((-3, 10**9, 0), (-2, None, 0), (-1, 12_345, 2**20), (0, 1, 2**20), (1, None, 0))
    ]
    monkeypatch.setattr(partitions, "every", lambda: kept)
    found = numbers(browser, days="7")["records"]
    assert found.steps[-2:] == [12_300, 1]
    assert (found.value, found.shown, found.estimated) == (12_301, 12_300, True)
    assert "2.0" in found.note
    monkeypatch.setattr(partitions, "every", lambda: kept[1:2] + kept[4:])
    assert "not counted yet" in text_of(browser.get(START, {"days": "30"}))


def test_the_time_is_in_the_address_and_nonsense_is_a_month(browser: Client) -> None:
    for days in ("7", "30", "90"):
        assert browser.get(START, {"days": days}).context["days"] == int(days)
    for odd in ("", "0", "-7", "365", "7.0", "٣٠", "9" * 1000, "7' OR"):
        answer = browser.get(START, {"days": odd})
        assert (answer.status_code, answer.context["days"]) == (200, 30)


def test_where_nobody_has_signed_up_the_page_says_what_to_do(browser: Client) -> None:
    page = text_of(browser.get(START))
    assert "Nobody has signed up yet." in page
    assert '<a href="/admin/accounts/invitation/add/">Invite somebody.</a>' in page
    UserFactory.create()
    assert "Nobody has signed up yet." not in text_of(browser.get(START))


# Where figures lead


def listed(browser: Client, number: Number) -> int:
    """How many rows the list behind a number has."""
    context = browser.get(number.address).context
    return len(context["page"].records) if "page" in context else context["cl"].result_count


def test_each_figure_leads_to_a_list_of_as_many(keeper: User) -> None:
    UserFactory.create_batch(3)
    UserFactory.create(is_active=False)
    failures(Client(), settings.LOGIN_FAILURE_LIMIT + 1, "nobody")
    browser = signed_in(keeper)
    daily.count_events(Record.objects.all())
    found = numbers(browser, days="7")
    values = {name: number.value for name, number in found.items() if name != "records"}  # the server's estimate
    # Beside them there is whoever looks.
    assert values == {
        "signups": 5,
        "active": 4,
        "login": 1,
        "login_failed": settings.LOGIN_FAILURE_LIMIT,
        "locked_out": 1,
        "locked": 1,
        "made": 0,
        "came": 0,
    }
    for name in ("signups", "active", "login", "login_failed", "locked_out", "locked"):
        assert listed(browser, found[name]) == values[name], name


# Who sees what


@pytest.mark.parametrize(
    ("permissions", "names"),
    [
        ([], []),
        (["view_user"], ["signups", "active"]),
        (["view_loginattempt"], ["locked"]),
        (["view_record"], ["login", "login_failed", "locked_out", "records"]),
        (["view_invitation"], ["made", "came"]),
        (["view_health"], []),
    ],
)
def test_a_figure_is_shown_to_those_who_may_open_its_list(permissions: list[str], names: list[str]) -> None:
    user = UserFactory.create(is_staff=True)
    UserFactory.create()
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    browser = signed_in(user)
    answer = browser.get(START)
    assert list(numbers(browser)) == names
    assert bool(answer.context["health"]) is (permissions == ["view_health"])
    assert ('class="ranges"' in text_of(answer)) is bool(permissions)
    assert "Invite somebody" not in text_of(answer)
    assert ("/health/" in addresses(answer)) is (permissions == ["view_health"])
    for address in addresses(answer):
        assert browser.get(address).status_code == 200, address


def addresses(answer: Any) -> list[str]:
    """Of everything above the list of apps."""
    figures = text_of(answer).partition('id="content-main"')[2].partition('<div class="apps">')[0]
    return [urljoin(START, unescape(address)) for address in re.findall(r'href="([^"]+)"', figures)]


def test_roles_see_what_they_work_with() -> None:
    seen = {}
    for role in ("Administrator", "Support", "Auditor"):
        user = UserFactory.create(is_staff=True)
        user.groups.set(Group.objects.filter(name=role))
        seen[role] = {panel.name for panel in signed_in(user).get(START).context["panels"]}
    everything = {"people", "logins", "invitations", "trail"}
    assert seen == {"Administrator": everything, "Auditor": everything, "Support": everything - {"trail"}}


def test_looking_leaves_no_record(browser: Client) -> None:
    before = Record.objects.count()
    browser.get(START)
    assert Record.objects.count() == before


# The page


def test_more_rows_cost_no_more_statements(browser: Client) -> None:
    counts = []
    for people in (1, 1, 8):  # the first fills caches
        for number in range(people):
            InvitationFactory.create(invited_by=UserFactory.create(), created_at=at_noon(number))
            EventDay.objects.update_or_create(day=today() - timedelta(days=number), event="login", count=9)
        failures(Client(), settings.LOGIN_FAILURE_LIMIT, f"nobody-{people}")
        with CaptureQueriesContext(connection) as asked:
            browser.get(START, {"days": "90"})
        counts.append(len(asked))
    assert counts[1] == counts[2] <= 30, counts


def test_every_plot_has_a_table_behind_it_and_none_is_drawn_of_nothing(browser: Client) -> None:
    UserFactory.create()
    for ago in (0, 3):
        EventDay.objects.create(day=today() - timedelta(days=ago), event="login", count=4)
    page = text_of(browser.get(START, {"days": "7"}))
    assert re.findall(r'plot-bars" .* aria-labelledby="(\w+)-title', page) == ["signups", "login"]
    assert re.findall(r'<caption id="(\w+)-caption', page) == ["uptime", "people", "logins"]
    assert f'<th scope="row">{today() - timedelta(days=3):%-d %b %Y}</th><td>4</td></tr>' in page
    assert "none in the 7 days before either" in page
    assert "style=" not in page.partition('id="content-main"')[2]


def test_a_single_one_beside_thousands_is_seen_and_what_nobody_counted_is_not() -> None:
    number = Number(name="n", label="", value=None, address="", steps=[5000, 1, 0, None])
    drawn = bars(Panel(name="p", title="", numbers=[number]), number)
    assert (drawn["view"], drawn["path"]) == ("0 0 38 100", "M0 100v-100h8V100zM10 100v-3h8V100z")


@pytest.mark.parametrize(
    ("value", "estimated", "shown"), [(0, True, 0), (7, True, 7), (9_412_345, True, 9_410_000), (1234, False, 1234)]
)
def test_an_estimate_claims_three_digits(value: int, estimated: bool, shown: int) -> None:
    assert Number(name="n", label="", value=value, address="", estimated=estimated).shown == shown


def test_the_page_of_an_app_has_no_figures(browser: Client) -> None:
    page = text_of(browser.get("/admin/accounts/"))
    assert 'class="panel' not in page
    assert "/admin/accounts/user/" in page
