"""The live meter and the suggestion, as the script of the pages asks for them."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import meter
from accounts.models import Session, User
from accounts.password_views import SUGGESTIONS
from accounts.policy import judge
from auditlog.models import Record
from tests.accounts.conftest import text_of
from tests.factories import PASSWORD
from tests.rulezero.naughty import NAUGHTY

pytestmark = pytest.mark.django_db

METER = "/accounts/password/meter/"
SUGGESTION = "/accounts/password/suggestion/"


@pytest.fixture(autouse=True)
def nobody_has_asked_yet() -> None:
    meter.budget.clear()


def ask(browser: Client, password: str, **more: str) -> dict[str, Any]:
    response = browser.post(METER, {"password": password, **more})
    assert response.status_code == 200
    facts: dict[str, Any] = response.json()
    return facts


def test_it_tells_verdict_score_reasons_and_advice(stranger: Client) -> None:
    assert ask(stranger, "Password-1234") == judge("Password-1234").as_facts()
    refused = ask(stranger, "letmein")
    assert (refused["accepted"], refused["level"]) == (False, "refused")
    assert refused["codes"] == [
        "password_too_short",
        "password_no_uppercase",
        "password_no_digit",
        "password_no_symbol",
        "password_too_common",
    ]
    assert "Use at least 12 characters." in refused["reasons"]
    assert "It holds one of the most used passwords." in refused["reasons"]


@pytest.mark.parametrize(
    "typed",
    [{"username": " Annabelle-Lee "}, {"email": "annabelle-lee@example.com"}, {"full_name": "Annabelle Lee"}],
)
def test_the_name_and_address_being_typed_count(stranger: Client, typed: dict[str, str]) -> None:
    assert ask(stranger, "Annabelle-Lee-1", **typed)["codes"] == ["password_too_similar"]
    assert ask(stranger, "Annabelle-Lee-1")["codes"] == []


def test_a_page_about_somebody_names_them_by_a_token(stranger: Client, owner: User, colleague: User) -> None:
    password = "Olivia-Owner-1"
    token = meter.owner_token(owner)
    assert ask(stranger, password, whose=token)["codes"] == ["password_too_similar"]
    assert ask(stranger, password, whose=meter.owner_token(colleague))["codes"] == []
    for forged in (token[:-1], str(owner.pk), "\0", "x" * 5000):
        assert ask(stranger, password, whose=forged)["codes"] == []
    User.objects.filter(pk=owner.pk).delete()
    assert ask(stranger, password, whose=token)["codes"] == []


def test_it_writes_no_row_no_record_and_no_cookie(stranger: Client) -> None:
    records = Record.objects.count()
    with CaptureQueriesContext(connection) as captured:
        response = stranger.post(METER, {"password": PASSWORD, "username": "somebody"})
    assert response.json()["accepted"]
    assert captured.captured_queries == []
    assert not response.cookies
    assert not Session.objects.exists()
    assert Record.objects.count() == records
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", [METER, SUGGESTION])
def test_it_logs_nothing(stranger: Client, caplog: pytest.LogCaptureFixture, path: str) -> None:
    with caplog.at_level(logging.INFO):
        stranger.post(path, {"password": PASSWORD})
        stranger.post(path, {})
        assert caplog.records == []
        stranger.get("/")
        assert len(caplog.records) == 1  # it would have been seen


def test_the_password_is_not_sent_back(stranger: Client) -> None:
    for password in (PASSWORD, "weak-secret", "Secret\0"):
        assert password not in text_of(stranger.post(METER, {"password": password}))


def test_bad_input_is_a_400_or_a_verdict_and_never_more(stranger: Client) -> None:
    assert stranger.post(METER).status_code == 400
    assert stranger.post(METER, {"passwort": "x"}).json() == {"error": "password_missing"}
    assert stranger.post(METER, "{}", content_type="application/json").status_code == 400
    assert stranger.post(METER, {"password": "x" * 16_384}).status_code == 413
    assert not ask(stranger, "")["accepted"]
    assert ask(stranger, "x" * 15_000)["codes"][0] == "password_too_long"
    for string in NAUGHTY[::5]:
        meter.budget.clear()
        answer = stranger.post(
            METER, dict.fromkeys(["password", "username", "email", "full_name", "whose"], string[:1000])
        )
        assert answer.status_code == 200, string


@pytest.mark.parametrize("method", ["get", "head", "put", "delete", "options"])
def test_it_takes_posts_only(stranger: Client, method: str) -> None:
    assert getattr(stranger, method)(METER).status_code == 405


def test_both_need_a_token() -> None:
    browser = Client(enforce_csrf_checks=True)
    assert browser.post(METER, {"password": PASSWORD}).status_code == 403
    assert browser.post(SUGGESTION).status_code == 403


# --- how often --------------------------------------------------------------------------------------


def test_whoever_asks_too_often_waits_and_others_do_not(stranger: Client) -> None:
    statuses = [stranger.post(METER, {"password": "x"}).status_code for _each in range(200)]
    assert statuses[:120] == [200] * 120
    refused = stranger.post(METER, {"password": "x"})
    while refused.status_code == 200:  # a slow machine: the budget grows meanwhile
        refused = stranger.post(METER, {"password": "x"})
    assert (refused.status_code, refused.json(), refused["Retry-After"]) == (429, {"error": "too_many"}, "1")
    assert stranger.post(SUGGESTION).status_code == 429
    assert stranger.post(METER, {"password": "x"}, REMOTE_ADDR="192.0.2.1").status_code == 200


def test_the_budget_refills_and_is_shared_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    budget = meter.Budget(at_once=2, per_second=0.5, all_at_once=3, all_per_second=1)
    assert [budget.take("a"), budget.take("a"), budget.take("a")] == [0, 0, 2]
    assert [budget.take("b"), budget.take("b")] == [0, 1]  # three of all
    now += 1.0
    assert [budget.take("a"), budget.take("b"), budget.take("c")] == [1, 0, 1]
    now += 3600.0
    assert [budget.take("a"), budget.take("a"), budget.take("a")] == [0, 0, 2]


def test_it_remembers_a_bounded_number_of_networks() -> None:
    budget = meter.Budget(at_once=1, per_second=0.001, all_at_once=10**6, all_per_second=1)
    assert [budget.take(f"network {number}") for number in range(budget.NETWORKS + 1)] == [0] * (budget.NETWORKS + 1)
    assert budget.take("network 0") == 0  # forgotten
    assert budget.take(f"network {budget.NETWORKS}") > 0


# --- suggestions ------------------------------------------------------------------------------------


def test_a_suggestion_is_accepted_and_each_is_new(stranger: Client) -> None:
    made = {stranger.post(SUGGESTION).json()["password"] for _each in range(20)}
    assert len(made) == 20
    assert all(ask(stranger, password)["level"] == "strong" for password in made)
    assert not Session.objects.exists()


def test_without_script_there_is_a_page_of_them(stranger: Client) -> None:
    page = stranger.get(SUGGESTION)
    assert "no-store" in page["Cache-Control"]
    suggestions = page.context["suggestions"]
    assert len(set(suggestions)) == SUGGESTIONS
    assert all(judge(each).accepted for each in suggestions)
    assert SUGGESTION in text_of(stranger.get("/accounts/signup/"))
