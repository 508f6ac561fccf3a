"""Signing in with a second factor: what opens the door, and what between password and code does not."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from functools import partial
from typing import Any

import pytest
from django.db import connections
from django.test import Client

from accounts.models import LoginAttempt, Session, User
from accounts.second_factor import factors
from accounts.second_factor.models import AuthenticatorApp, RecoveryCodes
from accounts.session_engine import digest_of
from auditlog.models import Record
from tests.accounts.conftest import codes, failures, jobs, let_pass, link_in, run_jobs, sign_in, text_of
from tests.accounts.phones import OVERVIEW, SECOND_STEP, Phone, give_phone, show_code
from tests.factories import PASSWORD, UserFactory
from tests.live import at_once
from tests.rulezero.naughty import ONE_OF_EACH

pytestmark = pytest.mark.django_db
PROFILE = "/accounts/profile/"
LOGIN = "/accounts/login/"
ADMIN_LOGIN = "/admin/login/"


def is_signed_in(browser: Client) -> bool:
    return browser.get(PROFILE).status_code == 200


def half_way(name: str = "owner") -> Client:
    """A browser in which the right password was typed."""
    browser = Client()
    response = sign_in(browser, name)
    assert (response.status_code, response["Location"]) == (303, SECOND_STEP)
    return browser


# --- the two steps ----------------------------------------------------------------------------------


def test_password_and_code_let_in_and_the_password_alone_does_not(owner: User, phone: Phone) -> None:
    browser = half_way()
    assert not is_signed_in(browser)
    owner.refresh_from_db()
    assert (owner.login_count, owner.last_login) == (0, None)
    response = show_code(browser, phone.code())
    assert (response.status_code, response["Location"]) == (303, PROFILE)
    assert is_signed_in(browser)
    owner.refresh_from_db()
    assert owner.login_count == 1


@pytest.mark.skipif(shutil.which("oathtool") is None, reason="no oathtool on this machine")
def test_oathtool_is_an_authenticator_app(owner: User, owners_browser: Client) -> None:
    page = owners_browser.post(f"{OVERVIEW}app/", follow=True)
    (key,) = re.findall(r'<code class="key" id="key">([A-Z2-7 ]+)</code>', text_of(page))

    def oathtool(when: str) -> str:
        made = subprocess.run(
            ["oathtool", "--totp", "-b", key, "--now", when], capture_output=True, text=True, check=True
        )
        return made.stdout.strip()

    added = owners_browser.post(f"{OVERVIEW}app/confirm/", {"name": "oathtool", "code": oathtool("now")})
    assert (added.status_code, added["Location"]) == (303, f"{OVERVIEW}codes/")
    browser = half_way()
    assert show_code(browser, oathtool("now")).status_code == 422  # used to confirm
    assert show_code(browser, oathtool("30 seconds")).status_code == 303
    assert is_signed_in(browser)


def test_the_same_at_the_admins_door(administrator: User) -> None:
    phone, browser = give_phone(administrator), Client()
    tried = {"username": "keeper", "password": PASSWORD, "next": "/admin/accounts/user/"}
    response = browser.post(ADMIN_LOGIN, tried)
    assert (response.status_code, response["Location"]) == (303, SECOND_STEP)
    assert browser.get("/admin/accounts/user/").status_code == 302
    response = show_code(browser, phone.code())
    assert (response.status_code, response["Location"]) == (303, "/admin/accounts/user/")
    assert browser.get("/admin/accounts/user/").status_code == 200


def test_who_was_signed_in_at_the_admins_door_is_nobody_between_the_steps(
    owner: User, owners_browser: Client, administrator: User
) -> None:
    give_phone(administrator)
    tried = {"username": "keeper", "password": PASSWORD}
    assert owners_browser.post(f"{ADMIN_LOGIN}?next=/admin/", tried)["Location"] == SECOND_STEP
    assert not is_signed_in(owners_browser)


def test_between_the_steps_no_page_knows_anybody(owner: User, phone: Phone) -> None:
    browser = half_way()
    for path in (PROFILE, OVERVIEW, f"{OVERVIEW}{phone.app.pk}/", "/accounts/password/change/", "/accounts/activity/"):
        response = browser.get(path)
        assert (response.status_code, response["Location"]) == (302, f"{LOGIN}?next={path}")
    assert browser.get(SECOND_STEP).context["user"].is_anonymous
    assert "Sign out" not in text_of(browser.get(SECOND_STEP))


def test_the_session_key_changes_at_each_step(stranger: Client, owner: User, phone: Phone) -> None:
    stranger.get("/accounts/verify/anything/")
    stranger.get(f"/accounts/invitation/{'x' * 30}/")
    session = stranger.session
    session["kept"] = "yes"
    session.save()
    keys = [stranger.session.session_key]
    sign_in(stranger, "owner")
    keys.append(stranger.session.session_key)
    show_code(stranger, phone.code())
    keys.append(stranger.session.session_key)
    assert len(set(keys)) == 3
    assert list(Session.objects.values_list("key_digest", flat=True)) == [digest_of(keys[2] or "")]


@pytest.mark.parametrize("path", ["/", "/accounts/activity/?older=3"])
def test_who_was_on_the_way_to_a_page_gets_there(owner: User, phone: Phone, path: str) -> None:
    browser = Client()
    browser.post(LOGIN, {"username": "owner", "password": PASSWORD, "next": path})
    assert show_code(browser, phone.code())["Location"] == path


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", LOGIN])
def test_nobody_is_sent_to_another_site_after_the_second_step(owner: User, phone: Phone, target: str) -> None:
    browser = Client()
    browser.post(LOGIN, {"username": "owner", "password": PASSWORD, "next": target})
    assert show_code(browser, phone.code())["Location"] == PROFILE


def test_whoever_has_no_second_factor_signs_in_as_ever(colleague: User, phone: Phone) -> None:
    browser = Client()
    assert sign_in(browser, "colleague")["Location"] == PROFILE
    assert is_signed_in(browser)


# --- the half-way state ends ------------------------------------------------------------------------


def shift(browser: Client, seconds: int) -> None:
    session = browser.session
    session["_half_way"] = {**session["_half_way"], "at": session["_half_way"]["at"] - seconds}
    session.save()


def test_it_ends_after_ten_minutes(owner: User, phone: Phone) -> None:
    browser = half_way()
    shift(browser, 590)
    assert browser.get(SECOND_STEP).status_code == 200
    shift(browser, 10)
    assert browser.get(SECOND_STEP)["Location"] == LOGIN
    response = browser.post(SECOND_STEP, {"code": phone.code()}, follow=True)
    assert "That took too long" in text_of(response)
    assert not is_signed_in(browser)


def test_it_dies_with_the_password(owner: User, phone: Phone) -> None:
    browser = half_way()
    owner.set_password("Another-Horse-8-Battery")
    owner.save()
    assert show_code(browser, phone.code())["Location"] == LOGIN
    assert not is_signed_in(browser)


@pytest.mark.parametrize("change", [{"is_active": False}, {"email_verified_at": None}])
def test_it_dies_with_the_account(owner: User, phone: Phone, change: dict[str, Any]) -> None:
    browser = half_way()
    User.objects.filter(pk=owner.pk).update(**change)
    assert show_code(browser, phone.code())["Location"] == LOGIN
    assert not is_signed_in(browser)


def test_without_a_password_the_second_step_is_nobodys(stranger: Client, owner: User, phone: Phone) -> None:
    assert stranger.get(SECOND_STEP)["Location"] == LOGIN
    assert show_code(stranger, phone.code())["Location"] == LOGIN
    assert not LoginAttempt.objects.exists()


def test_a_password_reset_does_not_skip_it(stranger: Client, owner: User, phone: Phone) -> None:
    stranger.post("/accounts/password/reset/", {"email": owner.email})
    page = stranger.get(link_in(run_jobs()[-1]), follow=True)
    new = "Another-Horse-8-Battery"
    stranger.post(page.request["PATH_INFO"], {"new_password1": new, "new_password2": new})
    assert not is_signed_in(stranger)
    assert sign_in(stranger, "owner", new)["Location"] == SECOND_STEP
    assert not is_signed_in(stranger)


# --- codes work once --------------------------------------------------------------------------------


def test_a_code_works_once(owner: User, phone: Phone) -> None:
    code = phone.code()
    first, second = half_way(), half_way()
    assert show_code(first, code).status_code == 303
    assert show_code(second, code).status_code == 422
    assert (is_signed_in(first), is_signed_in(second)) == (True, False)


def test_after_a_code_no_earlier_one_is_taken(owner: User, phone: Phone) -> None:
    phone.forget_use()
    assert show_code(half_way(), phone.code(1)).status_code == 303
    assert show_code(half_way(), phone.code(0)).status_code == 422


@pytest.mark.parametrize(("steps", "status"), [(-2, 422), (-1, 303), (0, 303), (1, 303), (3, 422)])
def test_a_phones_clock_may_be_off_by_one_step(
    owner: User, phone: Phone, monkeypatch: pytest.MonkeyPatch, steps: int, status: int
) -> None:
    phone.forget_use()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    assert show_code(half_way(), phone.code(steps)).status_code == status


@pytest.mark.parametrize("spelling", ["{0}", " {0} ", "{1} {2}"])
def test_blanks_in_a_code_do_not_matter(owner: User, phone: Phone, spelling: str) -> None:
    code = phone.code()
    assert show_code(half_way(), spelling.format(code, code[:3], code[3:])).status_code == 303


def test_a_code_of_any_of_several_devices_is_taken(owner: User, phone: Phone) -> None:
    tablet = give_phone(owner, "Tablet")
    assert show_code(half_way(), tablet.code()).status_code == 303
    assert show_code(half_way(), phone.code()).status_code == 303


def test_nobody_elses_code_is_taken(owner: User, phone: Phone, colleague: User) -> None:
    theirs = give_phone(colleague)
    assert show_code(half_way(), theirs.code()).status_code == 422
    assert show_code(half_way(), theirs.recovery_codes[0]).status_code == 422


@pytest.mark.django_db(transaction=True)
def test_of_many_who_show_one_code_at_once_one_is_let_in(settings: Any) -> None:
    settings.LOGIN_FAILURE_LIMIT, settings.DATABASE_DEADLINE = 100, 60  # they wait for each other on a busy machine
    owner = UserFactory.create(username="owner")
    phone = give_phone(owner)
    for code in (phone.code(), phone.recovery_codes[0]):
        browsers = [half_way() for _browser in range(8)]
        answers = at_once([partial(_show_and_disconnect, browser, code) for browser in browsers])
        assert sorted(answers) == [303] + [422] * 7
        assert [is_signed_in(browser) for browser in browsers].count(True) == 1
    assert factors.codes_left(owner) == 9


def _show_and_disconnect(browser: Client, code: str) -> int:
    try:
        return int(show_code(browser, code).status_code)
    finally:
        connections.close_all()


# --- recovery codes ---------------------------------------------------------------------------------


def test_each_recovery_code_lets_in_once_and_its_owner_is_told(owner: User, phone: Phone) -> None:
    assert len(set(phone.recovery_codes)) == 10
    run_jobs()
    browser = half_way()
    assert show_code(browser, phone.recovery_codes[3]).status_code == 303
    assert is_signed_in(browser)
    assert show_code(half_way(), phone.recovery_codes[3]).status_code == 422
    (message,) = run_jobs()
    assert (message.subject, message.to) == ("A recovery code was used", [owner.email])
    assert "9 codes are left." in message.body
    assert phone.recovery_codes[3] not in message.body
    let_pass(seconds=6)
    assert show_code(half_way(), phone.recovery_codes[4]).status_code == 303


def test_a_recovery_code_may_be_typed_as_people_type(owner: User, phone: Phone) -> None:
    first, second, third = phone.recovery_codes[:3]
    assert show_code(half_way(), first.lower().replace("-", " ")).status_code == 303
    assert show_code(half_way(), second.replace("-", "").replace("0", "O").replace("1", "l")).status_code == 303
    let_pass(seconds=6)
    assert show_code(half_way(), third[:-1]).status_code == 422


# --- guessing ---------------------------------------------------------------------------------------


def test_wrong_codes_lock_as_wrong_passwords_do(owner: User, phone: Phone) -> None:
    browser = half_way()
    let_pass(seconds=6)  # the right password counts for a burst's time
    answers = [show_code(browser, phone.wrong_code()).status_code for _try in range(6)]
    assert answers == [422] * 5 + [429]
    locked = show_code(browser, phone.code())
    assert (locked.status_code, locked["Retry-After"]) == (429, "1800")
    assert "Please try again in 30 minutes." in text_of(locked)
    assert "ask whoever runs the site" in text_of(locked)
    assert "/accounts/password/reset/" not in text_of(locked), "a reset lifts no such lock"
    assert sign_in(Client(), "owner").status_code == 429
    assert not is_signed_in(browser)
    let_pass(minutes=30)
    assert show_code(half_way(), phone.code()).status_code == 303


def test_the_right_password_again_and_again_gives_no_more_guesses(owner: User, phone: Phone) -> None:
    guesses = []
    for _round in range(10):
        let_pass(seconds=6)
        browser = Client()
        if sign_in(browser, "owner").status_code != 303:
            break
        let_pass(seconds=6)
        guesses.append(show_code(browser, phone.wrong_code()).status_code)
    assert guesses == [422] * 5


def test_wrong_passwords_before_leave_fewer_codes(owner: User, phone: Phone) -> None:
    failures(Client(), 3)
    browser = half_way()
    let_pass(seconds=6)
    assert [show_code(browser, phone.wrong_code()).status_code for _try in range(3)] == [422, 422, 429]


def test_a_reset_password_gives_no_more_guesses(stranger: Client, owner: User, phone: Phone) -> None:
    browser = half_way()
    let_pass(seconds=6)
    for _try in range(5):
        show_code(browser, phone.wrong_code())
    stranger.post("/accounts/password/reset/", {"email": owner.email})
    page = stranger.get(link_in(run_jobs()[-1]), follow=True)
    new = "Another-Horse-8-Battery"
    chosen = {"new_password1": new, "new_password2": new}
    assert "you still have to" in text_of(stranger.post(page.request["PATH_INFO"], chosen, follow=True))
    assert sign_in(stranger, "owner", new).status_code == 429


def test_the_old_password_on_the_change_page_gives_no_more_guesses(owner: User, owners_browser: Client) -> None:
    phone = give_phone(owner)
    remove = f"{OVERVIEW}{phone.app.pk}/remove/"
    guesses = []
    for _round in range(8):
        guesses.append(owners_browser.post(remove, {"code": phone.wrong_code()}).status_code)
        let_pass(seconds=6)
        owners_browser.post("/accounts/password/change/", {"old_password": PASSWORD})
        let_pass(seconds=6)
    assert guesses == [422] * 5 + [429] * 3


def test_a_code_of_who_is_signed_in_gives_no_more_guesses_of_the_password(owner: User, owners_browser: Client) -> None:
    phone = give_phone(owner)
    guesses = []
    for _round in range(4):
        guesses += [owners_browser.post("/accounts/confirm/", {"password": "Wrong-1"}).status_code for _try in range(2)]
        phone.forget_use()
        let_pass(seconds=6)
        owners_browser.post(f"{OVERVIEW}codes/", {"code": phone.code()})
        let_pass(seconds=6)
    assert guesses == [422] * 5 + [429] * 3


def test_being_all_the_way_in_forgives(owner: User, phone: Phone) -> None:
    browser = half_way()
    let_pass(seconds=6)
    for _try in range(4):
        show_code(browser, phone.wrong_code())
    assert show_code(browser, phone.code()).status_code == 303
    assert not LoginAttempt.objects.filter(forgiven_at=None).exists()


@pytest.mark.django_db(transaction=True)
def test_of_many_codes_guessed_at_once_no_more_than_five_are_evaluated(settings: Any) -> None:
    settings.DATABASE_DEADLINE = 60
    owner = UserFactory.create(username="owner")
    phone, browser = give_phone(owner), half_way()
    let_pass(seconds=6)
    tabs = []
    for _tab in range(12):
        tab = Client()
        tab.cookies = browser.cookies
        tabs.append(tab)
    answers = at_once([partial(_show_and_disconnect, tab, phone.wrong_code()) for tab in tabs])
    assert sorted(answers) == [422] * 5 + [429] * 7


# --- what is told and recorded ----------------------------------------------------------------------


def test_a_wrong_code_is_a_failed_login_of_the_account_and_says_why(owner: User, phone: Phone) -> None:
    latest = Record.objects.latest("id").id
    browser = half_way()
    show_code(browser, phone.wrong_code())
    show_code(browser, phone.code())
    seen = Record.objects.filter(id__gt=latest).order_by("id")
    assert [(each.action, each.object_label, each.reason, each.actor_kind) for each in seen] == [
        ("second_factor_asked", "owner", None, "anonymous"),
        ("login_failed", "owner", "wrong second factor", "anonymous"),
        ("login", "owner", None, "user"),
    ]


def test_no_code_is_sent_back_or_kept(owner: User, phone: Phone) -> None:
    wrong = phone.recovery_codes[0][:-1] + "-"
    browser = half_way()
    assert wrong not in text_of(show_code(browser, wrong))
    assert show_code(browser, phone.recovery_codes[1]).status_code == 303
    kept = [str(list(model.objects.values())) for model in (AuthenticatorApp, RecoveryCodes, LoginAttempt, Session)]
    kept += [str(list(Record.objects.values("old", "new", "object_label", "reason"))), str(jobs())]
    for secret in (phone.secret, *phone.recovery_codes, wrong):
        assert not [each for each in kept if secret in each]


def test_the_second_step_needs_a_token(owner: User, phone: Phone) -> None:
    browser = half_way()
    browser.handler.enforce_csrf_checks = True
    assert show_code(browser, phone.code()).status_code == 403
    assert not is_signed_in(browser)


@pytest.mark.parametrize(("code", "fault"), [("", "code_missing"), (" ", "code_missing"), ("1" * 65, "max_length")])
def test_a_form_of_bad_shape_is_explained_and_counts_for_nobody(
    owner: User, phone: Phone, code: str, fault: str
) -> None:
    browser = half_way()
    before = LoginAttempt.objects.count()
    response = show_code(browser, code)
    assert (response.status_code, codes(response.context["form"], "code")) == (422, [fault])
    assert LoginAttempt.objects.count() == before


def test_naughty_codes_are_wrong_and_nothing_else(owner: User, phone: Phone, settings: Any) -> None:
    settings.LOGIN_FAILURE_LIMIT = settings.LOGIN_FAILURES_PER_ACCOUNT = 1000
    settings.LOGIN_FAILURES_PER_NETWORK = 10_000
    browser = half_way()
    for naughty in (*ONE_OF_EACH, "１２３４５６", "١٢٣٤٥٦", "\ud800", "x" * 15_000):
        sent = f"code={naughty}".encode("utf-8", "surrogatepass")
        response = browser.post(SECOND_STEP, sent, content_type="application/x-www-form-urlencoded")
        assert response.status_code == 422, naughty
        assert show_code(browser, naughty.encode("utf-8", "replace").decode()).status_code == 422, naughty
    assert not is_signed_in(browser)
    assert show_code(browser, phone.code()).status_code == 303
