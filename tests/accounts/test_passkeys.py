"""Passkeys as second factors, with a security key in software; a real browser is in ``tests/browser``."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from fido2.utils import websafe_encode

from accounts.models import User
from accounts.second_factor import factors
from accounts.second_factor.models import Passkey
from tests.accounts.conftest import jobs, let_pass, run_jobs, sign_in, text_of
from tests.accounts.phones import OVERVIEW, SECOND_STEP, Phone, give_phone
from tests.accounts.security_key import PRESENT, SecurityKey
from tests.accounts.test_events import Trail
from tests.factories import UserFactory
from tests.live import at_once
from tests.rulezero.naughty import ONE_OF_EACH

pytestmark = pytest.mark.django_db
ADD = f"{OVERVIEW}passkey/"
PROFILE = "/accounts/profile/"


def asked(browser: Client, path: str) -> dict[str, Any]:
    response = browser.post(path)
    assert response.status_code == 200
    question: dict[str, Any] = response.json()
    return question


def add(browser: Client, key: SecurityKey, name: str = "Key") -> Any:
    return browser.post(ADD, {"name": name, "answer": key.register(asked(browser, f"{ADD}question/"))})


@pytest.fixture
def key(owners_browser: Client) -> SecurityKey:
    """The owner's security key."""
    key = SecurityKey()
    assert add(owners_browser, key).status_code == 303
    run_jobs()
    return key


def half_way() -> Client:
    browser = Client()
    assert sign_in(browser, "owner")["Location"] == SECOND_STEP
    return browser


def show(browser: Client, answer: str) -> int:
    return int(browser.post(SECOND_STEP, {"answer": answer, "code": ""}).status_code)


def show_key(browser: Client, key: SecurityKey, **other: Any) -> int:
    return show(browser, key.prove(asked(browser, f"{SECOND_STEP}question/"), **other))


def is_signed_in(browser: Client) -> bool:
    return browser.get(PROFILE).status_code == 200


# --- adding -----------------------------------------------------------------------------------------


def test_a_passkey_is_added_and_lets_in(owner: User, owners_browser: Client) -> None:
    key, trail = SecurityKey(), Trail()
    response = add(owners_browser, key, "Blue key")
    assert (response.status_code, response["Location"]) == (303, f"{OVERVIEW}codes/")
    assert "Blue key" in text_of(owners_browser.get(OVERVIEW))
    assert [arguments[0] for _name, arguments in jobs()] == ["second_factor_added"]
    assert trail.seen[0] == ("create", "accounts.passkey", "Blue key", "second factor added")
    assert Passkey.objects.get().transports == ["usb"]
    browser = half_way()
    assert "Use a passkey" in text_of(browser.get(SECOND_STEP))
    assert show_key(browser, key) == 303
    assert is_signed_in(browser)


def test_the_question_names_this_site_and_what_is_known_already(owner: User, owners_browser: Client) -> None:
    add(owners_browser, SecurityKey())
    question = asked(owners_browser, f"{ADD}question/")["publicKey"]
    assert question["rp"] == {"id": "localhost", "name": "Gatehouse"}
    assert question["user"]["id"] == websafe_encode(owner.pk.bytes)
    known = websafe_encode(SecurityKey.credential_id)
    assert [each["id"] for each in question["excludeCredentials"]] == [known]
    assert question["authenticatorSelection"]["userVerification"] == "preferred"
    assert [each["alg"] for each in question["pubKeyCredParams"]] == [-7, -8, -257]


def test_a_forged_host_changes_nothing_about_whose_passkeys_they_are(owners_browser: Client) -> None:
    response = owners_browser.post(f"{ADD}question/", headers={"host": "127.0.0.1"})
    assert response.json()["publicKey"]["rp"]["id"] == "localhost"


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://localhost:8001"},
        {"origin": "http://localhost"},
        {"origin": "https://localhost:8000"},
        {"origin": "http://localhost:8000.evil.example"},
        {"rp_id": "evil.example"},
        {"flags": 0},
        {"credential_id": b"x" * 1024},
    ],
)
def test_what_was_made_for_another_site_or_by_nobody_is_refused(owners_browser: Client, wrong: dict[str, Any]) -> None:
    response = add(owners_browser, SecurityKey(**wrong))
    assert response.status_code == 409
    assert "That did not work with the passkey." in text_of(response)
    assert not Passkey.objects.exists()


def test_a_question_for_a_new_one_is_answered_once_and_in_time(owners_browser: Client) -> None:
    answer = SecurityKey().register(asked(owners_browser, f"{ADD}question/"))
    session = owners_browser.session
    question = session["_passkey_new"]
    session["_passkey_new"] = {**question, "at": question["at"] - 300}
    session.save()
    form = {"name": "Key", "answer": answer}
    assert owners_browser.post(ADD, form).status_code == 409  # too late
    assert owners_browser.post(ADD, form).status_code == 409  # and gone
    unasked = SecurityKey().register({}, challenge=b"")
    assert owners_browser.post(ADD, {"name": "Key", "answer": unasked}).status_code == 409
    assert not Passkey.objects.exists()


def test_an_id_may_be_as_long_as_the_standard_lets_it(owners_browser: Client) -> None:
    assert add(owners_browser, SecurityKey(credential_id=b"x" * 1023)).status_code == 303


def test_one_passkey_is_one_accounts(owners_browser: Client, colleague: User, key: SecurityKey) -> None:
    theirs = Client()
    theirs.force_login(colleague)
    response = add(theirs, key)
    assert response.status_code == 409
    assert "belongs to an account already" in text_of(response)
    assert Passkey.objects.count() == 1


# --- showing it -------------------------------------------------------------------------------------


def test_an_answer_works_once(owner: User, key: SecurityKey) -> None:
    browser = half_way()
    answer = key.prove(asked(browser, f"{SECOND_STEP}question/"))
    assert show(browser, answer) == 303
    assert show(half_way(), answer) == 422


@pytest.mark.parametrize("count", [0, None])
@pytest.mark.django_db(transaction=True)
def test_of_one_answer_many_times_at_once_one_lets_in(count: int | None, settings: Any) -> None:
    settings.LOGIN_FAILURE_LIMIT, settings.DATABASE_DEADLINE = 100, 60
    owner, key, browser = UserFactory.create(username="owner"), SecurityKey(count), Client()
    browser.force_login(owner)
    add(browser, key)
    first = half_way()
    answer = key.prove(asked(first, f"{SECOND_STEP}question/"))
    tabs = [Client() for _tab in range(6)]
    for tab in tabs:
        tab.cookies.load({name: morsel.value for name, morsel in first.cookies.items()})

    def send(tab: Client) -> str:
        try:
            return str(tab.post(SECOND_STEP, {"answer": answer, "code": ""}).get("Location", "refused"))
        finally:
            connections.close_all()

    # Who comes when the session has changed its key is half-way no more.
    assert at_once([partial(send, tab) for tab in tabs]).count(PROFILE) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"origin": "https://evil.example"}, {"rp_id": "evil.example"}, {"flags": 0}, {"credential_id": b"another"}],
)
def test_an_answer_for_another_site_or_of_another_key_is_wrong(
    owner: User, key: SecurityKey, wrong: dict[str, Any]
) -> None:
    forged = SecurityKey(**({"private_key": key.private_key, "count": 10} | wrong))
    browser = half_way()
    assert show_key(browser, forged) == 422
    assert not is_signed_in(browser)


def test_a_signature_of_another_key_is_wrong(owner: User, key: SecurityKey) -> None:
    assert show_key(half_way(), SecurityKey(count=10)) == 422


def test_without_a_question_nothing_is_an_answer(owner: User, key: SecurityKey) -> None:
    assert show(half_way(), key.prove({}, challenge=b"")) == 422
    assert show(half_way(), key.prove({}, challenge=b"x" * 32)) == 422


def test_a_copy_of_a_key_is_found_by_its_counter(owner: User, key: SecurityKey) -> None:
    copy = SecurityKey(private_key=key.private_key, count=key.count)
    assert show_key(half_way(), key) == 303
    assert show_key(half_way(), copy) == 422


def test_a_key_that_does_not_count_is_let_in_again_and_again(owner: User, owners_browser: Client) -> None:
    key = SecurityKey(count=None)
    add(owners_browser, key)
    for _login in range(2):
        assert show_key(half_way(), key) == 303


def test_a_key_without_verification_will_do_beside_a_password(owner: User, key: SecurityKey) -> None:
    key.flags = PRESENT
    assert show_key(half_way(), key) == 303


def test_nobody_elses_passkey_lets_in(owner: User, phone: Phone, colleague: User) -> None:
    theirs, key = Client(), SecurityKey()
    theirs.force_login(colleague)
    add(theirs, key)
    assert show_key(half_way(), key) == 422


def test_wrong_answers_lock_as_wrong_codes_do(owner: User, key: SecurityKey) -> None:
    browser = half_way()
    let_pass(seconds=6)
    assert [show(browser, "{}") for _try in range(6)] == [422] * 5 + [429]
    assert show_key(browser, key) == 429
    assert not is_signed_in(browser)


def test_a_stranger_is_asked_nothing(stranger: Client, owner: User, key: SecurityKey) -> None:
    response = stranger.post(f"{SECOND_STEP}question/")
    assert (response.status_code, response.json()) == (403, {"code": "half_way_over"})
    for path in (f"{ADD}question/", f"{OVERVIEW}question/"):
        assert stranger.post(path)["Location"].startswith("/accounts/login/?next=")
    assert not stranger.session.keys()


def test_questions_need_a_token(owners_browser: Client, owner: User, key: SecurityKey) -> None:
    browser = half_way()
    for each, path in ((owners_browser, f"{ADD}question/"), (browser, f"{SECOND_STEP}question/")):
        each.handler.enforce_csrf_checks = True
        assert each.post(path).status_code == 403


# --- as a proof -------------------------------------------------------------------------------------


def test_a_passkey_proves_what_needs_a_proof(owner: User, owners_browser: Client, key: SecurityKey) -> None:
    passkey = Passkey.objects.get()
    remove, question = f"{OVERVIEW}{passkey.pk}/remove/", f"{OVERVIEW}question/"
    new = owners_browser.post(f"{OVERVIEW}codes/", {"answer": key.prove(asked(owners_browser, question))})
    assert new.status_code == 303
    assert owners_browser.post(remove, {"answer": "{}"}).status_code == 422
    answer = key.prove(asked(owners_browser, question))
    assert owners_browser.post(remove, {"answer": answer})["Location"] == OVERVIEW
    assert not factors.is_on(owner)


def test_a_question_for_a_new_one_proves_nothing(owner: User, owners_browser: Client, key: SecurityKey) -> None:
    passkey = Passkey.objects.get()
    answer = key.prove(asked(owners_browser, f"{ADD}question/"))
    assert owners_browser.post(f"{OVERVIEW}{passkey.pk}/remove/", {"answer": answer}).status_code == 422
    assert factors.is_on(owner)


# --- naughty input ----------------------------------------------------------------------------------


def odd_answers(right: str) -> list[str]:
    """A right answer with each of its parts missing or odd, and what is no answer at all."""
    odd: list[str] = []
    answer = json.loads(right)
    values: tuple[Any, ...] = (None, "", 1, [], {}, "é", "\0", "A" * 4000)
    for name in answer:
        for value in values:
            odd.append(json.dumps({**answer, name: value}))
    for name in answer["response"]:
        for value in (*values, "AAAA", "/w", "n" * 3000, websafe_encode(b"\x9f" * 2000)):
            odd.append(json.dumps({**answer, "response": {**answer["response"], name: value}}))
    said = [b"{}", b"[]", b"null", b"\xff", b'{"type":"webauthn.get"}', b"[" * 3000]
    said += [b'{"type":1,"challenge":1,"origin":1}', b'{"type":"webauthn.get","challenge":"","origin":"http://["}']
    for each in said:
        odd.append(json.dumps({**answer, "response": {**answer["response"], "clientDataJSON": websafe_encode(each)}}))
    return [*odd, "null", "[]", "1", '"x"', "[" * 8000, "{", "NaN", "1e999", "{}" * 3000, *ONE_OF_EACH]


def test_naughty_answers_are_wrong_and_nothing_else(
    owner: User, owners_browser: Client, key: SecurityKey, settings: Any
) -> None:
    settings.LOGIN_FAILURE_LIMIT = settings.LOGIN_FAILURES_PER_ACCOUNT = settings.LOGIN_FAILURES_PER_NETWORK = 10_000
    browser = half_way()
    question = asked(browser, f"{SECOND_STEP}question/")
    kept = browser.session["_passkey_proof"]
    for odd in odd_answers(SecurityKey(count=10).prove(question)):
        session = browser.session
        session["_passkey_proof"] = kept
        session.save()
        assert browser.post(SECOND_STEP, {"answer": odd, "code": ""}).status_code == 422, odd[:200]
    assert not is_signed_in(browser)
    question = asked(owners_browser, f"{ADD}question/")
    kept = owners_browser.session["_passkey_new"]
    for odd in odd_answers(SecurityKey(credential_id=b"x").register(question)):
        session = owners_browser.session
        session["_passkey_new"] = kept
        session.save()
        status = owners_browser.post(ADD, {"name": "Key", "answer": odd}).status_code
        # Only what we do not look at may be odd.
        assert status in (409, 422) or (status == 303 and Passkey.objects.count() > 1), odd[:200]
        Passkey.objects.exclude(name="Key", sign_count=1, credential_id=SecurityKey.credential_id).delete()


def test_a_device_is_removed_by_its_owner_only(owner: User, colleague: User, key: SecurityKey) -> None:
    phone, theirs = give_phone(colleague), Client()
    theirs.force_login(colleague)
    path = f"{OVERVIEW}{Passkey.objects.get().pk}/remove/"
    assert theirs.post(path, {"code": phone.code()}).status_code == 404
    assert factors.is_on(owner)
