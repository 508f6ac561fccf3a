"""What people do, from the first page to the last, in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.core import mail
from django.utils import timezone

from accounts.models import Invitation, User
from auditlog import acting_as
from config import mail_preview
from config.worker import Worker
from tests.browser.conftest import Arrive, Visitor, invite, make_link
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
NewestLink = Callable[[str], str]


def sign_in(visitor: Visitor, name: str, password: str = PASSWORD) -> None:
    visitor.go("/accounts/login/")
    visitor.fill(username=name, password=password)
    visitor.submit()


def with_or_without(javascript: bool) -> str:
    return "with-javascript" if javascript else "without-javascript"


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
    visitor.screenshot(f"journey-signup-{with_or_without(javascript)}")

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


@pytest.mark.parametrize("javascript", [True, False])
def test_a_forgotten_password_is_replaced(arrive: Arrive, newest_link: NewestLink, javascript: bool) -> None:
    owner = UserFactory.create(username="owner")
    visitor = arrive(java_script_enabled=javascript)
    visitor.go("/accounts/login/")
    visitor.page.click("text=Choose a new one")
    visitor.fill(email=owner.email)
    visitor.submit()
    visitor.page.goto(newest_link(owner.email))
    visitor.screenshot(f"journey-reset-{with_or_without(javascript)}")
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
    for _button in ("show the password", "suggest one"):
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
    visitor.page.evaluate("history.back()")  # go_back() fails when the new page is not attached yet
    visitor.page.wait_for_url("**/accounts/signup/")
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


@pytest.mark.parametrize("javascript", [True, False])
def test_an_invited_person_comes_in_by_mail_and_signs_in_at_once(arrive: Arrive, javascript: bool) -> None:
    UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True)
    administrator = arrive(java_script_enabled=javascript)
    sign_in(administrator, "gatekeeper")
    administrator.go("/")
    administrator.page.click("main >> text=Invitations")
    administrator.fill(emails="Grace@Example.com", note="Bring <b>tea</b>.")
    administrator.page.check("text=Support")
    administrator.submit()
    assert "1 invitation is on its way." in administrator.text()

    Worker(once=True).run()
    mail_preview.MailDirectoryBackend().send_messages(mail.outbox)
    invited = arrive(java_script_enabled=javascript)
    invited.go("/dev/mail/")
    invited.page.click("main >> text=You are invited to Gatehouse")
    assert "Bring <b>tea</b>." in invited.text()
    invited.page.click("main a[href*='/accounts/invitation/']")
    assert invited.page.url.endswith("/accounts/invitation/")  # the token has left the address
    assert "gatekeeper has invited you" in invited.text()
    assert "Bring <b>tea</b>." in invited.page.inner_text("blockquote")
    assert invited.page.input_value("[name=email]") == "Grace@Example.com"
    assert invited.page.is_disabled("[name=email]")
    invited.screenshot(f"journey-invited-{with_or_without(javascript)}")
    invited.fill(username="grace", password=PASSWORD)
    invited.submit()
    assert "Welcome. You can sign in now." in invited.text()
    invited.fill(username="grace", password=PASSWORD)
    invited.submit()
    assert invited.page.url.endswith("/accounts/profile/")

    administrator.page.click("main >> text=Grace@Example.com")
    assert "Used\n1 of 1" in administrator.text()
    assert "grace" in administrator.page.inner_text(".people")
    assert administrator.page.locator("main form").count() == 0  # nothing is left to do
    grace = User.objects.get(username="grace")
    assert (grace.email_verified_at is not None, [str(role) for role in grace.groups.all()]) == (True, ["Support"])


def test_who_comes_too_late_asks_for_a_new_invitation_and_gets_it(arrive: Arrive, newest_link: NewestLink) -> None:
    gatekeeper = UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True)
    invite(["late@example.com"], acting_user=gatekeeper)
    link = newest_link("late@example.com")
    long_ago = timezone.now() - timedelta(days=20)
    Invitation.objects.update(expires_at=long_ago, sent_at=long_ago)
    late = arrive()
    late.page.goto(link)
    late.submit()
    assert "We have told the person who invited you." in late.text()

    administrator = arrive()
    sign_in(administrator, "gatekeeper")
    administrator.page.goto(newest_link("gatekeeper@example.com"))
    assert "Expired" in administrator.page.inner_text(".state")
    administrator.page.click("main >> button:text-is('Send again')")
    assert "Open" in administrator.page.inner_text(".state")
    assert newest_link("late@example.com") == link
    late.page.goto(link)
    assert late.page.is_disabled("[name=email]")


def test_an_inviter_shows_replaces_and_revokes_a_link(arrive: Arrive) -> None:
    invitation = make_link(acting_user=UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True))
    administrator, holder = arrive(), arrive()
    sign_in(administrator, "gatekeeper")
    administrator.go(f"/accounts/invitations/{invitation.pk}/")
    assert "/accounts/invitation/" not in administrator.page.content()

    shown = []
    for _round in range(2):
        administrator.page.click("main >> button:text-is('Show the link')")
        shown.append(administrator.page.input_value("[readonly]"))
        answer = holder.page.goto(shown[-1])
        assert "You are invited" in holder.text()
        assert 'content="noindex"' in holder.page.content()
        opened = answer and answer.request.redirected_from
        headers = opened and opened.response()
        assert headers
        assert headers.header_value("Referrer-Policy") == "no-referrer"
        assert headers.header_value("X-Robots-Tag") == "noindex"
        assert "no-store" in (headers.header_value("Cache-Control") or "")
        administrator.page.click("main >> summary:has-text('Replace the link')")  # also from the page with the link
        administrator.page.click("main >> button:text-is('Yes, end the old link')")
    holder.page.goto(shown[0])
    assert "This invitation is not valid" in holder.text()
    assert shown[0] != shown[1]

    administrator.page.click("main >> summary:has-text('Revoke')")
    administrator.page.click("main >> button:text-is('Yes, revoke it')")
    assert "Revoked" in administrator.page.inner_text(".state")
    assert administrator.page.locator("main form").count() == 0


def test_one_browser_signs_the_other_out_at_its_next_click(arrive: Arrive) -> None:
    UserFactory.create(username="ada")
    laptop, phone = (
        arrive(),
        arrive(user_agent="Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    )
    for browser in (laptop, phone):
        sign_in(browser, "ada")
    laptop.page.click(".account-nav >> text=Devices")
    assert "Firefox on Linux" in laptop.text()
    laptop.screenshot("journey-devices")
    laptop.page.click("main li:has-text('Firefox on Linux') >> button")
    assert "That device is signed out." in laptop.text()
    assert "Firefox on Linux" not in laptop.text()
    phone.page.click(".account-nav >> text=Devices")
    assert "/accounts/login/?next=/accounts/security/sessions/" in phone.page.url
    laptop.go("/accounts/profile/")
    assert laptop.page.url.endswith("/accounts/profile/")


def test_an_administrator_invites_a_file_of_people(arrive: Arrive, tmp_path: Path) -> None:
    UserFactory.create(username="gatekeeper", is_staff=True, is_superuser=True)
    file = tmp_path / "guests.csv"
    file.write_text("email,roles,note\nada@example.com,Support,Hello\nnonsense,,\ngrace@example.com,,\n")
    administrator = arrive()
    sign_in(administrator, "gatekeeper")
    administrator.go("/admin/accounts/import/add/")
    administrator.page.check("[name=kind][value=invitations]")
    administrator.page.set_input_files("#id_file", str(file))
    administrator.page.click("text='Check the file'")
    assert "2 to do" in administrator.text()
    administrator.screenshot("journey-csv-verdicts")
    administrator.page.click("text='Import now'")
    Worker(once=True).run()
    administrator.page.reload()
    assert "2 done" in administrator.text()
    administrator.go("/admin/accounts/invitation/")
    administrator.screenshot("journey-csv-invited")
    assert administrator.page.locator("#result_list tbody tr").count() == 2
    assert sorted(message.to[0] for message in mail.outbox if "invited" in message.subject) == [
        "ada@example.com",
        "grace@example.com",
    ]


def test_an_auditor_finds_who_changed_what(arrive: Arrive) -> None:
    keeper = UserFactory.create(username="keeper", is_staff=True, is_superuser=True)
    ada = UserFactory.create(username="ada", full_name="Ada")
    auditor = UserFactory.create(username="auditor", is_staff=True)
    auditor.groups.set(Group.objects.filter(name="Auditor"))
    with acting_as(keeper, reason="She asked for it by letter."):
        ada.full_name = "Ada Lovelace"
        ada.save()
    visitor = arrive()
    sign_in(visitor, "auditor")
    visitor.go("/admin/")
    visitor.page.click("#content >> text=Audit trail >> nth=-1")
    visitor.fill(q="ada")
    visitor.page.press("[name=q]", "Enter")
    visitor.page.click("main tbody th a >> nth=0")
    shown = visitor.text()
    assert all(words in shown for words in ("keeper", "She asked for it by letter.", "Ada Lovelace"))
    visitor.screenshot("journey-auditor")
