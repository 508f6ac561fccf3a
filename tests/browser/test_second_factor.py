"""A passkey of a virtual authenticator in a real browser, and the pages of second factors as sound as the others."""

from __future__ import annotations

import time

import pyotp
import pytest

from accounts.models import User
from accounts.second_factor.models import Passkey
from tests.accounts.phones import OVERVIEW, SECOND_STEP, give_phone
from tests.browser.conftest import Arrive, Visitor
from tests.browser.test_journeys import sign_in
from tests.browser.test_pages import inspect
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)


def plug_in(visitor: Visitor) -> None:
    """Give the browser a security key, which Chromium plays itself."""
    session = visitor.page.context.new_cdp_session(visitor.page)
    session.send("WebAuthn.enable")
    options = {"protocol": "ctap2", "transport": "usb", "hasUserVerification": True, "isUserVerified": True}
    options |= {"hasResidentKey": False, "automaticPresenceSimulation": True}
    session.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def test_a_passkey_is_registered_and_passes_the_second_step(visitor: Visitor) -> None:
    UserFactory.create(username="ada")
    plug_in(visitor)
    sign_in(visitor, "ada")
    visitor.page.click(".account-nav >> text=Second factor")
    visitor.page.click("main >> text=Add a passkey")
    visitor.fill(name="Blue key")
    visitor.page.click("main >> text=Add it")
    visitor.page.wait_for_url("**/codes/")
    visitor.page.click("main >> text=I have them")
    assert "Blue key" in visitor.text()
    made = Passkey.objects.get()
    assert (made.name, made.transports) == ("Blue key", ["usb"])

    visitor.page.click("header >> text=Sign out")
    sign_in(visitor, "ada")
    assert visitor.page.url.endswith(SECOND_STEP)
    visitor.screenshot("journey-second-factor-with-javascript")
    visitor.page.click("main >> text=Use a passkey")
    visitor.page.wait_for_url("**/accounts/profile/")
    used = Passkey.objects.get()
    assert used.last_used_at is not None
    assert used.sign_count > made.sign_count
    assert User.objects.get().login_count == 2

    visitor.go(f"{OVERVIEW}{used.pk}/remove/")
    visitor.page.click("main >> text=Use a passkey")
    visitor.page.wait_for_url(f"**{OVERVIEW}")
    assert not Passkey.objects.exists()


def test_without_an_authenticator_the_page_says_so_and_codes_work(visitor: Visitor) -> None:
    ada = UserFactory.create(username="ada")
    phone = give_phone(ada)
    Passkey.objects.create(user=ada, name="Lost key", credential_id=b"lost", public_key=b"", sign_count=0)
    visitor.page.add_init_script("navigator.credentials.get = () => Promise.reject(new Error('none'))")
    sign_in(visitor, "ada")
    visitor.page.click("main >> text=Use a passkey")
    visitor.page.wait_for_selector("text=That did not work with the passkey.")
    visitor.fill(code=phone.code())
    visitor.submit()
    assert visitor.page.url.endswith("/accounts/profile/")


def test_an_app_is_added_without_javascript(arrive: Arrive) -> None:
    UserFactory.create(username="ada")
    visitor = arrive(java_script_enabled=False)
    sign_in(visitor, "ada")
    visitor.go(OVERVIEW)
    visitor.page.click("main >> text=Add an authenticator app")
    key = visitor.page.inner_text(".key").replace(" ", "")
    visitor.fill(name="Phone", code=pyotp.TOTP(key).now())
    visitor.submit()
    codes = visitor.page.locator(".codes li").all_inner_texts()
    with visitor.page.expect_download() as download:
        visitor.page.click("main >> text=Save as a text file")
    assert [line for line in download.value.path().read_text().split("\n") if line in codes] == codes
    visitor.page.click("header >> text=Sign out")
    sign_in(visitor, "ada")
    assert not visitor.page.is_visible("text=Use a passkey")
    visitor.screenshot("journey-second-factor-without-javascript")
    visitor.fill(code=pyotp.HOTP(key).at(int(time.time()) // 30 + 1))
    visitor.submit()
    assert visitor.page.url.endswith("/accounts/profile/")


def test_the_pages_are_sound(arrive: Arrive) -> None:
    ada = UserFactory.create(username="ada", full_name="Ada Lovelace")
    visitor = arrive()
    sign_in(visitor, "ada")
    faults = inspect(visitor, "second-factor-none", OVERVIEW)
    visitor.page.click("text=Add an authenticator app")
    faults += inspect(visitor, "second-factor-app", f"{OVERVIEW}app/confirm/")
    key = visitor.page.inner_text(".key").replace(" ", "")
    visitor.fill(code=pyotp.TOTP(key).now())
    visitor.submit()
    faults += inspect(visitor, "second-factor-codes", f"{OVERVIEW}codes/")
    Passkey.objects.create(user=ada, name="K" * 64, credential_id=b"key", public_key=b"", sign_count=0)
    phone = give_phone(ada, "Telephone in the kitchen")
    visitor.page.click("text=I have them")
    device = f"{OVERVIEW}{phone.app.pk}/"
    for name, path in {
        "overview": OVERVIEW,
        "detail": device,
        "remove": f"{device}remove/",
        "passkey": f"{OVERVIEW}passkey/",
        "codes-left": f"{OVERVIEW}codes/",
    }.items():
        faults += inspect(visitor, f"second-factor-{name}", path)
    visitor.page.click("header >> text=Sign out")
    sign_in(visitor, "ada")
    faults += inspect(visitor, "second-step", SECOND_STEP)
    assert faults == []
