"""The admin console, whole pages of it: in the site's colours, narrow, light and dark, under the strict policy."""

from __future__ import annotations

import re
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from playwright.sync_api import expect

from accounts.models import EventDay
from tests.browser.conftest import Arrive, Visitor, make_link
from tests.browser.test_journeys import sign_in
from tests.browser.test_pages import came_quietly, look
from tests.factories import UserFactory
from tests.rulezero.house import furnish

pytestmark = pytest.mark.django_db(transaction=True)
USERS = "/admin/accounts/user/"
SHARDS, LEAST_VIEWS = 3, 40
LONG_ADDRESS = f"{'long.' * 10}address@{'subdomain.' * 5}example.com"
# How much wider the table is than the box that it may scroll in, in pixels; an empty list has none.
OVERFLOW = """() => {
  const box = document.querySelector("#changelist-form .results");
  return box ? box.scrollWidth - box.clientWidth : 0;
}"""


@pytest.fixture
def keeper(arrive: Arrive) -> Visitor:
    """A superuser at the console of a site with some people and invitations."""
    user = UserFactory.create(username="keeper", full_name="The Keeper", is_staff=True, is_superuser=True)
    UserFactory.create_batch(12)
    make_link(acting_user=user, note="For the choir")
    visitor = arrive()
    sign_in(visitor, "keeper")
    return visitor


def looked_at(visitor: Visitor, name: str, path: str) -> list[str]:
    visitor.go(path)
    faults = came_quietly(visitor, name) + look(visitor, f"console-{name}")
    wider = visitor.page.evaluate(OVERFLOW)
    return faults + ([f"{name}: the list is {wider} pixels wider than its box"] if wider else [])


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_view_is_sound(arrive: Arrive, tmp_path: Path, shard: int) -> None:
    """Whatever the walk of rule zero finds behind an address of the console, filled with one row of everything."""
    house = furnish(tmp_path)
    UserFactory.create(username="n" * 30, email=LONG_ADDRESS, full_name="Wolfeschlegelsteinhausenbergerdorff")
    keeper, visitor = house.browser("keeper"), arrive()
    session = keeper.cookies[settings.SESSION_COOKIE_NAME]
    visitor.page.context.add_cookies([{"name": session.key, "value": session.value, "url": visitor.site}])
    doors = {door.route: door.paths[0] for door in house.doors if door.route.startswith("admin/")}
    pages = {route: path for route, path in doors.items() if is_page(keeper.get(path))}
    assert len(pages) >= LEAST_VIEWS
    faults = []
    for route, path in list(pages.items())[shard::SHARDS]:
        name = re.sub(r"\W+", "-", re.sub(r"<.*?>", "one", route.removeprefix("admin/"))).strip("-")
        faults += looked_at(visitor, f"view-{name or 'start'}", path)
    assert not faults, "\n".join(faults)


def is_page(answer: Any) -> bool:
    return bool(answer.status_code == 200 and answer["Content-Type"].startswith("text/html"))


def test_forms_and_questions_are_sound(keeper: Visitor, arrive: Arrive) -> None:
    faults = looked_at(arrive(), "door", "/admin/login/")
    keeper.go("/admin/auth/group/add/")
    keeper.page.fill("#id_name", "Choir")
    keeper.page.click("[name=_continue]")
    faults += looked_at(keeper, "group-gone", keeper.page.url.removeprefix(keeper.site).replace("change", "delete"))
    faults += looked_at(keeper, "nothing-fits", f"{USERS}?q=nobody-of-this-name")
    doomed = UserFactory.create(email=LONG_ADDRESS)
    faults += looked_at(keeper, "user-erase", f"{USERS}{doomed.pk}/erase/")
    assert not faults, "\n".join(faults)


def test_the_start_page_is_sound_and_works_by_keyboard(keeper: Visitor) -> None:
    today = timezone.now().astimezone(UTC).date()
    EventDay.objects.bulk_create(
        EventDay(day=today - timedelta(days=ago), event=event, count=count * (ago % 7 + 1))
        for ago in range(30)
        for event, count in (("login", 1234), ("login_failed", 97), ("locked_out", 1))
    )
    keeper.go("/admin/")
    assert "Logins" in keeper.text()
    keeper.page.get_by_role("link", name="7 days").focus()
    keeper.page.keyboard.press("Enter")
    keeper.page.wait_for_url("**/admin/?days=7")
    table = keeper.page.get_by_role("table", name="Signing in")
    expect(table).not_to_be_visible()
    keeper.page.locator(".panel-logins summary").focus()
    keeper.page.keyboard.press("Enter")
    expect(table.get_by_role("row")).to_have_count(8)
    faults = look(keeper, "console-start-filled")
    keeper.page.get_by_role("link", name="Failed logins").focus()
    keeper.page.keyboard.press("Enter")
    keeper.page.wait_for_url("**/admin/auditlog/record/?action=login_failed&since=*")
    assert not faults, "\n".join(faults)


def test_filters_stand_above_the_table_and_open_one_at_a_time(keeper: Visitor) -> None:
    keeper.go(USERS)
    filters, table = keeper.page.locator(".filter"), keeper.page.locator("#result_list")
    above = filters.first.bounding_box()
    below = table.bounding_box()
    assert above and below and above["y"] + above["height"] <= below["y"]
    filters.nth(0).locator("summary").click()
    filters.nth(1).locator("summary").click()
    expect(keeper.page.locator(".filter[open]")).to_have_count(1)
    filters.nth(1).get_by_role("link", name="Yes").click()
    expect(keeper.page.locator(".filter-set")).to_have_count(1)
    expect(keeper.page.locator("#result_list tbody tr")).to_have_count(1)
    keeper.page.get_by_role("link", name="Clear all filters").click()
    expect(keeper.page.locator("#result_list tbody tr")).to_have_count(13)


def test_the_names_of_columns_stay_in_sight_and_a_chosen_theme_is_kept(keeper: Visitor) -> None:
    keeper.page.set_viewport_size({"width": 1280, "height": 420})
    keeper.go(USERS)
    keeper.page.locator("#changelist-form .results").evaluate("box => { box.scrollIntoView(); box.scrollTop = 9999 }")
    expect(keeper.page.locator("#result_list tbody tr").last).to_be_in_viewport()
    expect(keeper.page.locator("#result_list thead th").nth(1)).to_be_in_viewport()
    keeper.page.emulate_media(color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    light = keeper.page.evaluate(ground)
    while keeper.page.evaluate("document.documentElement.dataset.theme") != "dark":
        keeper.page.locator("button.theme-toggle").click()
    keeper.go("/admin/")
    assert keeper.page.evaluate(ground) != light
