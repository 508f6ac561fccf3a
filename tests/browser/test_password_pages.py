"""A new password while it is typed: verdict, suggestion and sight of it, with script and without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from accounts import meter
from accounts.models import User
from accounts.policy import judge
from tests.browser.conftest import Arrive, Visitor
from tests.browser.test_journeys import sign_in
from tests.browser.test_pages import look
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
NewestLink = Callable[[str], str]


@pytest.fixture(autouse=True)
def nobody_has_asked_yet() -> None:
    meter.budget.clear()


def summary_is(visitor: Visitor, password: str, **own: str) -> None:
    """Wait until the page says what the judge says."""
    expect(visitor.page.locator("[data-summary]")).to_have_text(judge(password, User(**own)).summary)


def test_the_verdict_follows_what_is_typed(visitor: Visitor) -> None:
    visitor.go("/accounts/signup/")
    expect(visitor.page.locator("[data-verdict]")).to_be_hidden()
    visitor.fill(password="letmein")
    summary_is(visitor, "letmein")
    assert visitor.page.locator("[data-reasons] li").all_inner_texts() == judge("letmein").reasons
    assert visitor.page.locator("[data-advice] li").all_inner_texts() == judge("letmein").advice
    assert look(visitor, "password-refused") == []
    visitor.fill(password="Annabelle-Lee-1")
    summary_is(visitor, "Annabelle-Lee-1")
    visitor.fill(username="annabelle-lee")  # the password has become that of its owner
    summary_is(visitor, "Annabelle-Lee-1", username="annabelle-lee")
    visitor.fill(password=PASSWORD)
    summary_is(visitor, PASSWORD)
    assert visitor.page.locator("meter").evaluate("meter => meter.value") == judge(PASSWORD).score
    assert look(visitor, "password-accepted") == []
    visitor.fill(password="")
    expect(visitor.page.locator("[data-verdict]")).to_be_hidden()


def test_a_suggestion_fills_both_fields_and_can_be_used(visitor: Visitor) -> None:
    UserFactory.create(username="ada")
    sign_in(visitor, "ada")
    visitor.go("/accounts/password/change/")
    first, again = visitor.page.locator("[name=new_password1]"), visitor.page.locator("[name=new_password2]")
    visitor.page.click("text=Suggest a password")
    expect(first).not_to_have_value("")
    made = first.input_value()
    summary_is(visitor, made)
    assert again.input_value() == made
    assert first.get_attribute("type") == again.get_attribute("type") == "text"
    assert "This password was made for you" in visitor.text()
    assert look(visitor, "password-suggested") == []
    visitor.page.click("[data-show]")  # and hide it again
    assert first.get_attribute("type") == "password"
    visitor.fill(old_password=PASSWORD)
    visitor.submit()
    assert visitor.page.url.endswith("/accounts/profile/")
    assert User.objects.get().check_password(made)


def test_the_reset_page_knows_whose_password_it_is(visitor: Visitor, newest_link: NewestLink) -> None:
    owner = UserFactory.create(username="ada", email="ada@example.com", full_name="Annabelle Lee")
    visitor.go("/accounts/password/reset/")
    visitor.fill(email=owner.email)
    visitor.submit()
    visitor.page.goto(newest_link(owner.email))
    visitor.fill(new_password1="Annabelle-Lee-1")
    summary_is(visitor, "Annabelle-Lee-1", full_name="Annabelle Lee")
    assert not judge("Annabelle-Lee-1", owner).accepted


def test_without_script_the_verdict_comes_with_the_answer(arrive: Arrive) -> None:
    visitor = arrive(java_script_enabled=False)
    visitor.go("/accounts/signup/")
    expect(visitor.page.locator("[data-verdict]")).to_be_hidden()
    visitor.fill(username="ada", email="ada@example.com", password="letmein")
    visitor.submit()
    summary_is(visitor, "letmein")
    shown = visitor.page.locator(".new-password .errorlist li, [data-reasons] li").all_inner_texts()
    assert shown == judge("letmein").reasons
    visitor.screenshot("password-refused-without-script")
    with visitor.page.context.expect_page() as opened:
        visitor.page.click("text=Suggest a password (new tab)")
    made = opened.value.locator("code").first.inner_text()
    visitor.fill(password=made)  # the form has kept what was typed
    visitor.submit()
    assert visitor.page.url.endswith("/accounts/login/")
    assert User.objects.get().check_password(made)


def test_the_form_works_when_the_meter_does_not_answer(visitor: Visitor) -> None:
    visitor.page.route("**/accounts/password/meter/", lambda route: route.abort())
    visitor.go("/accounts/signup/")
    with visitor.page.expect_request("**/accounts/password/meter/"):
        visitor.fill(username="ada", email="ada@example.com", password=PASSWORD)
    visitor.submit()
    assert visitor.page.url.endswith("/accounts/login/")
    visitor.complaints[:] = [each for each in visitor.complaints if "ERR_FAILED" not in each]
