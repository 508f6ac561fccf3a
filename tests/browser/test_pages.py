"""Every page: accessible, narrow, light and dark, light-weight, under the strict policy."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.utils import timezone

from accounts import links
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
    "reset-invalid": "/accounts/password/reset/MQ/set-password/",
    "cancel-erasure-invalid": "/accounts/delete/cancel/",
    "mail-list": "/dev/mail/",
    "404": "/nowhere/",
}
MEMBERS_PAGES = {
    "home-member": "/",
    "profile": "/accounts/profile/",
    "password-change": "/accounts/password/change/",
    "delete-account": "/accounts/delete/",
}
VIEWS = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 800}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 800}},
    "narrow": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}
WEIGHT_LIMIT = 60 * 1024


def inspect(visitor: Visitor, name: str, path: str, view: str, press: str = "") -> list[str]:
    """Look at one page as a critic, perhaps at what a button on it answers; return what is wrong with it."""
    weight: list[int] = []
    if press:
        visitor.go(path)
    visitor.page.on("response", lambda response: weight.append(len(response.body()) if response.ok else 0))
    visitor.page.click(f"main >> button:text-is('{press}')") if press else visitor.go(path)
    visitor.page.wait_for_load_state("networkidle")
    visitor.screenshot(f"page-{name}-{view}")
    faults = [
        f"{name}: {violation['id']}: {violation['help']}"
        for violation in Axe().run(visitor.page).response["violations"]
    ]
    width = visitor.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    if width[0] > width[1]:
        faults.append(f"{name}: scrolls sideways ({width[0]} > {width[1]})")
    if sum(weight) > WEIGHT_LIMIT:
        faults.append(f"{name}: weighs {sum(weight)} bytes")
    return faults


@pytest.mark.parametrize("view", VIEWS)
def test_strangers_pages_are_sound(arrive: Arrive, view: str) -> None:
    faults = []
    for name, path in STRANGERS_PAGES.items():
        faults += inspect(arrive(**VIEWS[view]), name, path, view)
    assert faults == []


@pytest.mark.parametrize("view", VIEWS)
def test_members_pages_are_sound(arrive: Arrive, view: str) -> None:
    UserFactory.create(username="ada", full_name="Ada Lovelace", bio="Analyst.")
    faults = []
    for name, path in MEMBERS_PAGES.items():
        visitor = arrive(**VIEWS[view])
        sign_in(visitor, "ada")
        faults += inspect(visitor, name, path, view)
    assert faults == []


@pytest.mark.parametrize("view", VIEWS)
def test_mailed_pages_are_sound(arrive: Arrive, newest_link: NewestLink, view: str) -> None:
    UserFactory.create(username="ada", email="ada@example.com", email_verified_at=None)
    visitor = arrive(**VIEWS[view])
    visitor.go("/accounts/verify/again/")
    visitor.fill(email="ada@example.com")
    visitor.submit()
    visitor.page.goto(newest_link("ada@example.com"))
    faults = inspect(visitor, "verify-ready", "/accounts/verify/", view)
    visitor.go("/accounts/password/reset/")
    visitor.fill(email="ada@example.com")
    visitor.submit()
    link = newest_link("ada@example.com")
    faults += inspect(arrive(**VIEWS[view]), "reset-ready", link.removeprefix(visitor.site), view)
    assert faults == []


@pytest.mark.parametrize("view", VIEWS)
def test_the_page_that_keeps_an_account_is_sound(arrive: Arrive, view: str) -> None:
    leaver = UserFactory.create(username="ada", erase_at=timezone.now() + timedelta(days=14))
    visitor = arrive(**VIEWS[view])
    visitor.go(links.cancel_erasure_url(leaver).removeprefix(settings.BASE_URL))
    assert inspect(visitor, "cancel-erasure", "/accounts/delete/cancel/", view) == []


@pytest.mark.parametrize("view", VIEWS)
def test_the_page_of_a_locked_out_login_is_sound(arrive: Arrive, view: str) -> None:
    visitor = arrive(**VIEWS[view])
    for _ in range(settings.LOGIN_FAILURE_LIMIT + 1):
        sign_in(visitor, "ada", "wrong")
    assert "30" in visitor.text()
    assert Axe().run(visitor.page).response["violations"] == []
    visitor.screenshot(f"page-429-{view}")


def test_mails_are_shown_as_text_and_html_under_the_policy(visitor: Visitor, tmp_path: object) -> None:
    from accounts import emails

    user = UserFactory.create(username="ada", email="ada@example.com", email_verified_at=None)
    for name in emails.MAILS:
        user.erase_at = timezone.now() if name == "erasure_scheduled" else None
        emails.send(name, user)
    (invitation,) = invite(["grace@example.com"], note="Bring <b>tea</b>.", acting_user=None)
    emails.send_invitation(invitation)
    emails.send_invitation_asked(invitation, user)
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
