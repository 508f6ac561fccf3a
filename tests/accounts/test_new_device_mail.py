"""The owner is told by mail when somebody signs in with a browser that was never used for the account."""

from __future__ import annotations

import re

import pytest
from django.db import DatabaseError
from django.test import Client

from accounts import jobs as account_jobs
from accounts.models import User
from tests.accounts.conftest import failures, jobs, run_jobs, sign_in

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SUBJECT = "A new device has signed in to your account"


@pytest.fixture
def known(owner: User) -> Client:
    browser = Client()
    sign_in(browser, "owner")
    return browser


def html_of(message: object) -> str:
    ((html, _kind),) = message.alternatives  # type: ignore[attr-defined]
    return str(html)


def test_the_first_sign_in_of_all_is_no_news(known: Client) -> None:
    assert jobs() == []


def test_another_browser_is_told_with_its_name_place_and_time(known: Client, owner: User) -> None:
    sign_in(Client(headers={"user-agent": FIREFOX}, REMOTE_ADDR="198.51.100.7"), "owner")
    (message,) = run_jobs()
    assert (message.to, message.subject) == (["owner@example.com"], SUBJECT)
    assert message.body.startswith("Hello owner,\n\n")
    for text in (message.body, html_of(message)):
        assert "Firefox on Linux" in text
        assert "from 198.51.100.7" in text
        assert re.search(r"\d{1,2} \w+ 20\d\d, \d\d:\d\d UTC", text)
        assert "http://localhost:8000/accounts/security/sessions/" in text
        assert "http://localhost:8000/accounts/password/reset/" in text
        assert not re.search(r"{[{%#]|%\(|None", text)
    assert message.body.rstrip().endswith("-- \nGatehouse\nhttp://localhost:8000")


def test_a_browser_that_is_known_is_not_told_again(known: Client, owner: User) -> None:
    known.post("/accounts/logout/")
    sign_in(known, "owner")
    other = Client()
    for _time in range(2):
        sign_in(other, "owner")
        other.post("/accounts/logout/")
    assert [name for name, _about in jobs()] == ["send_new_device"]


def test_a_browser_known_to_somebody_else_is_new_to_me(known: Client, colleague: User) -> None:
    User.objects.filter(pk=colleague.pk).update(login_count=1)
    known.post("/accounts/logout/")
    sign_in(known, "colleague")
    assert [about[0] for _name, about in jobs()] == [str(colleague.pk)]


def test_wrong_passwords_send_none(known: Client) -> None:
    assert failures(Client(), 2) == [422, 422]
    assert jobs() == []


def test_what_a_browser_calls_itself_cannot_make_a_link_in_the_mail(known: Client) -> None:
    sign_in(Client(headers={"user-agent": "http://evil.example/win-Bot/1 <b>evil.example</b>"}), "owner")
    (message,) = run_jobs()
    assert "evil.example" not in message.body + html_of(message)
    assert "<b>" not in html_of(message)


def test_no_address_no_line_about_it(known: Client) -> None:
    sign_in(Client(REMOTE_ADDR=""), "owner")
    (message,) = run_jobs()
    assert "from" not in message.body.splitlines()[4:7]
    assert not re.search(r"from\s*$", message.body, re.M)


def test_count_and_mail_are_one_transaction(known: Client, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise DatabaseError("the queue is full")

    monkeypatch.setattr(type(account_jobs.send_new_device), "enqueue", refuse)
    with pytest.raises(DatabaseError):
        sign_in(Client(), "owner")
    assert User.objects.get().login_count == 1


def test_who_is_gone_by_then_gets_none(known: Client, owner: User) -> None:
    sign_in(Client(), "owner")
    owner.delete()
    assert run_jobs() == []
