"""Who is locked out of signing in, who is not, and for how long; the races are in ``tests/races``."""

from __future__ import annotations

import re
from datetime import timedelta
from http.cookies import Morsel
from typing import Any

import pytest
from axes.utils import reset
from django.contrib.auth import authenticate
from django.core import signing
from django.core.management import call_command
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from accounts import devices
from accounts.models import LoginAttempt, User
from auditlog.models import Record
from config import retention
from tests.accounts.conftest import failures, let_pass, link_in, run_jobs, sign_in, text_of
from tests.accounts.phones import give_phone
from tests.factories import PASSWORD, UserFactory

pytestmark = pytest.mark.django_db

WRONG, LOCKED, IN = 422, 429, 302
ADMIN_LOGIN = "/admin/login/"
CHANGE = "/accounts/password/change/"
COOKIE = "device"
ELSEWHERE = {"REMOTE_ADDR": "192.0.2.7"}


@pytest.fixture
def known_browser(owner: User) -> Client:
    """A browser in which the owner has signed in and out, a while ago."""
    browser = Client()
    assert sign_in(browser, "owner").status_code == IN
    browser.post("/accounts/logout/")
    let_pass(seconds=6)
    return browser


def change_password(browser: Client, old: str) -> int:
    new = "Another-Password-8"
    form = {"old_password": old, "new_password1": new, "new_password2": new}
    return int(browser.post(CHANGE, form).status_code)


def minutes_left(response: Any) -> int:
    assert response.status_code == LOCKED
    left = int(response["Retry-After"])
    return -(-left // 60)


# --- the lock and its end ---------------------------------------------------------------------------


def test_after_five_failures_the_next_try_is_refused_and_told_for_how_long(stranger: Client, owner: User) -> None:
    assert failures(stranger, 5) == [WRONG] * 5
    locked = sign_in(stranger, "owner")
    assert (locked.status_code, locked["Retry-After"]) == (LOCKED, "1800")
    assert "Please try again in 30 minutes." in text_of(locked)
    assert "/accounts/password/reset/" in text_of(locked)
    assert stranger.get("/accounts/profile/").status_code == IN


@pytest.mark.parametrize(
    ("later", "seconds", "words"),
    [
        ({"minutes": 10}, 1200, "in 20 minutes."),
        ({"minutes": 18, "seconds": 1}, 719, "in 12 minutes."),
        ({"minutes": 28}, 120, "in 2 minutes."),
        ({"minutes": 29}, 60, "in 1 minute."),
        ({"minutes": 29, "seconds": 1}, 59, "in 59 seconds."),
        ({"minutes": 29, "seconds": 59}, 1, "in 1 second."),
    ],
)
def test_the_page_tells_the_time_that_is_left(
    stranger: Client, owner: User, later: dict[str, int], seconds: int, words: str
) -> None:
    failures(stranger, 4)
    let_pass(minutes=5)
    failures(stranger, 1)
    let_pass(**later)
    response = sign_in(stranger, "owner")
    assert response.status_code == LOCKED
    # What the test itself takes has passed, too.
    assert seconds - 2 <= int(response["Retry-After"]) <= seconds
    assert words in text_of(response) or int(response["Retry-After"]) != seconds


def test_tries_during_the_lock_do_not_lengthen_it_and_then_the_owner_is_let_in(stranger: Client, owner: User) -> None:
    failures(stranger, 5)
    let_pass(minutes=20)
    assert failures(stranger, 3) == [LOCKED] * 3
    assert LoginAttempt.objects.count() == 5
    let_pass(minutes=10)
    assert sign_in(stranger, "owner").status_code == IN


def test_failures_that_are_further_apart_than_the_window_do_not_lock(stranger: Client, owner: User) -> None:
    for _round in range(3):
        assert failures(stranger, 3) == [WRONG] * 3
        let_pass(minutes=16)
        assert failures(stranger, 1) == [WRONG]
        let_pass(minutes=16)


def test_a_lock_that_is_over_leaves_a_whole_new_budget(stranger: Client, owner: User) -> None:
    failures(stranger, 5)
    let_pass(minutes=30)
    assert failures(stranger, 6) == [WRONG] * 5 + [LOCKED]


def test_a_refused_try_is_not_hashed(stranger: Client, owner: User, hashed: list[str]) -> None:
    failures(stranger, 5)
    hashed.clear()
    assert sign_in(stranger, "owner").status_code == LOCKED
    assert hashed == []


def test_an_unknown_name_is_locked_and_answered_in_the_same_way(owner: User) -> None:
    pages = {}
    for name in ("owner", "nobody", "nobody@example.com"):
        browser = Client()
        assert failures(browser, 5, name) == [WRONG] * 5
        response = sign_in(browser, name)
        page = re.sub(r"[0-9a-f]{32}|\d+ minutes?", "", text_of(response))
        headers = {key: value for key, value in response.items() if key not in ("X-Request-ID", "Retry-After")}
        pages[name] = (response.status_code, minutes_left(response), page, headers)
    assert pages["owner"] == pages["nobody"] == pages["nobody@example.com"]


def test_the_page_and_its_statements_tell_no_stranger_of_a_second_factor(owner: User, colleague: User) -> None:
    give_phone(colleague)
    told = []
    for name in ("owner", "colleague"):
        failures(Client(), 5, name)
        with CaptureQueriesContext(connection) as captured:
            page = re.sub(r"[0-9a-f]{32}|\d+ minutes?", "", text_of(sign_in(Client(), name)))
        told.append((page, [query["sql"].split()[0] for query in captured.captured_queries]))
    assert told[0] == told[1]


def test_a_right_password_of_an_unconfirmed_account_is_answered_as_a_wrong_one(owner: User) -> None:
    User.objects.update(email_verified_at=None)
    told = []
    for password in (PASSWORD, "Wrong-Password-1"):
        with CaptureQueriesContext(connection) as captured:
            response = sign_in(Client(), "owner", password)
        page = re.sub(r'[0-9a-f]{32}|value="[^"]*"', "", text_of(response))
        told.append((response.status_code, page, [query["sql"].split()[0] for query in captured.captured_queries]))
    assert told[0] == told[1]


def test_known_and_unknown_names_cost_the_same_statements(owner: User) -> None:
    def statements(name: str) -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            sign_in(Client(), name, "Wrong-Password-1")
        return [query["sql"].split()[0] for query in captured.captured_queries]

    for _try in range(6):  # the sixth is refused
        assert statements("owner") == statements("nobody") == statements("nobody@example.com")


def test_a_users_id_is_no_name_of_theirs(owner: User) -> None:
    failures(Client(), 6, str(owner.pk))
    assert sign_in(Client(), "owner").status_code == 302


@pytest.mark.parametrize("name", ["", " ", "\t"])
def test_an_empty_name_locks_nobody_and_leaves_no_row(stranger: Client, owner: User, name: str) -> None:
    assert failures(stranger, 10, name) == [WRONG] * 10
    assert not LoginAttempt.objects.exists()
    assert sign_in(stranger, "owner").status_code == IN


# --- one budget for one account ---------------------------------------------------------------------


def test_spellings_the_address_and_the_admin_share_one_budget(stranger: Client, owner: User) -> None:
    names = ["owner", "OWNER", "ｏｗｎｅｒ", "Owner@Example.com"]
    assert [status for name in names for status in failures(stranger, 1, name)] == [WRONG] * 4
    form = {"username": "owner", "password": "Wrong-Password-1"}
    assert stranger.post(ADMIN_LOGIN, form).status_code == 200
    assert failures(stranger, 1, "owner@example.com") == [LOCKED]
    assert stranger.post(ADMIN_LOGIN, form).status_code == LOCKED
    assert {attempt.account for attempt in LoginAttempt.objects.all()} == {str(owner.pk)}


def test_a_member_at_the_admins_door_is_tried_and_counted(stranger: Client, owner: User) -> None:
    form = {"username": "owner", "password": PASSWORD}
    with capture_logs() as lines:
        statuses = [stranger.post(ADMIN_LOGIN, form).status_code for _try in range(6)]
    assert statuses == [200] * 5 + [LOCKED]
    assert [line["event"] for line in lines if line["event"].startswith("login.")] == ["login.failed"] * 5 + [
        "login.locked_out"
    ]


@pytest.mark.parametrize("column", [{"is_active": False}, {"email_verified_at": None}, {"password": "!"}])
def test_who_may_not_sign_in_is_counted_with_the_right_password_too(
    stranger: Client, owner: User, column: dict[str, Any]
) -> None:
    User.objects.update(**column)
    assert [sign_in(stranger, "owner").status_code for _try in range(6)] == [WRONG] * 5 + [LOCKED]


def test_the_old_password_on_the_change_page_shares_the_budget(owners_browser: Client, hashed: list[str]) -> None:
    assert failures(Client(), 3) == [WRONG] * 3
    assert [change_password(owners_browser, "Wrong-Password-1") for _try in range(2)] == [WRONG] * 2
    hashed.clear()
    refused = owners_browser.post(CHANGE, {"old_password": PASSWORD})
    assert (refused.status_code, hashed) == (LOCKED, [])
    assert minutes_left(refused) == 30
    assert failures(Client(), 1) == [LOCKED]


def test_the_right_old_password_forgives_the_wrong_ones(owners_browser: Client) -> None:
    assert [change_password(owners_browser, "Wrong-Password-1") for _try in range(4)] == [WRONG] * 4
    assert change_password(owners_browser, PASSWORD) == 303
    let_pass(seconds=6)
    assert [change_password(owners_browser, "Wrong-Password-1") for _try in range(5)] == [WRONG] * 5


def test_a_wrong_old_password_is_a_log_line_as_at_the_login(owners_browser: Client, owner: User) -> None:
    with capture_logs() as lines:
        for _try in range(6):
            change_password(owners_browser, "Wrong-Password-1")
    seen = [(line["event"], line["name"], line["address"]) for line in lines if line["event"].startswith("login.")]
    assert seen == [("login.failed", "owner", "127.0.0.1")] * 5 + [("login.locked_out", "owner", "127.0.0.1")]


def test_code_without_a_request_is_counted_and_forgiven_too(owner: User) -> None:
    for _try in range(3):
        for _right in range(3):
            assert authenticate(username="owner", password=PASSWORD) == owner
            let_pass(seconds=6)
    assert [authenticate(username="owner", password="wrong") for _try in range(5)] == [None] * 5
    assert authenticate(username="owner", password=PASSWORD) is None
    assert sign_in(Client(), "owner").status_code == IN


# --- success ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["owner", "owner@example.com"])
def test_a_success_forgives_the_failures_before_it(owner: User, name: str) -> None:
    failures(Client(), 4, name)
    assert sign_in(Client(), name).status_code == IN
    let_pass(seconds=6)
    assert failures(Client(), 6, name) == [WRONG] * 5 + [LOCKED]


def test_for_some_seconds_forgiven_tries_go_on_counting(owner: User) -> None:
    failures(Client(), 3)
    assert sign_in(Client(), "owner").status_code == IN
    assert failures(Client(), 2) == [WRONG, LOCKED]
    refused = sign_in(Client(), "owner")
    assert 1 <= int(refused["Retry-After"]) <= 5
    assert re.search(r"Please try again in [1-5] seconds?\.", text_of(refused))
    let_pass(seconds=6)
    assert failures(Client(), 5) == [WRONG] * 4 + [LOCKED]  # one of the burst was not forgiven


def test_what_was_forgiven_under_a_clock_that_was_ahead_does_not_count_when_it_is_put_back(owner: User) -> None:
    failures(Client(), 4)
    later = Now() + timedelta(hours=3)
    LoginAttempt.objects.update(reserved_at=later, forgiven_at=later)
    assert failures(Client(), 6) == [WRONG] * 5 + [LOCKED]


def locks_begun() -> int:
    return Record.objects.filter(action="locked_out").count()


def test_a_wait_of_seconds_is_recorded_as_no_lock_and_a_lock_after_it_is(owner: User) -> None:
    failures(Client(), 3)
    assert sign_in(Client(), "owner").status_code == IN
    assert failures(Client(), 2) == [WRONG, LOCKED]
    assert locks_begun() == 0
    let_pass(seconds=6)
    assert failures(Client(), 5) == [WRONG] * 4 + [LOCKED]
    (lock,) = Record.objects.filter(action="locked_out")
    assert lock.new == {"minutes": 30}


def test_a_failure_whose_like_were_forgiven_while_it_was_judged_has_begun_no_lock(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures(Client(), 4)
    check = User.check_password

    def check_meanwhile(user: User, password: str) -> bool:
        LoginAttempt.objects.update(forgiven_at=Now())  # as the success of a try that was reserved before
        return check(user, password)

    monkeypatch.setattr(User, "check_password", check_meanwhile)
    assert failures(Client(), 2) == [WRONG, LOCKED]
    assert locks_begun() == 0


def test_a_success_forgives_only_the_own_failures_from_there(owner: User, colleague: User) -> None:
    failures(Client(), 5, "colleague")
    failures(Client(), 5, **ELSEWHERE)
    sign_in(Client(), "owner")
    let_pass(seconds=6)
    assert failures(Client(), 1, "colleague") == [LOCKED]
    assert failures(Client(), 1, **ELSEWHERE) == [LOCKED]


def test_a_password_reset_forgets_all_failures_of_the_account(stranger: Client, owner: User, colleague: User) -> None:
    failures(Client(), 5)
    failures(Client(), 5, **ELSEWHERE)
    failures(Client(), 5, "colleague")
    stranger.post("/accounts/password/reset/", {"email": owner.email})
    (message,) = run_jobs()
    page = stranger.get(link_in(message), follow=True)
    new = "Another-Password-8"
    path = page.request["PATH_INFO"]
    assert stranger.post(path, {"new_password1": new, "new_password2": new}).status_code == 303
    assert sign_in(Client(), "owner", new, **ELSEWHERE).status_code == IN
    assert sign_in(Client(), "owner", new).status_code == IN
    assert failures(Client(), 1, "colleague") == [LOCKED]


# --- networks ---------------------------------------------------------------------------------------


def test_a_stranger_elsewhere_locks_nobody_out(owner: User) -> None:
    assert failures(Client(), 6) == [WRONG] * 5 + [LOCKED]
    assert sign_in(Client(), "owner", **ELSEWHERE).status_code == IN


def test_the_lock_is_of_one_account(owner: User, colleague: User) -> None:
    failures(Client(), 6)
    assert sign_in(Client(), "colleague").status_code == IN


def test_callers_behind_a_unix_socket_are_counted_too(owner: User) -> None:
    assert failures(Client(REMOTE_ADDR=""), 6) == [WRONG] * 5 + [LOCKED]


def test_a_made_up_forwarded_address_or_browser_gives_no_new_budget(stranger: Client, owner: User) -> None:
    made_up = [{"X-Forwarded-For": f"192.0.2.{number}", "User-Agent": f"browser {number}"} for number in range(6)]
    answers = [sign_in(stranger, "owner", "Wrong-Password-1", headers=each).status_code for each in made_up]
    assert answers == [WRONG] * 5 + [LOCKED]


def test_addresses_of_one_ipv6_network_are_one_caller_and_those_of_another_are_not(owner: User) -> None:
    tries = [f"2001:db8:0:1:{number}::{number}" for number in range(6)]
    assert [failures(Client(), 1, REMOTE_ADDR=each)[0] for each in tries] == [WRONG] * 5 + [LOCKED]
    assert sign_in(Client(), "owner", REMOTE_ADDR="2001:db8:0:2::1").status_code == IN


def test_an_ipv4_address_is_the_same_in_ipv6_notation(owner: User) -> None:
    assert failures(Client(), 5, REMOTE_ADDR="::ffff:192.0.2.7") == [WRONG] * 5
    assert failures(Client(), 1, **ELSEWHERE) == [LOCKED]
    assert failures(Client(), 1, REMOTE_ADDR="::ffff:192.0.2.8") == [WRONG]


def test_behind_our_proxy_each_client_has_a_budget_of_its_own(owner: User, settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    attacker, other = {"X-Forwarded-For": "203.0.113.5"}, {"X-Forwarded-For": "9.9.9.9, 203.0.113.6"}
    assert failures(Client(), 6, headers=attacker) == [WRONG] * 5 + [LOCKED]
    assert sign_in(Client(), "owner", headers=other).status_code == IN


def test_many_people_behind_one_address_who_mistype_lock_nobody_else_out(owner: User, settings: Any) -> None:
    settings.TRUSTED_PROXIES = 1
    shared = {"X-Forwarded-For": "203.0.113.5"}
    for number in range(12):
        UserFactory.create(username=f"mistyper-{number}")
        assert failures(Client(), 5, f"mistyper-{number}", headers=shared) == [WRONG] * 5
    assert sign_in(Client(), "owner", headers=shared).status_code == IN


def test_an_account_has_a_higher_limit_over_all_networks(
    owner: User, colleague: User, known_browser: Client, settings: Any
) -> None:
    settings.LOGIN_FAILURES_PER_ACCOUNT = 7
    tries = [f"192.0.2.{number}" for number in range(8)]
    assert [failures(Client(), 1, REMOTE_ADDR=each)[0] for each in tries] == [WRONG] * 7 + [LOCKED]
    assert minutes_left(sign_in(Client(), "owner@example.com", REMOTE_ADDR="198.51.100.1")) == 30
    assert sign_in(Client(), "colleague", REMOTE_ADDR="192.0.2.0").status_code == IN
    assert sign_in(known_browser, "owner").status_code == IN


def test_a_network_has_a_higher_limit_over_all_accounts(
    owner: User, colleague: User, known_browser: Client, settings: Any
) -> None:
    settings.LOGIN_FAILURES_PER_NETWORK = 7
    tries = ["colleague", *(f"nobody-{number}" for number in range(7))]
    assert [failures(Client(), 1, each)[0] for each in tries] == [WRONG] * 7 + [LOCKED]
    assert minutes_left(sign_in(Client(), "owner")) == 30
    assert sign_in(Client(), "colleague", **ELSEWHERE).status_code == IN
    assert sign_in(known_browser, "owner").status_code == IN


# --- known browsers ---------------------------------------------------------------------------------


def test_the_owners_known_browser_gets_in_while_a_stranger_has_locked_the_account_from_the_same_network(
    owner: User, known_browser: Client
) -> None:
    assert failures(Client(), 6) == [WRONG] * 5 + [LOCKED]
    assert sign_in(known_browser, "owner").status_code == IN
    # And what the owner does there is no new budget for the stranger.
    let_pass(seconds=6)
    assert failures(Client(), 1) == [LOCKED]


def test_a_known_browser_has_the_same_limit_of_its_own_wherever_it_is(owner: User, known_browser: Client) -> None:
    assert failures(known_browser, 3) == [WRONG] * 3
    assert failures(known_browser, 3, **ELSEWHERE) == [WRONG] * 2 + [LOCKED]
    assert sign_in(Client(), "owner").status_code == IN


def test_a_known_browser_is_known_to_its_own_accounts_only(colleague: User, known_browser: Client) -> None:
    assert failures(Client(), 5, "colleague") == [WRONG] * 5
    assert failures(known_browser, 1, "colleague") == [LOCKED]


def device_cookie(browser: Client) -> Morsel[str]:
    return browser.cookies[COOKIE]


def test_the_cookie_is_set_by_both_doors_hidden_from_scripts_and_lasts_a_year(administrator: User) -> None:
    for path in ("/accounts/login/", ADMIN_LOGIN):
        browser = Client()
        assert browser.post(path, {"username": "keeper", "password": PASSWORD}).status_code == IN
        cookie = device_cookie(browser)
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Lax", "/")
        assert cookie["max-age"] == 365 * 24 * 3600
        assert PASSWORD not in cookie.value


def test_behind_https_it_travels_over_https_only(owner: User, settings: Any) -> None:
    browser = Client()
    for https in (False, True):
        settings.HTTPS = https
        sign_in(browser, "owner")
        browser.post("/accounts/logout/")
        assert bool(device_cookie(browser)["secure"]) is https


def test_it_is_renewed_at_each_login_and_keeps_the_last_five_accounts(db: None) -> None:
    people = [UserFactory.create() for _person in range(7)]
    browser = Client()
    names = set()
    for person in people:
        sign_in(browser, person.username)
        browser.post("/accounts/logout/")
        device, accounts = signing.loads(device_cookie(browser).value, salt="accounts.devices")
        names.add(device)
    assert len(names) == 1
    assert accounts == [str(person.pk) for person in reversed(people)][:5]


def test_no_refused_login_sets_it(stranger: Client, owner: User) -> None:
    failures(stranger, 6)
    assert COOKIE not in stranger.cookies


def forged(owner: User) -> dict[str, str]:
    content = ["device", [str(owner.pk)]]
    good = signing.dumps(content, salt="accounts.devices")
    return {
        "empty": "",
        "nonsense": "nonsense",
        "odd": '"\\303\\050":::',
        "long": "x" * 3000,
        "another purpose": signing.dumps(content, salt="accounts.links"),
        "another key": signing.dumps(content, key="k" * 50, salt="accounts.devices"),
        "cut": good[:-1],
        "changed": "A" + good[1:],
        "no time": signing.Signer(salt="accounts.devices").sign_object(content),
    }


def test_a_forged_or_odd_cookie_is_no_known_browser_and_no_error(owner: User) -> None:
    failures(Client(), 5)
    for kind, value in forged(owner).items():
        browser = Client()
        browser.cookies[COOKIE] = value
        assert (kind, sign_in(browser, "owner").status_code) == (kind, LOCKED)


def test_an_old_cookie_is_no_known_browser(owner: User, known_browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    failures(Client(), 5)
    monkeypatch.setattr(devices, "MAX_AGE", -1)
    assert sign_in(known_browser, "owner").status_code == LOCKED


# --- clean-up, unlocking by axes, log ---------------------------------------------------------------


def test_the_worker_forgets_what_is_part_of_no_lock_any_more(owner: User) -> None:
    failures(Client(), 1)
    let_pass(minutes=3)
    failures(Client(), 4)
    let_pass(minutes=58)
    rule = retention.rules()["login_attempts"]
    retention.clean_up([rule])
    assert LoginAttempt.objects.count() == 4
    let_pass(minutes=3)
    assert rule.overdue() == 4


def test_the_commands_of_axes_unlock(owner: User, colleague: User) -> None:
    for name in ("owner", "colleague"):
        failures(Client(), 5, name)
        failures(Client(), 5, name, REMOTE_ADDR="2001:db8::1")
    call_command("axes_reset_username", "OWNER", stdout=None)
    assert [failures(Client(), 1, name)[0] for name in ("owner", "colleague")] == [WRONG, LOCKED]
    assert reset(username="colleague", ip="2001:db8::2") == 5
    assert LoginAttempt.objects.filter(network="2001:db8::/64").count() == 0
    assert reset(ip="127.0.0.1") == 6
    assert LoginAttempt.objects.count() == 0
    failures(Client(), 2)
    assert reset(username="owner", ip="192.0.2.7") == 0
    assert reset(username="owner", ip="192.0.2.7", ip_or_username=True) == 2
    failures(Client(), 2)
    assert reset() == 2


def test_failures_refusals_and_logins_are_one_log_line_each(owner: User) -> None:
    with capture_logs() as lines:
        failures(Client(), 7, "OWNER")
        sign_in(Client(), "owner", REMOTE_ADDR="203.0.113.7")
    seen = [(line["event"], line.get("name"), line["address"]) for line in lines if line["event"].startswith("login.")]
    assert seen == [
        *[("login.failed", "owner", "127.0.0.1")] * 5,
        *[("login.locked_out", "owner", "127.0.0.1")] * 2,
        ("login.succeeded", None, "203.0.113.7"),
    ]
