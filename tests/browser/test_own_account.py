"""The pages of one's own account in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

import auditlog
from accounts import exporting
from accounts.models import User
from config.worker import Worker
from tests.browser.conftest import Arrive, Visitor
from tests.browser.test_journeys import sign_in
from tests.browser.test_pages import inspect
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
NewestLink = Callable[[str], str]

OLD, NEW = "ada@example.com", "ada@new.example"


def ask_for_new_address(visitor: Visitor) -> None:
    visitor.go("/accounts/email/")
    visitor.fill(email=NEW, password=PASSWORD)
    visitor.submit()


def test_an_address_is_changed_confirmed_and_taken_back(arrive: Arrive, newest_link: NewestLink) -> None:
    ada = UserFactory.create(username="ada", email=OLD)
    visitor = arrive()
    sign_in(visitor, "ada")
    visitor.page.click("nav >> text=E-mail")
    ask_for_new_address(visitor)
    assert f"We have sent a mail to {NEW}" in visitor.text()

    visitor.page.goto(newest_link(NEW))
    assert visitor.page.url.endswith("/accounts/email/confirm/")  # the token has left the address
    visitor.submit()
    assert "Your address is changed." in visitor.text()
    assert User.objects.get().email == NEW

    elsewhere = arrive(java_script_enabled=False)
    elsewhere.page.goto(newest_link(OLD))
    assert elsewhere.page.url.endswith("/accounts/email/undo/")
    elsewhere.submit()
    assert "Your old address is back." in elsewhere.text()
    assert User.objects.get(pk=ada.pk).email == OLD
    visitor.go("/accounts/email/")
    assert "/accounts/login/" in visitor.page.url
    elsewhere.page.goto(newest_link(OLD))
    elsewhere.fill(new_password1="Another-Horse-8-Battery", new_password2="Another-Horse-8-Battery")
    elsewhere.submit()
    sign_in(elsewhere, OLD, "Another-Horse-8-Battery")
    assert elsewhere.page.url.endswith("/accounts/profile/")


def test_pages_of_the_own_account_are_sound(arrive: Arrive, newest_link: NewestLink) -> None:
    ada = UserFactory.create(username="ada", email=OLD, full_name="Ada Lovelace", time_zone="Europe/Berlin")
    exporting.ask_for_data(ada)
    auditlog.record("second_factor_asked", ada)  # a long line
    visitor = arrive()
    sign_in(visitor, "ada", "Wrong-Password-1")
    sign_in(visitor, "ada")
    ask_for_new_address(visitor)
    Worker(once=True).run()
    faults = inspect(visitor, "own-email", "/accounts/email/")
    faults += inspect(visitor, "own-sign-ins", "/accounts/security/sign-ins/")
    faults += inspect(visitor, "own-data", "/accounts/data/")
    faults += inspect(visitor, "own-confirm", newest_link(NEW).removeprefix(visitor.site))
    visitor.submit()
    faults += inspect(visitor, "own-undo", newest_link(OLD).removeprefix(visitor.site))
    assert faults == []


def test_times_are_in_the_zone_that_was_chosen_whatever_the_browsers(arrive: Arrive) -> None:
    UserFactory.create(username="ada", time_zone="Asia/Kolkata")
    UserFactory.create(username="bob")
    shown = {}
    for name in ("ada", "bob"):
        visitor = arrive(timezone_id="America/Lima", locale="en-GB")
        sign_in(visitor, name)
        expect(visitor.page.locator("time >> nth=0")).to_contain_text("GMT")  # the script has been there
        shown[name] = visitor.page.inner_text("time >> nth=0")
        assert (visitor.page.get_attribute("time >> nth=0", "title") or "").endswith(" UTC")
    assert shown["ada"].endswith("GMT+5:30")
    assert shown["bob"].endswith("GMT-5")
