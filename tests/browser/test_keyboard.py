"""Whole journeys without a mouse: all can be reached, and one always sees where one is (WCAG 2.2, 2.1.1 and 2.4.7)."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from playwright.sync_api import Locator, expect

from accounts.models import Invitation, User
from config.worker import Worker
from tests.browser.conftest import Visitor
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
MOST_STOPS = 120  # until somebody at a keyboard gives up
# What the focused element, or a part of it or around it, shows of that; nothing if nobody can see where they are.
SEEN = """(element) => {
  const box = element.getBoundingClientRect();
  const shown = box.width > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
  const ringed = [element, ...element.querySelectorAll("*")].some((each) => {
    const style = getComputedStyle(each);
    return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  });
  return shown && ringed;
}"""


def reach(visitor: Visitor, wanted: Locator) -> None:
    """Press Tab until `wanted` has the focus, seeing at every stop where that is."""
    for _stop in range(MOST_STOPS):
        if wanted.evaluate("element => element === document.activeElement"):
            return
        visitor.page.keyboard.press("Tab")
        focused = visitor.page.locator(":focus")
        if focused.count():
            assert focused.evaluate(SEEN), (
                f"nobody sees that this is focused: {focused.evaluate('e => e.outerHTML')[:150]}"
            )
    raise AssertionError(f"Tab does not lead to {wanted}")


def type_into(visitor: Visitor, name: str, text: str) -> None:
    reach(visitor, visitor.page.locator(f"[name={name}]"))
    visitor.page.keyboard.type(text)


def press_on(visitor: Visitor, role: str, name: str, key: str = "Enter") -> None:
    reach(visitor, visitor.page.get_by_role(role, name=name, exact=True).first)  # type: ignore[arg-type]
    visitor.page.keyboard.press(key)


def sign_in(visitor: Visitor, path: str, name: str) -> None:
    visitor.go(path)
    type_into(visitor, "username", name)
    type_into(visitor, "password", PASSWORD)
    visitor.page.keyboard.press("Enter")
    visitor.page.wait_for_url(lambda address: "login" not in address)


def test_a_member_changes_their_name_invites_a_friend_and_leaves(visitor: Visitor) -> None:
    member = UserFactory.create(username="member")
    member.groups.add(Group.objects.get(name="Administrator"))  # whose members may invite
    sign_in(visitor, "/accounts/login/", "member")
    type_into(visitor, "full_name", "Ada Lovelace")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator(".message")).to_be_visible()
    press_on(visitor, "link", "Gatehouse")
    visitor.page.wait_for_url(f"{visitor.site}/")
    press_on(visitor, "link", "Invitations")
    visitor.page.wait_for_url("**/accounts/invitations/")
    type_into(visitor, "emails", "friend@example.com")
    press_on(visitor, "button", "Invite")
    expect(visitor.page.locator(".message")).to_contain_text("on its way")
    press_on(visitor, "button", "Sign out")
    visitor.page.wait_for_url("**/accounts/login/")
    Worker(once=True).run()
    assert User.objects.get().full_name == "Ada Lovelace"
    assert Invitation.objects.get().email == mail.outbox[-1].to[0] == "friend@example.com"


def test_an_administrator_finds_somebody_and_shuts_them_out(visitor: Visitor) -> None:
    UserFactory.create(username="keeper", is_staff=True, is_superuser=True)
    UserFactory.create_batch(3)
    leaver = UserFactory.create(username="leaver")
    sign_in(visitor, "/admin/", "keeper")
    press_on(visitor, "link", "Users")
    type_into(visitor, "q", "leav")
    visitor.page.keyboard.press("Enter")
    rows = visitor.page.locator("#result_list tbody tr")
    expect(rows).to_have_count(1)
    reach(visitor, rows.locator("[type=checkbox]"))
    visitor.page.keyboard.press("Space")
    reach(visitor, visitor.page.locator("select[name=action]"))
    visitor.page.keyboard.type("Shut")
    expect(visitor.page.locator("select[name=action]")).to_have_value("deactivate")
    press_on(visitor, "button", "Go")
    type_into(visitor, "reason", "left the choir")
    visitor.page.keyboard.press("Enter")
    expect(visitor.page.locator(".messagelist")).to_be_visible()
    leaver.refresh_from_db()
    assert not leaver.is_active
