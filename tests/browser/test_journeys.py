"""What people do, from the first page to the last, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from accounts.models import User
from tests.browser.conftest import Arrive, Visitor
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
NewestLink = Callable[[str], str]


def sign_in(visitor: Visitor, name: str, password: str = PASSWORD) -> None:
    visitor.go("/accounts/login/")
    visitor.fill(username=name, password=password)
    visitor.submit()


@pytest.mark.parametrize("javascript", [True, False])
def test_a_stranger_signs_up_confirms_and_signs_in(arrive: Arrive, newest_link: NewestLink, javascript: bool) -> None:
    visitor = arrive(java_script_enabled=javascript)
    visitor.go("/")
    visitor.page.click("main >> text=Create an account")
    visitor.fill(username="Ada.Lovelace", email="Ada@Example.com", full_name="Ada Lovelace", password=PASSWORD)
    visitor.submit()
    assert visitor.page.url.endswith("/accounts/login/")
    assert "Ada@Example.com" in visitor.text()

    visitor.page.goto(newest_link("Ada@Example.com"))
    assert visitor.page.url.endswith("/accounts/verify/")  # the token has left the address
    visitor.submit()
    visitor.fill(username="ada.lovelace", password=PASSWORD)
    visitor.submit()
    assert visitor.page.url.endswith("/accounts/profile/")
    assert "Ada Lovelace" in visitor.page.content()
    visitor.screenshot(f"journey-signup-{'with' if javascript else 'without'}-javascript")

    visitor.page.click("header >> text=Sign out")
    visitor.go("/accounts/profile/")
    assert "/accounts/login/?next=/accounts/profile/" in visitor.page.url
    assert User.objects.get().login_count == 1


def test_a_refused_form_says_why_at_the_top_and_beside_the_field(visitor: Visitor) -> None:
    UserFactory.create(username="ada")
    visitor.go("/accounts/signup/")
    visitor.fill(username="ADA", email="new@example.com", password="short")
    visitor.submit()
    summary = visitor.page.locator("[role=alert]").inner_text()
    assert "already taken" in summary
    assert "at least 12 characters" in summary
    assert visitor.page.input_value("[name=username]") == "ADA"
    assert visitor.page.input_value("[name=password]") == ""
    described = visitor.page.get_attribute("[name=username]", "aria-describedby") or ""
    assert "id_username_error" in described
    assert "already taken" in visitor.page.inner_text("#id_username_error")
    assert visitor.page.get_attribute("[name=username]", "aria-invalid") == "true"
    visitor.screenshot("signup-refused")


def test_a_forgotten_password_is_replaced(visitor: Visitor, newest_link: NewestLink) -> None:
    owner = UserFactory.create(username="owner")
    visitor.go("/accounts/login/")
    visitor.page.click("text=Choose a new one")
    visitor.fill(email=owner.email)
    visitor.submit()
    visitor.page.goto(newest_link(owner.email))
    visitor.screenshot("journey-reset")
    new = "Another-Horse-8-Battery"
    visitor.fill(new_password1=new, new_password2=new)
    visitor.submit()
    sign_in(visitor, "owner", new)
    assert visitor.page.url.endswith("/accounts/profile/")


def test_the_whole_signup_works_by_keyboard(visitor: Visitor) -> None:
    visitor.go("/accounts/signup/")
    visitor.page.keyboard.press("Tab")
    assert "Skip" in str(visitor.page.evaluate("document.activeElement.textContent"))
    visitor.page.keyboard.press("Enter")
    visitor.page.keyboard.press("Tab")
    for value in ("keyboard.user", "keyboard@example.com", "", PASSWORD):
        visitor.page.keyboard.type(value)
        visitor.page.keyboard.press("Tab")
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url("**/accounts/login/")
    assert User.objects.get().username == "keyboard.user"


def test_a_double_click_makes_one_account_and_one_friendly_page(visitor: Visitor) -> None:
    visitor.go("/accounts/signup/")
    visitor.fill(username="twice", email="twice@example.com", password=PASSWORD)
    visitor.page.dblclick("main [type=submit]", no_wait_after=True)
    visitor.page.wait_for_url("**/accounts/login/")
    assert "Almost done" in visitor.text()
    assert User.objects.count() == 1


def test_going_back_and_sending_again_gets_the_first_answer(visitor: Visitor) -> None:
    visitor.go("/accounts/signup/")
    visitor.fill(username="again", email="again@example.com", password=PASSWORD)
    visitor.submit()
    visitor.page.go_back()
    visitor.fill(username="again", email="again@example.com", password=PASSWORD)
    visitor.submit()
    assert visitor.page.url.endswith("/accounts/login/")
    assert "Almost done" in visitor.text()
    assert User.objects.count() == 1


def test_an_administrator_adds_a_colleague_who_chooses_a_password(arrive: Arrive, newest_link: NewestLink) -> None:
    UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True)
    administrator = arrive()
    administrator.go("/admin/")
    administrator.fill(username="gatekeeper", password=PASSWORD)
    administrator.page.click("[type=submit]")
    administrator.go("/admin/accounts/user/add/")
    administrator.fill(username="colleague", email="colleague@example.com")
    administrator.screenshot("admin-add-user")
    administrator.page.click("[name=_save]")
    administrator.go("/admin/accounts/user/?q=coll")
    assert "colleague@example.com" in administrator.page.inner_text("#result_list")
    administrator.screenshot("admin-users")

    colleague = arrive()
    colleague.page.goto(newest_link("colleague@example.com"))
    colleague.fill(new_password1=PASSWORD, new_password2=PASSWORD)
    colleague.submit()
    sign_in(colleague, "colleague")
    assert colleague.page.url.endswith("/accounts/profile/")
