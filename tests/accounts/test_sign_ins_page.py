"""/accounts/security/sign-ins/: who signed in to one's account, and who tried to."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils.html import strip_tags

from accounts.models import User
from accounts.user_agents import readable
from auditlog import acting_as
from auditlog import record as record_event
from auditlog.models import Record
from auditlog.reading import PAGE
from tests.accounts.conftest import failures, let_pass, sign_in, text_of
from tests.accounts.phones import give_phone, show_code
from tests.factories import PASSWORD

pytestmark = pytest.mark.django_db
SIGN_INS = "/accounts/security/sign-ins/"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)


def lines(browser: Client, **asked: str) -> list[str]:
    """The entries as a reader hears them, without their times."""
    found = re.search(r'<ol class="activity">.*</ol>', text_of(browser.get(SIGN_INS, asked)), re.DOTALL)
    entries = re.split(r"<h2[^>]*>", found[0])[1:] if found else []
    heard = (" ".join(strip_tags(f"<h2>{entry}").split()) for entry in entries)
    return [re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC ?", "", line).strip() for line in heard]


@pytest.fixture
def browser(owner: User) -> Client:
    signed_in = Client()
    sign_in(signed_in, "owner", REMOTE_ADDR="192.0.2.1", HTTP_USER_AGENT=FIREFOX)
    return signed_in


def test_sign_ins_failures_and_locks_are_there_with_address_and_device(browser: Client) -> None:
    let_pass(minutes=1)
    failures(Client(), 5, REMOTE_ADDR="198.51.100.7", HTTP_USER_AGENT=SAFARI)
    assert lines(browser) == [
        "Locked for a while Mobile Safari on iOS from 198.51.100.7",
        *["Wrong password Mobile Safari on iOS from 198.51.100.7"] * 5,
        "Signed in Firefox on Linux from 192.0.2.1",
    ]


def test_a_right_password_without_the_second_factor_is_there_and_a_wrong_code_called_so(
    browser: Client, owner: User
) -> None:
    phone, thief = give_phone(owner), Client(REMOTE_ADDR="198.51.100.7", HTTP_USER_AGENT=SAFARI)
    sign_in(thief, "owner")
    show_code(thief, phone.wrong_code())
    assert lines(browser) == [
        "Wrong second factor Mobile Safari on iOS from 198.51.100.7",
        "Right password, asked for the second factor Mobile Safari on iOS from 198.51.100.7",
        "Signed in Firefox on Linux from 192.0.2.1",
    ]


def test_a_right_password_that_opens_nothing_is_not_called_wrong(browser: Client, owner: User) -> None:
    where: Any = {"REMOTE_ADDR": "198.51.100.7", "HTTP_USER_AGENT": SAFARI}
    for column in ({"email_verified_at": None}, {"is_active": False}):
        before = User.objects.values(*column).get()
        User.objects.update(**column)
        sign_in(Client(), "owner", **where)
        failures(Client(), 1, **where)
        User.objects.update(**before)
        let_pass(minutes=31)
    Client().post("/admin/login/", {"username": "owner", "password": PASSWORD}, **where)
    signed_in = Client()
    sign_in(signed_in, "owner", **where)
    assert [line.removesuffix(" Mobile Safari on iOS from 198.51.100.7") for line in lines(signed_in)[:6]] == [
        "Signed in",
        "Right password, but the console is for staff only",
        "Wrong password",
        "Right password, but the account was shut",
        "Wrong password",
        "Right password, but the address was not confirmed yet",
    ]


def test_a_wrong_password_of_who_is_signed_in_is_called_so(browser: Client) -> None:
    browser.post("/accounts/confirm/", {"password": "Wrong-Password-1"}, HTTP_USER_AGENT=FIREFOX)
    assert lines(browser)[0] == "Wrong password when asked again Firefox on Linux from 127.0.0.1"


def test_nothing_else_and_nobody_elses_is_there(browser: Client, owner: User, colleague: User) -> None:
    sign_in(Client(), "colleague", REMOTE_ADDR="203.0.113.5")
    failures(Client(), 1, "colleague", REMOTE_ADDR="203.0.113.5")
    failures(Client(), 1, "nobody-of-this-name")
    with acting_as(owner):
        owner.full_name = "Changed"
        owner.save()
        colleague.full_name = "Changed by owner"
        colleague.save()
    assert lines(browser) == ["Signed in Firefox on Linux from 192.0.2.1"]
    theirs = Record.objects.filter(object_id=str(colleague.pk)).latest("id")
    assert lines(browser, user=str(colleague.pk), newer=f"{theirs.pk}-1", object=str(colleague.pk)) == lines(browser)


def test_what_a_browser_calls_itself_is_shown_as_text_and_bounded(browser: Client) -> None:
    sign_in(Client(), "owner", HTTP_USER_AGENT="<script>alert(1)</script>\t" + "x" * 400)
    page = text_of(browser.get(SIGN_INS))
    assert "Unknown browser" in page
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\x09xxx" in page
    assert "x" * 300 not in page


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (SAFARI, "Mobile Safari on iOS"),
        ("curl/8.5.0", "curl"),
        ("Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "Unknown browser on Windows"),
        ("", "Unknown browser"),
        ("\ud800" * 10, "Unknown browser"),
        ("(" * 100_000, "Unknown browser"),
        ("curl/" + "9" * 200, "curl"),
    ],
)
def test_devices_are_told_in_words(agent: str, words: str) -> None:
    assert readable(agent) == words


def test_long_lists_have_pages_that_lead_to_the_end(browser: Client, owner: User) -> None:
    for _time in range(PAGE + 5):
        record_event("login", owner)
    first = browser.get(SIGN_INS)
    assert len(first.context["sign_ins"]) == PAGE
    older = re.search(r'href="(\?older=[^"]+)"', text_of(first))
    assert older is not None
    rest = browser.get(SIGN_INS + older[1])
    assert (len(rest.context["sign_ins"]), rest.context["sign_ins"][-1].device) == (6, "Firefox on Linux")


@pytest.mark.parametrize("asked", [{"older": "x"}, {"newer": "9" * 40}, {"older": "\ud7ff", "oldest": ""}])
def test_an_odd_question_is_no_error(browser: Client, asked: dict[str, str]) -> None:
    assert browser.get(SIGN_INS, asked).status_code == 200


def test_it_costs_as_many_statements_for_a_long_history_as_for_a_short_one(browser: Client, owner: User) -> None:
    def statements() -> int:
        counted: list[str] = []

        def counting(execute: Any, sql: Any, *more: Any) -> Any:
            counted.append(sql)
            return execute(sql, *more)

        with connection.execute_wrapper(counting):
            browser.get(SIGN_INS)
        return len(counted)

    short = statements()
    for _time in range(3 * PAGE):
        record_event("login_failed", owner)
    assert statements() <= short


def test_looking_is_not_recorded(browser: Client) -> None:
    before = Record.objects.count()
    lines(browser)
    assert Record.objects.count() == before


def test_a_stranger_is_asked_to_sign_in(stranger: Client) -> None:
    assert stranger.get(SIGN_INS)["Location"] == f"/accounts/login/?next={SIGN_INS}"


def test_every_page_of_the_account_leads_to_the_others_and_says_where_one_is(owners_browser: Client) -> None:
    pages = ("profile", "email", "password/change", "security/second-factor", "security/sign-ins", "security/sessions")
    paths = [f"/accounts/{page}/" for page in (*pages, "activity", "data", "delete")]
    for path in paths:
        page = text_of(owners_browser.get(path))
        (nav,) = re.findall(r'<nav class="account-nav".*?</nav>', page, re.DOTALL)
        assert re.findall(r'href="([^"]+)"', nav) == paths
        assert re.findall(r'href="([^"]+)" aria-current="page"', nav) == [path]
