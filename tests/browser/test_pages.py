"""Every page: accessible, narrow, light and dark, light-weight, under the strict policy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, Response

from accounts import links
from accounts.models import Session
from config import mail_preview
from tests.browser.conftest import Arrive, Visitor, invite
from tests.browser.test_journeys import sign_in
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
NewestLink = Callable[[str], str]

STRANGERS_PAGES = {
    "home": "/",
    "signup": "/accounts/signup/",
    "login": "/accounts/login/",
    "verify": "/accounts/verify/",
    "verify-again": "/accounts/verify/again/",
    "reset": "/accounts/password/reset/",
    "reset-sent": "/accounts/password/reset/sent/",
    "password-suggestion": "/accounts/password/suggestion/",
    "reset-invalid": "/accounts/password/reset/MQ/set-password/",
    "cancel-erasure-invalid": "/accounts/delete/cancel/",
    "mail-list": "/dev/mail/",
    "404": "/nowhere/",
}
MEMBERS_PAGES = {
    "home-member": "/",
    "profile": "/accounts/profile/",
    "password-change": "/accounts/password/change/",
    "sessions": "/accounts/security/sessions/",
    "confirm": "/accounts/confirm/?next=/accounts/profile/",
    "delete-account": "/accounts/delete/",
}


@dataclass(frozen=True)
class View:
    """How a page is looked at; `rules` are those of axe that can find something new in it, all if there are none."""

    scheme: Literal["light", "dark"]
    width: int
    rules: tuple[str, ...] = ()

    def put(self, page: Page) -> None:
        page.emulate_media(color_scheme=self.scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": self.width, "height": 800})

    def ask(self, page: Page) -> list[str]:
        """Return what axe finds wrong."""
        # Without its own copies of style sheets, which the policy would not let it add to the page.
        options = {"resultTypes": ["violations"], "preload": False} | (
            {"runOnly": list(self.rules)} if self.rules else {}
        )
        if not page.evaluate("'axe' in window"):  # half a megabyte of script, once for all views of a page
            page.evaluate(Axe().axe_script)
        found = page.evaluate("options => axe.run(options)", options)["violations"]
        return [f"{each['id']}: {each['help']} {each['nodes'][0]['html'][:150]}" for each in found]


# A page is loaded once and looked at three times: loading costs more than looking.
VIEWS = {
    "light": View("light", 1280),
    "dark": View("dark", 1280, rules=("color-contrast", "link-in-text-block")),
    "narrow": View("light", 360, rules=("scrollable-region-focusable",)),
}
MOST_SENT = 60 * 1024  # bytes over the line, of a page of the site not even unpacked


def inspect(visitor: Visitor, name: str, path: str, press: str = "") -> list[str]:
    """Look at one page as a critic, perhaps at what a button on it answers; return what is wrong with it."""
    weight: list[int] = []

    def weigh(response: Response) -> None:
        weight.append(len(response.body()) if response.ok else 0)

    if press:
        visitor.go(path)
        visitor.sent.clear()
    visitor.page.on("response", weigh)
    visitor.page.click(f"main >> button:text-is('{press}')") if press else visitor.go(path)
    visitor.page.wait_for_load_state("load")
    visitor.page.remove_listener("response", weigh)  # what an open page asks for later is no part of it
    faults = [f"{name}: weighs {sum(weight)} bytes"] if sum(weight) > MOST_SENT else []
    return faults + came_quietly(visitor, name) + look(visitor, f"page-{name}")


def came_quietly(visitor: Visitor, name: str) -> list[str]:
    """Return what was wrong with how the page came that was just opened: too heavy, or moving after it was drawn."""
    sent = sum(visitor.sent)
    faults = [f"{name}: {sent} bytes were sent"] if sent > MOST_SENT else []
    return faults + [f"{name}: {shift}" for shift in visitor.page.evaluate("settled()")]


def look(visitor: Visitor, name: str) -> list[str]:
    """Look at the page that is open in every view; return what is wrong with it."""
    faults = []
    for view, how in VIEWS.items():
        how.put(visitor.page)
        visitor.screenshot(f"{name}-{view}")
        faults += [f"{name}, {view}: {fault}" for fault in how.ask(visitor.page)]
        width = visitor.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        if width[0] > width[1]:
            faults.append(f"{name}, {view}: scrolls sideways ({width[0]} > {width[1]})")
    VIEWS["light"].put(visitor.page)
    return faults


def test_strangers_pages_are_sound(arrive: Arrive) -> None:
    faults, visitor = [], arrive()
    for name, path in STRANGERS_PAGES.items():
        faults += inspect(visitor, name, path)
    assert faults == []


def test_members_pages_are_sound(arrive: Arrive) -> None:
    ada = UserFactory.create(username="ada", full_name="Ada Lovelace", bio="Analyst.")
    Client().force_login(ada)
    Session.objects.update(agent="W" * 200 + "Bot/1.0", address="2001:db8:ffff:ffff:ffff:ffff:ffff:fffe")
    faults = []
    visitor = arrive()
    sign_in(visitor, "ada")
    for name, path in MEMBERS_PAGES.items():
        faults += inspect(visitor, name, path)
    assert faults == []


def test_mailed_pages_are_sound(arrive: Arrive, newest_link: NewestLink) -> None:
    UserFactory.create(username="ada", email="ada@example.com", email_verified_at=None)
    visitor = arrive()
    visitor.go("/accounts/verify/again/")
    visitor.fill(email="ada@example.com")
    visitor.submit()
    visitor.page.goto(newest_link("ada@example.com"))
    faults = inspect(visitor, "verify-ready", "/accounts/verify/")
    visitor.go("/accounts/password/reset/")
    visitor.fill(email="ada@example.com")
    visitor.submit()
    link = newest_link("ada@example.com")
    faults += inspect(arrive(), "reset-ready", link.removeprefix(visitor.site))
    assert faults == []


def test_the_page_that_keeps_an_account_is_sound(arrive: Arrive) -> None:
    leaver = UserFactory.create(username="ada", erase_at=timezone.now() + timedelta(days=14))
    visitor = arrive()
    visitor.go(links.cancel_erasure_url(leaver).removeprefix(settings.BASE_URL))
    assert inspect(visitor, "cancel-erasure", "/accounts/delete/cancel/") == []


def test_the_page_of_a_locked_out_login_is_sound(arrive: Arrive) -> None:
    visitor = arrive()
    for _ in range(settings.LOGIN_FAILURE_LIMIT + 1):
        sign_in(visitor, "ada", "wrong")
    assert "30" in visitor.text()
    assert look(visitor, "page-429") == []


def test_mails_are_shown_as_text_and_html_under_the_policy(visitor: Visitor, tmp_path: object) -> None:
    from accounts import emails

    user = UserFactory.create(username="ada", email="ada@example.com", email_verified_at=None)
    for name in emails.MAILS:
        user.erase_at = timezone.now() if name == "erasure_scheduled" else None
        emails.send(name, user)
    (invitation,) = invite(["grace@example.com"], note="Bring <b>tea</b>.", acting_user=None)
    emails.send_invitation(invitation, "en")
    emails.send_invitation_asked(invitation, user)
    emails.send_new_device(user, "Firefox on Linux", "198.51.100.7", datetime(2041, 5, 6, 7, 8, tzinfo=UTC))
    # pytest-django keeps mails in memory; put them where the preview looks.
    from django.core import mail

    mail_preview.MailDirectoryBackend().send_messages(mail.outbox)
    for number, message in enumerate(mail.outbox):
        visitor.go("/dev/mail/")
        visitor.page.click(f"main >> text={message.subject}")
        assert message.to[0] in visitor.text()
        visitor.screenshot(f"mail-{number}-text")
        visitor.go(f"/dev/mail/{visitor.page.url.rstrip('/').rsplit('/', 1)[1]}/html/")
        visitor.screenshot(f"mail-{number}-html")
