"""Pages in German, whose words are longer, and from right to left: nothing is cut off or out of place."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect
from pytest_django.fixtures import Settings

from accounts.models import User
from tests.browser.conftest import Arrive, Visitor, make_link
from tests.browser.test_journeys import sign_in
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
WIDTHS = (1280, 360)
STRANGERS_PAGES = ("/", "/accounts/signup/")
KEEPERS_PAGES = ("/accounts/profile/", "/accounts/invitations/", "/health/")
CONSOLE = ("/admin/accounts/user/", "/admin/accounts/user/add/")
# Elements whose text is wider than they are and is not shown; what is for screen readers alone is a pixel wide.
CUT_OFF = """() => [...document.querySelectorAll("main *, #content *, header *")].filter((element) => {
  const hides = ["hidden", "clip"].includes(getComputedStyle(element).overflowX);
  const icon = element.matches(".selector-add, .selector-remove, .theme-toggle *");  // their words are pictures
  return hides && !icon && element.clientWidth > 2 && element.scrollWidth > element.clientWidth + 1;
}).map((element) => element.outerHTML.slice(0, 100))"""


def faults_of(visitor: Visitor, language: str, *paths: str) -> list[str]:
    faults = []
    for path in paths:
        visitor.go(path)
        if visitor.page.get_attribute("html", "lang") != language:
            faults.append(f"{path} speaks another language")
        for width in WIDTHS:
            visitor.page.set_viewport_size({"width": width, "height": 800})
            found = visitor.page.evaluate("document.documentElement.scrollWidth")
            if found > width:
                faults.append(f"{path}, {width}: scrolls sideways ({found})")
            faults += [f"{path}, {width}: cut off: {html}" for html in visitor.page.evaluate(CUT_OFF)]
        visitor.screenshot(f"language-{language}{path.rstrip('/').replace('/', '-')}")
    return faults


@pytest.fixture
def keeper(db: None) -> User:
    keeper = UserFactory.create(username="keeper", full_name="The Keeper", is_staff=True, is_superuser=True)
    make_link(acting_user=keeper, note="For the choir")
    return keeper


def test_pages_hold_the_longer_words_of_german(arrive: Arrive, keeper: User) -> None:
    visitor = arrive(locale="de")
    faults = faults_of(visitor, "de", *STRANGERS_PAGES)
    sign_in(visitor, keeper.username)
    assert faults + faults_of(visitor, "de", *KEEPERS_PAGES, *CONSOLE) == []


def test_from_right_to_left_pages_begin_at_the_right(arrive: Arrive, settings: Settings, keeper: User) -> None:
    settings.LANGUAGES = [*settings.LANGUAGES, ("ar", "العربيّة")]
    visitor = arrive(locale="ar")
    page = visitor.page
    sign_in(visitor, keeper.username)
    faults = faults_of(visitor, "ar", *CONSOLE, "/health/", "/accounts/profile/")
    expect(page.locator("html")).to_have_attribute("dir", "rtl")
    visitor.submit()
    for beginning in (".wordmark", ".message", "h1"):
        place = page.locator(beginning).first.bounding_box()
        assert place and 320 < place["x"] + place["width"] <= 344, beginning
    page.keyboard.press("Tab")
    skip = page.locator(".skip")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport(ratio=1)
    place = skip.bounding_box()
    assert place and place["x"] + place["width"] == 344
    page.set_viewport_size({"width": 1280, "height": 800})
    visitor.go(CONSOLE[0])
    sidebar, content = page.locator("#nav-sidebar").bounding_box(), page.locator("#content").bounding_box()
    assert sidebar and content and content["x"] + content["width"] <= sidebar["x"] <= 1280 - sidebar["width"]
    assert faults == []
