"""Of whom a second factor is demanded, how long they are only reminded, and what they may do afterwards."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.html import strip_tags

from accounts import roles
from accounts.models import Session, User
from accounts.second_factor.enforcement import EXITS, OPEN_PAGES
from accounts.second_factor.models import Demand
from config.env import Environment
from tests.accounts.conftest import sign_in, text_of
from tests.accounts.phones import OVERVIEW, give_phone, show_code
from tests.accounts.test_events import Trail
from tests.accounts.test_second_factor_pages import begin, confirm
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db
PROFILE = "/accounts/profile/"
HINT = "Your role needs a second factor"
SHUT = [
    "/",
    PROFILE,
    "/accounts/activity/",
    "/accounts/password/change/",
    "/accounts/invitations/",
    "/admin/",
    "/admin/accounts/user/",
    "/accounts/security/second-factor/codes/",
    "/accounts/login/",
]


@pytest.fixture
def demanded(settings: Any) -> None:
    settings.SECOND_FACTOR_REQUIRED_FOR, settings.SECOND_FACTOR_GRACE_DAYS = ["staff", "Auditor"], 14


@pytest.fixture
def helper(demanded: None) -> Client:
    """The browser of somebody on the staff, who has no second factor."""
    user = UserFactory.create(username="helper", is_staff=True)
    user.groups.set(Group.objects.filter(name="Support"))
    browser = Client()
    browser.force_login(user)
    return browser


def let_days_pass(days: float) -> None:
    Demand.objects.update(since=F("since") - timedelta(days=days))


def test_nothing_is_demanded_unless_told(inviters_browser: Client) -> None:
    assert HINT not in text_of(inviters_browser.get(PROFILE))
    assert not Demand.objects.exists()


def test_within_the_grace_every_page_reminds_and_works(helper: Client) -> None:
    for path in (PROFILE, "/accounts/activity/", "/admin/", "/admin/accounts/user/", OVERVIEW):
        response = helper.get(path)
        assert response.status_code == 200
        assert HINT in text_of(response), path
    let_days_pass(13.9)
    assert helper.get(PROFILE).status_code == 200
    since = Demand.objects.get().since
    assert f"at the latest on {since + timedelta(days=14):%-d %B %Y}" in strip_tags(text_of(helper.get(PROFILE)))


def test_after_the_grace_every_page_leads_to_the_set_up(helper: Client) -> None:
    helper.get(PROFILE)
    let_days_pass(14)
    for path in SHUT:
        for response in (helper.get(path), helper.post(path, {"full_name": "Changed"})):
            assert (response.status_code, response["Location"]) == (303, OVERVIEW), path
            assert not response.content
    assert User.objects.get(username="helper").full_name == ""
    page = helper.get(OVERVIEW)
    assert page.status_code == 200
    assert HINT in text_of(page)


def test_the_set_up_opens_everything_again(helper: Client) -> None:
    helper.get(PROFILE)
    let_days_pass(20)
    response = confirm(helper, begin(helper).now())
    assert helper.get(response["Location"]).status_code == 200
    assert HINT not in text_of(helper.get(PROFILE))
    assert helper.get("/admin/").status_code == 200


@pytest.mark.parametrize("door", ["/accounts/logout/", "/admin/logout/"])
def test_signing_out_is_always_possible(helper: Client, door: str) -> None:
    helper.get(PROFILE)
    let_days_pass(20)
    helper.post(door)
    assert not Session.objects.exists()
    assert helper.get("/accounts/login/").status_code == 200


def test_the_meter_costs_no_statement_though_one_is_demanded(helper: Client) -> None:
    helper.get(PROFILE)
    let_days_pass(20)
    with CaptureQueriesContext(connection) as asked:
        assert helper.post("/accounts/password/meter/", {"password": "x"}).json()["accepted"] is False
        assert helper.post("/accounts/password/suggestion/").json()["password"]
    assert len(asked) == 0


def test_without_days_of_grace_it_holds_at_once(helper: Client, settings: Any) -> None:
    settings.SECOND_FACTOR_GRACE_DAYS = 0
    assert helper.get(PROFILE)["Location"] == OVERVIEW
    browser = Client()
    assert sign_in(browser, "helper").status_code == 302
    assert browser.get(PROFILE)["Location"] == OVERVIEW


def test_nobody_gets_a_second_time_of_grace(helper: Client) -> None:
    helper.get(PROFILE)
    let_days_pass(20)
    phone = give_phone(User.objects.get(username="helper"))
    assert helper.get(PROFILE).status_code == 200
    helper.post(f"{OVERVIEW}{phone.app.pk}/remove/", {"code": phone.code()})
    assert helper.get(PROFILE)["Location"] == OVERVIEW


@pytest.mark.parametrize(
    ("about", "groups", "is_demanded"),
    [
        ({}, ["Member"], False),
        ({}, ["Auditor"], True),
        ({"is_staff": True}, [], True),
        ({"is_superuser": True, "is_staff": True}, [], True),
        ({}, ["Support"], False),  # a role that is not named; it is the mark of staff that counts
    ],
)
def test_of_whom_it_is_demanded(demanded: None, about: dict[str, bool], groups: list[str], is_demanded: bool) -> None:
    user = UserFactory.create(**about)
    user.groups.set(Group.objects.filter(name__in=groups))
    browser = Client()
    browser.force_login(user)
    assert (HINT in text_of(browser.get(PROFILE))) == is_demanded
    assert Demand.objects.filter(user=user).exists() == is_demanded


def test_whoever_has_one_already_is_not_reminded(demanded: None, administrator: User) -> None:
    phone, browser = give_phone(administrator), Client()
    sign_in(browser, "keeper")
    show_code(browser, phone.code())
    assert HINT not in text_of(browser.get(PROFILE))
    assert not Demand.objects.exists()


def test_strangers_probes_and_files_are_let_alone(helper: Client, stranger: Client) -> None:
    helper.get(PROFILE)
    let_days_pass(20)
    for path in ("/health/ready", "/health/"):
        assert helper.get(path).status_code == stranger.get(path).status_code != 303
    assert helper.get("/static/site/favicon.svg").status_code == 200
    assert stranger.get("/accounts/login/").status_code == 200


def test_the_beginning_is_noted_once_and_recorded(helper: Client) -> None:
    before, trail = timezone.now(), Trail()
    helper.get(PROFILE)
    assert [each[:2] + each[3:] for each in trail.seen] == [("create", "accounts.demand", "second factor demanded")]
    since = Demand.objects.get().since
    assert before <= since <= timezone.now()
    helper.get(PROFILE)
    assert Demand.objects.get().since == since


def test_the_pages_that_stay_open_exist_and_open_nothing_else() -> None:
    from django.urls import reverse

    paths = {reverse(name) for name in OPEN_PAGES | EXITS}
    others = {path for path in paths if not path.startswith(OVERVIEW)}
    assert others == {"/accounts/confirm/", "/accounts/logout/", "/admin/logout/"}


@pytest.mark.parametrize(
    ("text", "names", "faults"),
    [
        ("", [], 0),
        ("staff, auditor", ["staff", "Auditor"], 0),
        ("ADMINISTRATOR,Support,Member,STAFF", ["Administrator", "Support", "Member", "staff"], 0),
        ("staff, Adminstrator", ["staff"], 1),
    ],
)
def test_the_setting_names_roles_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, text: str, names: list[str], faults: int
) -> None:
    monkeypatch.setenv("SECOND_FACTOR_REQUIRED_FOR", text)
    env = Environment()
    assert env.choices("SECOND_FACTOR_REQUIRED_FOR", ("staff", *roles.ROLES)) == names
    assert len(env._faults) == faults


def test_the_setting_may_name_every_role() -> None:
    from pathlib import Path

    from django.conf import settings

    source = (Path(settings.BASE_DIR) / "config" / "settings.py").read_text()
    assert f'"SECOND_FACTOR_REQUIRED_FOR", {("staff", *roles.ROLES)}'.replace("'", '"') in source
