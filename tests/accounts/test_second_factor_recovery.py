"""Beginning anew by a link that an administrator sends and never sees."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core import mail, signing
from django.db import connections
from django.test import Client
from structlog.testing import capture_logs

from accounts.models import User
from accounts.second_factor import events, factors
from accounts.second_factor.models import RecoveryCodes, RecoveryLink
from auditlog.models import Record
from tests.accounts.conftest import jobs, link_in, run_jobs, sign_in, text_of
from tests.accounts.phones import OVERVIEW, SECOND_STEP, Phone, give_phone, show_code
from tests.accounts.test_events import Trail
from tests.factories import PASSWORD, UserFactory
from tests.live import at_once

pytestmark = pytest.mark.django_db
USERS = "/admin/accounts/user/"
RECOVERY = f"{SECOND_STEP}recovery/"


def send_link(browser: Client, *users: User) -> str:
    """Choose the action in the admin; returns the page that follows."""
    chosen = [str(user.pk) for user in users]
    fields = {"action": "send_recovery_link", "_selected_action": chosen, "index": "0"}
    return text_of(browser.post(USERS, fields, follow=True))


@pytest.fixture
def link(owner: User, phone: Phone, admins_browser: Client) -> str:
    """The path of a link that was just sent to the owner."""
    run_jobs()
    send_link(admins_browser, owner)
    return link_in(run_jobs()[-1])


def test_from_the_admin_to_a_new_set_up(owner: User, phone: Phone, admins_browser: Client, stranger: Client) -> None:
    run_jobs()
    trail = Trail()
    page = send_link(admins_browser, owner)
    assert "1 mail is on its way." in page
    assert ("second_factor_recovery", "accounts.user", "owner", None) in trail.seen
    assert factors.is_on(owner)
    (message,) = run_jobs()
    assert message.to == [owner.email]
    link = link_in(message)
    assert link not in page

    opened = stranger.get(link)
    assert (opened.status_code, opened["Location"]) == (303, RECOVERY)
    assert "First your password" in text_of(stranger.get(RECOVERY))
    assert stranger.post(RECOVERY).status_code == 404
    assert factors.is_on(owner)
    sign_in(stranger, "owner")
    assert RECOVERY in text_of(stranger.get(SECOND_STEP))
    assert "Remove them and sign in" in text_of(stranger.get(RECOVERY))
    assert factors.is_on(owner)
    trail = Trail()
    assert stranger.post(RECOVERY)["Location"] == OVERVIEW
    assert stranger.get("/accounts/profile/").status_code == 200
    assert not factors.is_on(owner)
    assert not RecoveryCodes.objects.exists()
    reason = "second factor recovered by a mailed link"
    assert ("second_factor_recovered", "accounts.user", "owner", reason) in trail.seen
    assert [message.subject for message in run_jobs()] == ["Your second factors were removed"]
    assert sign_in(Client(), "owner")["Location"] == "/accounts/profile/"


def test_who_gets_no_link_is_named_with_the_reason(
    owner: User, phone: Phone, colleague: User, administrator: User, admins_browser: Client
) -> None:
    shut = UserFactory.create(username="shut")
    give_phone(shut)
    User.objects.filter(pk=shut.pk).update(is_active=False)
    page = send_link(admins_browser, owner, colleague, administrator, shut)
    assert "1 mail is on its way." in page
    assert "“colleague”: This person has no second factor." in page
    assert "“keeper”: This is your own account." in page
    assert "“shut”: This account is shut out." in page


def test_the_link_without_the_password_opens_nothing(owner: User, colleague: User, link: str) -> None:
    give_phone(colleague)
    thief = Client()
    thief.get(link)
    sign_in(thief, "colleague")
    assert thief.get(RECOVERY).status_code == 404
    assert thief.post(RECOVERY).status_code == 404
    assert RECOVERY not in text_of(thief.get(SECOND_STEP))
    assert factors.is_on(owner)
    assert factors.is_on(colleague)


def recovers(link: str, password: str = PASSWORD) -> bool:
    browser = Client()
    browser.get(link)
    sign_in(browser, "owner", password)
    return bool(browser.post(RECOVERY).status_code == 303)


def test_a_link_works_once(owner: User, link: str) -> None:
    assert recovers(link)
    give_phone(owner)
    assert not recovers(link)
    assert factors.is_on(owner)


def test_a_newer_link_ends_it(owner: User, link: str, admins_browser: Client) -> None:
    send_link(admins_browser, owner)
    newer = link_in(run_jobs()[-1])
    assert not recovers(link)
    assert recovers(newer)


def test_a_changed_password_ends_it(owner: User, link: str) -> None:
    owner.set_password("Another-Horse-8-Battery")
    owner.save()
    assert not recovers(link, "Another-Horse-8-Battery")


def test_a_changed_address_ends_it(owner: User, link: str) -> None:
    owner.email = "safe@example.com"
    owner.save(update_fields=["email"])
    assert not recovers(link)
    owner.email = "Owner@example.com"
    owner.save(update_fields=["email"])
    assert recovers(link)


def test_it_ends_after_a_day(owner: User, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr(time, "time", lambda: now + timedelta(hours=24, seconds=-5).total_seconds())
        assert Client().get(link).status_code == 303
        later.setattr(time, "time", lambda: now + timedelta(hours=24, seconds=5).total_seconds())
        assert Client().get(link).status_code == 404


@pytest.mark.parametrize("token", ["x", "a:b:c", "x" * 300, "%00", "é"])
def test_a_forged_link_is_not_valid(stranger: Client, token: str) -> None:
    response = stranger.get(f"{RECOVERY}{token}/")
    assert response.status_code in (400, 404)
    assert not stranger.session.keys()


@pytest.mark.django_db(transaction=True)
def test_of_many_uses_at_once_one_counts(settings: Any) -> None:
    settings.DATABASE_DEADLINE = 60
    owner = UserFactory.create(username="owner")
    give_phone(owner)
    administrator = UserFactory.create(is_staff=True, is_superuser=True)
    events.send_recovery_links([owner], acting_user=administrator)
    link = link_in(run_jobs()[-1])
    browsers = [Client() for _browser in range(4)]
    for browser in browsers:
        browser.get(link)
        sign_in(browser, "owner")

    def use(browser: Client) -> int:
        try:
            return int(browser.post(RECOVERY).status_code)
        finally:
            connections.close_all()

    assert sorted(at_once([partial(use, browser) for browser in browsers])) == [303, 404, 404, 404]
    assert [arguments[0] for _name, arguments in jobs()] == ["second_factor_recovered"]


# --- for whom ---------------------------------------------------------------------------------------


def test_for_nobody_without_a_second_factor_and_not_for_oneself(
    owner: User, administrator: User, admins_browser: Client
) -> None:
    give_phone(administrator)
    run_jobs()
    assert "0 mails are on their way." in send_link(admins_browser, owner, administrator)
    assert not RecoveryLink.objects.exists()
    assert not jobs()


def test_support_sends_none_to_staff(phone: Phone, owner: User, inviters_browser: Client, administrator: User) -> None:
    give_phone(administrator)
    auditor = UserFactory.create()
    auditor.groups.set(Group.objects.filter(name="Auditor"))
    give_phone(auditor)
    run_jobs()
    assert "1 mail is on its way." in send_link(inviters_browser, owner, administrator, auditor)
    assert [message.to for message in run_jobs()] == [[owner.email]]


def test_members_send_none(phone: Phone, owner: User, colleague: User) -> None:
    browser = Client()
    browser.force_login(colleague)
    browser.post(USERS, {"action": "send_recovery_link", "_selected_action": [str(owner.pk)]})
    assert not RecoveryLink.objects.exists()


def test_a_link_that_was_used_meanwhile_is_not_mailed(owner: User, phone: Phone, admins_browser: Client) -> None:
    run_jobs()
    send_link(admins_browser, owner)
    RecoveryLink.objects.all().delete()
    assert run_jobs() == []


# --- told and kept ----------------------------------------------------------------------------------


def test_the_token_is_in_no_row_record_or_line(
    owner: User, phone: Phone, admins_browser: Client, caplog: Any, capfd: Any
) -> None:
    run_jobs()
    with capture_logs() as lines:
        send_link(admins_browser, owner)
        link = link_in(run_jobs()[-1])
        assert recovers(link)
    token = link.rstrip("/").rsplit("/", 1)[1]
    nonce = signing.loads(token, salt="accounts.second-factor-recovery")[1]
    kept = str(list(Record.objects.values("old", "new", "object_label", "reason"))) + str(jobs())
    for text in (kept, str(lines), caplog.text, *capfd.readouterr()):
        assert token not in text
        assert nonce not in text.replace("-", "")
    assert token in mail.outbox[-1].body or token in str([message.body for message in mail.outbox])


def test_who_finds_the_device_again_can_sign_in_with_it(owner: User, phone: Phone, link: str) -> None:
    browser = Client()
    browser.get(link)
    sign_in(browser, "owner")
    assert show_code(browser, phone.code()).status_code == 303
    assert factors.is_on(owner)
