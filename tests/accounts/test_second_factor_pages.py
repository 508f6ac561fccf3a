"""The pages of one's own second factors: adding, naming, removing, recovery codes."""

from __future__ import annotations

import re
from functools import partial
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID, uuid4

import pyotp
import pytest
from django.db import connection, connections
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from accounts.second_factor import encryption, events, factors, totp
from accounts.second_factor.models import AuthenticatorApp, Factor, RecoveryCodes
from tests.accounts.conftest import codes, jobs, let_pass, run_jobs, sign_in, text_of
from tests.accounts.phones import OVERVIEW, Phone, give_phone, show_code
from tests.accounts.test_events import Trail
from tests.factories import UserFactory
from tests.live import at_once
from tests.rulezero.naughty import ONE_OF_EACH

pytestmark = pytest.mark.django_db
BEGIN, CONFIRM = f"{OVERVIEW}app/", f"{OVERVIEW}app/confirm/"
CODES = f"{OVERVIEW}codes/"


def begin(browser: Client) -> pyotp.TOTP:
    """Begin to add an app; returns one that has typed the key of the page."""
    page = browser.post(BEGIN, follow=True)
    (key,) = re.findall(r'<code class="key" id="key">([A-Z2-7 ]+)</code>', text_of(page))
    return pyotp.TOTP(key.replace(" ", ""))


def confirm(browser: Client, code: str, name: str = "Phone") -> Any:
    return browser.post(CONFIRM, {"name": name, "code": code})


def mails() -> list[str]:
    return [arguments[0] for _function, arguments in jobs()]


# --- adding an app ----------------------------------------------------------------------------------


def test_an_app_counts_once_a_code_of_it_was_seen(owner: User, owners_browser: Client) -> None:
    assert "None yet" in text_of(owners_browser.get(OVERVIEW))
    app = begin(owners_browser)
    assert not factors.is_on(owner)
    trail = Trail()
    response = confirm(owners_browser, app.now())
    assert (response.status_code, response["Location"]) == (303, CODES)
    assert factors.is_on(owner)
    assert sign_in(Client(), "owner")["Location"] == "/accounts/login/second-factor/"
    page = text_of(owners_browser.get(OVERVIEW))
    assert "Phone" in page
    assert "10 codes are left" in page
    assert mails() == ["second_factor_added"]
    reason = "second factor added"
    assert trail.seen[:3] == [
        ("create", "accounts.authenticatorapp", "Phone", reason),
        ("second_factor_added", "accounts.user", "owner", reason),
        ("create", "accounts.recoverycodes", "", reason),
    ]
    assert app.secret not in str([each.after for each in trail.records])


def test_the_page_shows_the_key_as_text_and_as_a_code_without_inline_styles(
    owner: User, owners_browser: Client
) -> None:
    app = begin(owners_browser)
    response = owners_browser.get(CONFIRM)
    page = text_of(response)
    assert "no-store" in response["Cache-Control"]
    assert re.search(r"<svg[^>]*>\s*<title>QR code for your app</title>", page)
    assert "style=" not in page
    uri = urlsplit(totp.uri(app.secret, owner.username))
    assert (uri.scheme, uri.netloc, unquote(uri.path)) == ("otpauth", "totp", "/Gatehouse:owner")
    assert parse_qs(uri.query) == {"secret": [app.secret], "issuer": ["Gatehouse"]}


def test_a_wrong_code_adds_nothing_and_the_key_stays(owner: User, owners_browser: Client) -> None:
    app = begin(owners_browser)
    wrong = str((int(app.now()) + 1) % 1_000_000).zfill(6)
    wrong = wrong if not totp.matching_steps(app.secret, wrong) else "000000"
    response = confirm(owners_browser, wrong, name="My <b>phone</b>")
    assert (response.status_code, codes(response.context["form"], "code")) == (409, ["code_wrong"])
    assert wrong not in text_of(response)
    assert not AuthenticatorApp.objects.exists()
    assert confirm(owners_browser, app.now()).status_code == 303


@pytest.mark.parametrize("code", ["12345", "1234567", "abcdef", "１２３４５６", "-12345", "12 34 5"])
def test_a_code_of_bad_shape_is_explained(owners_browser: Client, code: str) -> None:
    begin(owners_browser)
    response = confirm(owners_browser, code)
    assert (response.status_code, codes(response.context["form"], "code")) == (422, ["code_wrong"])


def test_the_secret_is_in_no_row_in_clear(owner: User, owners_browser: Client) -> None:
    app = begin(owners_browser)
    secret = app.secret
    assert owners_browser.session["_new_app"]
    assert secret not in str(dict(owners_browser.session))
    confirm(owners_browser, app.now())
    row = AuthenticatorApp.objects.get()
    assert secret not in row.secret
    assert encryption.decrypt(row.secret, about=f"authenticator app {row.pk}") == secret
    assert encryption.decrypt(row.secret, about=f"authenticator app {uuid4()}") is None


def test_without_a_key_nothing_is_confirmed(owners_browser: Client, owner: User) -> None:
    assert owners_browser.get(CONFIRM)["Location"] == OVERVIEW
    assert confirm(owners_browser, "123456")["Location"] == OVERVIEW
    begin(owners_browser)
    session = owners_browser.session
    session["_new_app"] = [session["_new_app"][0], session["_new_app"][1] - 600]
    session.save()
    assert owners_browser.get(CONFIRM)["Location"] == OVERVIEW


@pytest.mark.django_db(transaction=True)
def test_the_same_form_twice_at_once_adds_one_app(settings: Any) -> None:
    settings.DATABASE_DEADLINE = 60
    owner = UserFactory.create(username="owner")
    browser = Client()
    browser.force_login(owner)
    code = begin(browser).now()
    tabs = [Client() for _tab in range(4)]
    for tab in tabs:
        tab.cookies = browser.cookies

    def send(tab: Client) -> int:
        try:
            return int(confirm(tab, code).status_code)
        finally:
            connections.close_all()

    assert at_once([partial(send, tab) for tab in tabs]) == [303] * 4
    assert AuthenticatorApp.objects.count() == RecoveryCodes.objects.count() == 1
    assert mails() == ["second_factor_added"]


@pytest.mark.parametrize("change", [{"is_active": False}, {"password": "!of-somebody-else"}])
def test_who_is_shut_out_or_has_another_password_meanwhile_gets_none(
    owner: User, owners_browser: Client, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    app = begin(owners_browser)
    steps = totp.matching_steps

    def slowly(secret: str, code: str) -> list[int]:
        User.objects.filter(pk=owner.pk).update(**change)
        return steps(secret, code)

    monkeypatch.setattr(totp, "matching_steps", slowly)
    response = confirm(owners_browser, app.now())
    assert (response.status_code, codes(response.context["form"], "__all__")) == (409, ["account_changed"])
    assert factors.of(owner) == []
    assert not mails()


def test_nobody_has_more_than_twenty(owner: User, owners_browser: Client) -> None:
    for number in range(events.MOST_FACTORS):
        give_phone(owner, f"Phone {number}")
    response = confirm(owners_browser, begin(owners_browser).now())
    assert response.status_code == 409
    assert "very many second factors" in text_of(response)
    assert len(factors.of(owner)) == events.MOST_FACTORS


def test_many_devices_cost_as_many_queries_as_one(owner: User, owners_browser: Client) -> None:
    counts = []
    for number in range(3):
        give_phone(owner, f"Phone {number}")
        with CaptureQueriesContext(connection) as seen:
            owners_browser.get(OVERVIEW)
        counts.append(len(seen))
    assert counts[1] == counts[2]


# --- names and removal ------------------------------------------------------------------------------


def test_a_device_can_be_called_otherwise(owner: User, owners_browser: Client, phone: Phone) -> None:
    run_jobs()
    path = f"{OVERVIEW}{phone.app.pk}/"
    assert 'value="Phone"' in text_of(owners_browser.get(path))
    assert owners_browser.post(path, {"name": " Old phone "})["Location"] == OVERVIEW
    assert "Old phone" in text_of(owners_browser.get(OVERVIEW))
    assert not jobs()


def test_one_that_another_tab_removes_meanwhile_cannot_be_called_otherwise(
    owner: User, owners_browser: Client, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = factors.find

    def removed_after(user: User, factor_id: UUID) -> Factor | None:
        found = find(user, factor_id)
        phone.app.delete()
        return found

    monkeypatch.setattr(factors, "find", removed_after)
    trail = Trail()
    assert owners_browser.post(f"{OVERVIEW}{phone.app.pk}/", {"name": "Old phone"}).status_code == 404
    assert [action for action, *_about in trail.seen] == ["delete"]
    assert factors.of(owner) == []


def test_removing_needs_a_code(owner: User, owners_browser: Client, phone: Phone) -> None:
    run_jobs()
    path = f"{OVERVIEW}{phone.app.pk}/remove/"
    assert "your last second factor" in text_of(owners_browser.get(path))
    assert owners_browser.post(path, {"code": phone.wrong_code()}).status_code == 422
    assert factors.is_on(owner)
    trail = Trail()
    assert owners_browser.post(path, {"code": phone.code()})["Location"] == OVERVIEW
    assert not factors.is_on(owner)
    assert not RecoveryCodes.objects.exists()
    assert ("second_factor_removed", "accounts.user", "owner", "second factor removed") in trail.seen
    assert mails() == ["second_factor_removed"]
    assert sign_in(Client(), "owner")["Location"] == "/accounts/profile/"


def test_one_of_two_is_removed_by_a_code_of_the_other(owner: User, owners_browser: Client, phone: Phone) -> None:
    tablet = give_phone(owner, "Tablet")
    path = f"{OVERVIEW}{phone.app.pk}/remove/"
    assert "your last second factor" not in text_of(owners_browser.get(path))
    assert owners_browser.post(path, {"code": tablet.code()}).status_code == 303
    assert [factor.name for factor in factors.of(owner)] == ["Tablet"]
    assert factors.codes_left(owner) == 10


def test_nobody_sees_or_touches_anothers(owners_browser: Client, colleague: User) -> None:
    theirs = give_phone(colleague)
    for path in (f"{OVERVIEW}{theirs.app.pk}/", f"{OVERVIEW}{theirs.app.pk}/remove/", f"{OVERVIEW}{uuid4()}/"):
        assert owners_browser.get(path).status_code == 404
        assert owners_browser.post(path, {"name": "mine", "code": theirs.code()}).status_code == 404
    assert [factor.name for factor in factors.of(colleague)] == ["Phone"]


@pytest.mark.parametrize("path", ["", "app/", "app/confirm/", "codes/", "codes/text/", "codes/kept/"])
def test_strangers_are_shown_to_the_login(stranger: Client, path: str) -> None:
    for response in (stranger.get(OVERVIEW + path), stranger.post(OVERVIEW + path)):
        assert response.status_code == 405 or response["Location"].startswith("/accounts/login/?next=")


# --- recovery codes ---------------------------------------------------------------------------------


def test_new_codes_are_shown_until_they_are_kept(owner: User, owners_browser: Client) -> None:
    confirm(owners_browser, begin(owners_browser).now())
    shown = re.findall(r"<li><code>([0-9A-Z-]{29})</code>", text_of(owners_browser.get(CODES)))
    assert len(set(shown)) == 10
    saved = owners_browser.get(f"{CODES}text/")
    assert saved["Content-Disposition"] == 'attachment; filename="recovery-codes.txt"'
    assert "no-store" in saved["Cache-Control"]
    assert [line for line in text_of(saved).split("\n") if line in shown] == shown
    assert owners_browser.post(f"{CODES}kept/")["Location"] == OVERVIEW
    assert not [code for code in shown if code in text_of(owners_browser.get(CODES))]
    assert owners_browser.get(f"{CODES}text/").status_code == 404
    browser = Client()
    sign_in(browser, "owner")
    assert show_code(browser, shown[0]).status_code == 303


def test_new_codes_are_gone_after_ten_minutes_and_are_in_no_session_in_clear(
    owner: User, owners_browser: Client
) -> None:
    confirm(owners_browser, begin(owners_browser).now())
    (code, *_others) = re.findall(r"<li><code>([0-9A-Z-]{29})</code>", text_of(owners_browser.get(CODES)))
    session = owners_browser.session
    assert code not in str(dict(session))
    session["_new_codes"] = [session["_new_codes"][0], session["_new_codes"][1] - 600]
    session.save()
    assert code not in text_of(owners_browser.get(CODES))


def test_made_anew_the_old_ones_are_dead(owner: User, owners_browser: Client, phone: Phone) -> None:
    run_jobs()
    assert owners_browser.post(CODES, {"code": phone.wrong_code()}).status_code == 422
    assert owners_browser.post(CODES, {"code": phone.code()})["Location"] == CODES
    new = re.findall(r"<li><code>([0-9A-Z-]{29})</code>", text_of(owners_browser.get(CODES)))
    assert mails() == ["second_factor_codes_replaced"]
    assert not set(new) & set(phone.recovery_codes)
    browser = Client()
    sign_in(browser, "owner")
    assert show_code(browser, phone.recovery_codes[0]).status_code == 422
    assert show_code(browser, new[0]).status_code == 303


# --- exchanging keys --------------------------------------------------------------------------------

OLD, NEW = "o" * 30 + "abcdefghij" * 3, "n" * 30 + "klmnopqrst" * 3


def let_in(phone: Phone) -> bool:
    let_pass(seconds=6)
    browser = Client()
    sign_in(browser, "owner")
    return bool(show_code(browser, phone.code()).status_code == 303)


def test_a_secret_changes_to_the_newest_key_when_it_is_used(owner: User) -> None:
    with override_settings(SECRET_KEY=OLD):
        phone = give_phone(owner)
    before = AuthenticatorApp.objects.get().secret
    trail = Trail()
    with override_settings(SECOND_FACTOR_KEY=NEW, SECOND_FACTOR_KEY_FALLBACKS=[OLD]):
        assert let_in(phone)
    assert AuthenticatorApp.objects.get().secret != before
    assert ("update", "accounts.authenticatorapp", "Phone", "the same secret, encrypted anew") in trail.seen
    phone.forget_use()
    with override_settings(SECOND_FACTOR_KEY=NEW):
        assert let_in(phone)
        trail = Trail()
        phone.forget_use()
        assert let_in(phone)
    assert not [each for each in trail.seen if each[1] == "accounts.authenticatorapp"]


def test_a_secret_whose_key_is_gone_lets_nobody_in_and_breaks_no_page(owner: User, owners_browser: Client) -> None:
    with override_settings(SECOND_FACTOR_KEY=OLD):
        phone = give_phone(owner)
    assert not let_in(phone)
    assert owners_browser.get(OVERVIEW).status_code == 200
    browser = Client()
    sign_in(browser, "owner")
    assert show_code(browser, phone.recovery_codes[0]).status_code == 303


# --- naughty input ----------------------------------------------------------------------------------


def test_naughty_names_and_codes_break_nothing(owner: User, owners_browser: Client, settings: Any) -> None:
    settings.LOGIN_FAILURE_LIMIT = settings.LOGIN_FAILURES_PER_ACCOUNT = settings.LOGIN_FAILURES_PER_NETWORK = 10_000
    phone = give_phone(owner)
    begin(owners_browser)
    device = f"{OVERVIEW}{phone.app.pk}/"
    for naughty in (*ONE_OF_EACH[::2], "\ud800", "x" * 10_000):
        body = b"code=%s&name=%s" % ((naughty.encode("utf-8", "surrogatepass"),) * 2)
        for path in (CONFIRM, CODES, device, f"{device}remove/"):
            sent = owners_browser.post(path, body, content_type="application/x-www-form-urlencoded")
            assert sent.status_code in ((303, 422) if path == device else (422,)), (path, naughty)
        assert owners_browser.get(OVERVIEW).status_code == 200
    assert len(factors.of(owner)) == 1
