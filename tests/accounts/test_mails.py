"""Every mail: one line of subject, a text, the same in HTML, and the link it is about."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.conf import settings as project_settings
from django.core import mail
from django.utils import timezone

from accounts import emails, jobs
from accounts.models import User
from config.worker import Worker
from tests.accounts.conftest import run_jobs
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

# mail -> (subject, the address that it is about)
MAILS = {
    "verify_email": ("Confirm your e-mail address", r"/accounts/verify/[\w:-]{40,}/"),
    "address_known": ("You already have an account", r"/accounts/login/"),
    "password_reset": ("Choose a new password", r"/accounts/password/reset/\w+/[\w-]{30,}/"),
    "password_changed": ("Your password was changed", r"/accounts/password/reset/"),
    "set_password": ("Your new account: choose a password", r"/accounts/password/reset/\w+/[\w-]{30,}/"),
}


@pytest.fixture
def newcomer(db: None) -> User:
    return UserFactory.create(username="jane", email="jane@example.com", email_verified_at=None)


def sent(name: str, user: User) -> Any:
    jobs.send_mail_to_user.call(name, str(user.pk))
    (message,) = mail.outbox
    mail.outbox.clear()
    return message


def html_of(message: Any) -> str:
    ((html, kind),) = message.alternatives
    assert kind == "text/html"
    return str(html)


def test_these_are_all_the_mails() -> None:
    assert set(emails.MAILS) == set(MAILS)


@pytest.mark.parametrize(("name", "subject", "link"), [(name, *about) for name, about in MAILS.items()])
def test_each_mail_is_whole(newcomer: User, name: str, subject: str, link: str) -> None:
    if name == "address_known":
        User.objects.filter(pk=newcomer.pk).update(email_verified_at=timezone.now())
        newcomer.refresh_from_db()
    message = sent(name, newcomer)
    assert (message.subject, message.to) == (subject, ["jane@example.com"])
    assert message.from_email == project_settings.DEFAULT_FROM_EMAIL
    found = {
        text_or_html: set(re.findall(rf"http://localhost:8000{link}(?![\w/])", text))
        for text_or_html, text in (("text", message.body), ("html", html_of(message)))
    }
    assert len(found["text"]) == 1
    assert found["text"] == found["html"]
    assert message.body.startswith("Hello jane,\n\n")
    assert message.body.rstrip().endswith("-- \nGatehouse\nhttp://localhost:8000")
    for text in (message.body, html_of(message)):
        assert not re.search(r"{[{%#]|%\(|None", text)
    # What the mail server gets is complete as well.
    assert message.message().get_content_type() == "multipart/alternative"


@pytest.mark.parametrize("name", MAILS)
def test_no_mail_carries_text_of_a_strangers_choice(newcomer: User, name: str) -> None:
    User.objects.filter(pk=newcomer.pk).update(full_name="<b>You have won: visit evil.example</b>")
    newcomer.refresh_from_db()
    message = sent(name, newcomer)
    assert "evil.example" not in str(message.body) + html_of(message)
    assert message.body.startswith("Hello jane,\n\n")


def test_who_signs_up_again_before_confirming_gets_the_link_again(newcomer: User) -> None:
    User.objects.filter(pk=newcomer.pk).update(email_verified_at=None)
    newcomer.refresh_from_db()
    assert sent("address_known", newcomer).subject == "Confirm your e-mail address"


@pytest.mark.parametrize("name", MAILS)
def test_links_are_built_on_the_configured_address(newcomer: User, settings: Any, name: str) -> None:
    settings.BASE_URL = "https://accounts.example.org"
    message = sent(name, newcomer)
    for text in (message.body, html_of(message)):
        addresses = re.findall(r"https?://[^\s\"<]+", text)
        assert addresses
        assert all(address.startswith("https://accounts.example.org") for address in addresses)


def test_hours_are_told_in_the_right_number(newcomer: User, settings: Any) -> None:
    settings.EMAIL_VERIFICATION_HOURS, settings.PASSWORD_RESET_TIMEOUT = 1, 3 * 3600
    assert "The link works for 1 hour." in sent("verify_email", newcomer).body
    assert "The link works once, for 3 hours." in sent("password_reset", newcomer).body


def test_a_mail_to_an_international_domain_can_be_sent() -> None:
    message = sent("password_reset", UserFactory.create(email="jane@bücher.de"))
    assert "jane@xn--bcher-kva.de" in message.message().as_string()


# --- jobs -------------------------------------------------------------------------------------------


def test_the_job_of_an_account_that_is_gone_does_nothing(newcomer: User) -> None:
    User.objects.filter(pk=newcomer.pk).update(deleted_at=timezone.now())
    jobs.send_mail_to_user.call("verify_email", str(newcomer.pk))
    jobs.send_mail_to_address.call("password_reset", newcomer.email)
    newcomer.delete()
    jobs.send_mail_to_user.call("verify_email", str(newcomer.pk or "01a1fe20-0000-7000-8000-000000000000"))
    assert mail.outbox == []


def test_who_is_verified_gets_no_mail_to_confirm(owner: User) -> None:
    jobs.send_mail_to_user.call("verify_email", str(owner.pk))
    jobs.send_mail_to_address.call("verify_email", owner.email)
    assert mail.outbox == []


def test_arguments_of_jobs_hold_no_link_and_no_token(newcomer: User) -> None:
    result = jobs.send_mail_to_user.enqueue("password_reset", str(newcomer.pk))
    assert result.args == ["password_reset", str(newcomer.pk)]
    (message,) = run_jobs()
    assert message.subject == "Choose a new password"


@pytest.mark.django_db(transaction=True)
def test_the_worker_sends_what_is_queued_once() -> None:
    user = UserFactory.create(email_verified_at=None)
    jobs.send_mail_to_user.enqueue("verify_email", str(user.pk))
    jobs.send_mail_to_address.enqueue("password_reset", user.email)
    for _round in range(2):
        Worker(once=True).run()
    assert sorted(message.subject for message in mail.outbox) == [
        "Choose a new password",
        "Confirm your e-mail address",
    ]
