"""What the small script does for forms: pasting, looking, copying, sending; and that pages are whole without it."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Arrive, Visitor, make_link
from tests.browser.test_journeys import sign_in
from tests.browser.test_pages import VIEWS, look
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
CLIPBOARD: dict[str, object] = {"permissions": ["clipboard-read", "clipboard-write"]}
READ = "navigator.clipboard.readText()"


def test_a_password_is_pasted_looked_at_and_sent_once(arrive: Arrive) -> None:
    UserFactory.create(username="ada")
    visitor = arrive(**CLIPBOARD)
    visitor.go("/accounts/login/")
    page, field = visitor.page, visitor.page.locator("[name=password]")
    page.evaluate("text => navigator.clipboard.writeText(text)", PASSWORD)
    visitor.fill(username="ada")
    field.press("Control+V")
    expect(field).to_have_value(PASSWORD)
    page.click("text=Show the password")
    expect(field).to_have_attribute("type", "text")
    expect(page.locator(".tool")).to_have_attribute("aria-pressed", "true")
    assert look(visitor, "login-password-shown") == []

    page.route("**/login/", lambda route: route.fulfill(status=204))  # as long as nothing answers, the page stays
    button = page.locator("main [type=submit]")
    button.click()
    expect(button).to_be_disabled()
    expect(button).to_have_text("One moment …")
    expect(field).to_have_attribute("type", "password")
    visitor.screenshot("login-being-sent")
    page.evaluate("() => dispatchEvent(new Event('pageshow'))")  # who comes back may send it again
    expect(button).to_be_enabled()
    expect(button).to_have_text("Sign in")
    page.unroute("**/login/")
    button.click()
    page.wait_for_url("**/accounts/profile/")


def copied(visitor: Visitor) -> str:
    visitor.page.click("text=Copy the link")
    expect(visitor.page.locator("[data-copy] [role=status]")).to_contain_text("Copied.")
    return str(visitor.page.evaluate(READ))


def test_a_link_is_copied_also_where_the_clipboard_is_closed(arrive: Arrive) -> None:
    invitation = make_link(acting_user=UserFactory.create(username="keeper", is_staff=True, is_superuser=True))
    visitor = arrive(**CLIPBOARD)
    sign_in(visitor, "keeper")
    for closed in (False, True):
        visitor.go(f"/accounts/invitations/{invitation.pk}/")
        visitor.page.click("main >> button:text-is('Show the link')")
        if closed:  # as over plain HTTP
            visitor.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('closed')) }")
        link = visitor.page.input_value("#link")
        assert copied(visitor) == link
    visitor.page.evaluate("() => { document.execCommand = () => false }")
    visitor.page.click("text=Copy the link")
    expect(visitor.page.locator("[data-copy] [role=status]")).to_contain_text("It is selected")
    assert visitor.page.evaluate("getSelection().toString()") == link


def test_without_script_what_is_to_be_copied_can_be_selected(arrive: Arrive) -> None:
    UserFactory.create(username="ada")
    visitor = arrive(java_script_enabled=False)
    sign_in(visitor, "ada")
    visitor.go("/accounts/security/second-factor/")
    visitor.page.click("main >> text=Add an authenticator app")
    assert visitor.page.locator("[data-copy]").is_hidden()
    assert visitor.page.eval_on_selector(".key", "key => getComputedStyle(key).userSelect") == "all"


def test_the_style_guide_is_sound(visitor: Visitor) -> None:
    visitor.go("/dev/style/")
    assert VIEWS["light"].ask(visitor.page) == []
    for name, view in VIEWS.items():
        view.put(visitor.page)
        visitor.screenshot(f"style-guide-{name}")


# A page that comes in parts, and ends one of them in the middle of a moment.
IN_PARTS = """async (script) => {
  const pause = () => new Promise((done) => setTimeout(done, 200));
  document.open();
  document.write(`<!doctype html><html lang="en"><script src="${script}"></script><body><p>`);
  await pause();
  document.write('<time data-moment="date" data-zone="UTC" datetime="2026-11-05T10:00:00Z">5 Nov');
  await pause();
  document.write(" 2026</time></p><p>");
  await pause();
  const early = document.querySelector("time").textContent;
  document.close();
  return [early, document.querySelector("time").textContent];
}"""


def test_a_moment_is_written_once_it_has_come_whole(visitor: Visitor) -> None:
    visitor.go("/")
    script = visitor.page.get_attribute("script[src*=moments]", "src")
    assert visitor.page.evaluate(IN_PARTS, script) == ["November 5, 2026"] * 2
