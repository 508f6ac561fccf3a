"""What is under ``/health/``: who sees how much of it, in which form, and what cannot turn it into another answer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.db import DatabaseError, connection
from django.test import Client
from django.utils import timezone

from accounts.models import User
from healthcheck import history, overall, registry, viewers
from healthcheck import readiness as readiness_module
from healthcheck.models import Reading
from healthcheck.operations.maintenance import own_session
from healthcheck.ping import NoAnswer
from healthcheck.readiness import Readiness
from healthcheck.registry import Check
from healthcheck.results import Limits, Result, Status
from tests.factories import UserFactory
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "direct"])
TOKEN = "a-token-that-nobody-guesses"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
ADDRESSES = ["/health/", "/health", "/health/weather/", "/health/weather"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of a test before is shared with this one, and there is one check: the weather."""
    monkeypatch.setattr(overall, "readiness", Readiness())
    monkeypatch.setattr(registry, "_checks", {})
    registry.register(Check(name="weather", label="Weather", run=lambda: Result(Status.PASS)))
    overall.overall.forget()
    yield
    overall.overall.forget()


@pytest.fixture
def operator() -> User:
    user = UserFactory.create(is_staff=True)
    user.groups.set([Group.objects.get(name="Support")])
    return user


def weather(status: Status = Status.PASS, code: str = "ok", **more: Any) -> None:
    more = {"at": timezone.now(), "milliseconds": 2.5, "value": 7.0, "unit": "°C"} | more
    Reading.objects.create(check_name="weather", status=status, code=code, **more)
    overall.overall.forget()


def with_token(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_stranger_gets_the_status_in_at_most_64_bytes(address: str) -> None:
    weather()
    answer = Client().get(address)
    assert answer.status_code == 200
    assert answer.json().keys() == {"status", "time", "age"}
    assert answer.json()["status"] == "pass"
    assert len(answer.content) <= 64
    assert answer["Cache-Control"] == "no-store"
    assert not answer.cookies


@pytest.mark.parametrize("address", ADDRESSES)
def test_nothing_in_front_turns_the_answer_into_another(address: str, settings: Any) -> None:
    weather()
    settings.SECURE_SSL_REDIRECT = True
    for headers in ({"Host": "evil.example"}, {"Host": "a b"}, {"Cookie": "sessionid=\x00"}, {"Accept": "¡;;q=x,/"}):
        answer = Client(headers=headers).get(address)
        assert (answer.status_code, answer.json()["status"]) == (200, "pass"), headers


@pytest.mark.parametrize("value", [r'"abcdefgh\000"', "abcdefgh%00", "é" * 32, "x" * 4000])
def test_a_cookie_that_no_session_can_have_is_a_strangers(value: str, settings: Any) -> None:
    weather()
    for address in ("/health/", "/health/jobs/00000000-0000-0000-0000-000000000000"):
        stranger, odd = (
            Client(headers=each).get(address) for each in ({}, {"Cookie": f"{settings.SESSION_COOKIE_NAME}={value}"})
        )
        assert (odd.status_code, odd.json().keys()) == (stranger.status_code, stranger.json().keys())


def test_a_look_at_health_signs_nobody_out_when_the_key_was_changed(operator: User, settings: Any) -> None:
    weather()
    browser = Client()
    browser.force_login(operator, "accounts.backends.IdentityBackend")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "k" * 50, [settings.SECRET_KEY]
    assert "checks" in browser.get("/health/").json()
    assert browser.get("/accounts/profile/").status_code == 200
    assert browser.get("/accounts/profile/").status_code == 200  # with the session's new key


@pytest.mark.parametrize("address", ADDRESSES)
def test_methods(address: str) -> None:
    weather()
    assert (Client().head(address).status_code, Client().head(address).content) == (200, b"")
    assert (Client().options(address).status_code, Client().options(address).content) == (204, b"")
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "NONSENSE"):
        refused = Client().generic(method, address)
        assert (refused.status_code, refused["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_a_post_to_a_page_is_refused_too() -> None:
    refused = Client(enforce_csrf_checks=True).post("/health/")
    assert (refused.status_code, refused["Allow"]) == (405, "GET, HEAD, OPTIONS")


def test_an_unknown_check_is_404() -> None:
    assert Client().get("/health/nonsense").status_code == 404


@pytest.mark.parametrize(
    ("reading", "whole", "own", "code"),
    [(Status.PASS, "pass", "pass", 200), (Status.WARN, "warn", "warn", 200), (Status.FAIL, "warn", "fail", 503)],
)
def test_what_a_check_finds_is_its_own_status_and_a_warning_of_the_whole(
    reading: Status, whole: str, own: str, code: int
) -> None:
    weather(reading, "rain")
    answer = Client().get("/health/")
    assert (answer.status_code, answer.json()["status"]) == (200, whole)
    answer = Client().get("/health/weather")
    assert (answer.status_code, answer.json()["status"]) == (code, own)
    assert ("Retry-After" in answer) == (code == 503)


def test_a_check_that_was_never_run_or_not_for_long_is_a_warning() -> None:
    assert Client().get("/health/weather").json()["status"] == "warn"
    weather(at=timezone.now() - timedelta(minutes=9))
    assert Client().get("/health/weather").json()["status"] == "warn"
    Reading.objects.update(at=timezone.now())
    overall.overall.forget()
    assert Client().get("/health/weather").json()["status"] == "pass"


@pytest.mark.parametrize("ask", [overall.overall.current, partial(history.uptime, 1)])
def test_no_session_waits_for_a_table_for_longer_than_its_answer_is_waited_for(ask: Callable[[], object]) -> None:
    with own_session() as owner, owner.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE healthcheck_reading, healthcheck_sample")
        with suppress(NoAnswer):
            ask()
        with connection.cursor() as look:
            wait_until(lambda: waiting(look) == 0, "the session has given up", seconds=1.5)


def waiting(cursor: Any) -> int:
    cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation::regclass::text ~ '^healthcheck_'")
    return int(cursor.fetchone()[0])


def test_a_missing_migration_makes_the_whole_fail_without_a_line_a_probe(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    weather()
    monkeypatch.setattr(readiness_module, "_needed_migrations", lambda: {("accounts", "9999_not_there")})
    answer = Client().get("/health/")
    assert (answer.status_code, answer.json()["status"], answer["Retry-After"]) == (503, "fail", "5")
    assert not [record for record in caplog.records if record.name == "django.request"]


@pytest.mark.parametrize("setting", ["HEALTH_TOKEN_DIGESTS", "HEALTH_OPERATOR_TOKEN_DIGESTS"])
def test_a_token_sees_the_details(setting: str, settings: Any) -> None:
    weather(Status.WARN, "rain")
    setattr(settings, setting, ["0" * 64, hashlib.sha256(TOKEN.encode()).hexdigest()])
    facts = Client(headers=with_token()).get("/health/").json()
    assert facts["code"] == "ok"
    found = facts["checks"][-1]
    assert 0 <= found.pop("age") < 60
    assert found == {
        "check": "weather",
        "status": "warn",
        "code": "rain",
        "value": 7.0,
        "unit": "°C",
        "milliseconds": 2.5,
    }
    assert Client(headers=with_token("another")).get("/health/").json().keys() == {"status", "time", "age"}


def test_the_form_of_the_ietf_draft(settings: Any) -> None:
    weather(Status.FAIL, "rain", host="roof")
    settings.HEALTH_TOKEN_DIGESTS = [hashlib.sha256(TOKEN.encode()).hexdigest()]
    answer = Client(headers=with_token() | {"Accept": "application/health+json"}).get("/health/weather")
    assert answer["Content-Type"] == "application/health+json"
    (component,) = answer.json()["checks"]["weather"]
    assert component.pop("time").endswith("Z")
    assert component == {
        "status": "fail",
        "componentId": "roof",
        "observedValue": 7.0,
        "observedUnit": "°C",
        "output": "rain",
    }
    stranger = Client(headers={"Accept": "application/health+json"}).get("/health/weather")
    assert stranger.json().keys() == {"status", "time", "age"}


def test_details_need_the_permission(operator: User) -> None:
    weather()
    for user, sees in ((operator, True), (UserFactory.create(), False), (UserFactory.create(is_staff=True), False)):
        browser = Client()
        browser.force_login(user)
        assert ("checks" in browser.get("/health/").json()) is sees


def test_somebody_who_was_signed_in_keeps_the_details_during_an_outage(
    operator: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    weather()
    browser = Client()
    browser.force_login(operator)
    assert browser.get("/health/", headers={"Accept": BROWSER}).status_code == 200
    kept = browser.cookies[settings.HEALTH_COOKIE_NAME]
    assert (kept["httponly"], kept["samesite"], kept["max-age"]) == (True, "Strict", viewers.REMEMBERED_SECONDS)

    def no_database(*_: Any) -> None:
        raise DatabaseError

    monkeypatch.setattr(viewers, "_signed_in", no_database)
    assert "checks" in browser.get("/health/").json()
    # Not for another browser's session, not without one, and not for ever.
    stolen = Client()
    stolen.cookies[settings.HEALTH_COOKIE_NAME] = kept.value
    assert "checks" not in stolen.get("/health/").json()
    stolen.cookies[settings.SESSION_COOKIE_NAME] = "another"
    assert "checks" not in stolen.get("/health/").json()
    monkeypatch.setattr(viewers, "REMEMBERED_SECONDS", -1)
    assert "checks" not in browser.get("/health/").json()


def test_the_cookie_opens_nothing_while_the_database_answers(operator: User) -> None:
    weather()
    browser = Client()
    browser.force_login(operator)
    browser.get("/health/", headers={"Accept": BROWSER})
    operator.groups.clear()
    assert "checks" not in browser.get("/health/").json()


def test_what_fails_unexpectedly_is_a_failure_and_not_a_500(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(viewers, "token_of", broken)
    answer = Client().get("/health/")
    assert (answer.status_code, answer.json()) == (503, {"status": "fail"})


def test_a_page_for_people() -> None:
    weather()
    answer = Client(headers={"Accept": BROWSER}).get("/health/")
    assert answer.status_code == 200
    assert answer["Content-Type"].startswith("text/html")
    assert "Accept" in answer["Vary"]
    assert "Content-Security-Policy" in answer
    assert not answer.cookies


def test_metrics_are_for_tokens_and_a_stranger_learns_one_number(settings: Any) -> None:
    settings.HEALTH_TOKEN_DIGESTS = [hashlib.sha256(TOKEN.encode()).hexdigest()]
    weather()
    for address in ("/health/metrics", "/health/metrics/"):
        stranger = Client().get(address)
        assert (stranger.status_code, stranger.content) == (200, b"gatehouse_up 1\n")
        scrape = Client(headers=with_token()).get(address)
        assert scrape["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'gatehouse_check_status{check="weather",host=""} 0.0' in scrape.text


def test_limits_of_numbers_where_more_is_worse_and_where_less_is() -> None:
    rising, falling = Limits(70, 90), Limits(8, 1)
    assert [rising.status(value) for value in (69.9, 70, 89, 90)] == ["pass", "warn", "warn", "fail"]
    assert [falling.status(value) for value in (9, 8, 2, 1, 0)] == ["pass", "warn", "warn", "fail", "fail"]


def test_a_name_is_given_once() -> None:
    for name in ("weather", "live"):
        with pytest.raises(ValueError, match=name):
            registry.register(Check(name=name, label="", run=lambda: Result(Status.PASS)))
