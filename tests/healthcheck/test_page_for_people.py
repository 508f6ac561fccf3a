"""What people read on the health pages: state in words, advice, plots with tables, history, and in the console."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.utils import timezone

from accounts.models import User
from healthcheck import connection, history, overall, registry, views
from healthcheck.models import ConnectionSample, Incident, Reading, Run, Sample
from healthcheck.readiness import Readiness
from healthcheck.registry import Check
from healthcheck.results import Result, Status
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
TOKEN = "a-token-that-nobody-guesses"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
ADDRESSES = ["/health/", "/health/system", "/health/database/", "/health/database/statistics", "/health/weather"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing of a test before is shared with this one, there is one check (the weather), and time enough."""
    monkeypatch.setattr(views, "ANSWER_SECONDS", 30)
    monkeypatch.setattr(overall, "readiness", Readiness())
    monkeypatch.setattr(registry, "_checks", {})
    registry.register(Check(name="weather", label="Weather", run=lambda: Result(Status.PASS)))
    forget()
    yield
    forget()


def forget() -> None:
    overall.overall.forget()
    connection.look.forget()
    history.past.cache_clear()


@pytest.fixture
def operator() -> User:
    user = UserFactory.create(username="operator", is_staff=True)
    user.groups.set([Group.objects.get(name="Support")])
    return user


@pytest.fixture
def browser(operator: User) -> Client:
    browser = Client(headers=BROWSER)
    browser.force_login(operator)
    return browser


def weather(status: Status = Status.PASS, code: str = "ok", **more: Any) -> None:
    more = {"at": timezone.now(), "milliseconds": 2.5, "value": 7.0, "unit": "mm"} | more
    Reading.objects.create(check_name="weather", status=status, code=code, **more)
    overall.overall.forget()


def shown(browser: Client, address: str) -> str:
    answer = browser.get(address)
    assert answer.status_code == 200
    return re.sub(r"<[^>]*>|\s+", " ", answer.content.decode().partition("<main")[2])


def test_a_stranger_reads_the_state_and_where_to_sign_in() -> None:
    weather(Status.WARN, "rain")
    for address in ADDRESSES:
        page = Client(headers=BROWSER).get(address).content.decode()
        assert "Working, with warnings" in page
        assert f'href="/accounts/login/?next={address}"' in page
        assert not re.search(r"Weather|rain|mm|table|<time|accounts_user|Database", page.partition('id="health"')[2])


def test_programs_of_strangers_get_the_bare_status() -> None:
    for address in ADDRESSES:
        answer = Client().get(address)
        assert answer.json().keys() == {"status", "time", "age"}
        assert len(answer.content) <= 64


def test_somebody_without_the_permission_is_told_so() -> None:
    browser = Client(headers=BROWSER)
    browser.force_login(UserFactory.create())
    page = shown(browser, "/health/")
    assert "for those who look after the site" in page
    assert "Sign in" not in page
    assert "Weather" not in page


def test_an_operator_reads_state_advice_readings_and_ages(browser: Client) -> None:
    weather(Status.WARN, "filling", at=timezone.now() - timedelta(seconds=100))
    page = shown(browser, "/health/")
    assert "Working, with warnings" in page
    assert "One of 4 checks needs a look" in page
    assert "What to do:" in page
    assert re.search(r"Weather\s+warning\s+7 mm\s+1 min 4\d s ago", page)
    assert "auditlog_record" in page
    weather_page = shown(browser, "/health/weather")
    assert "7 mm" in weather_page
    assert "auditlog_record" not in weather_page


@pytest.mark.parametrize(
    ("status", "headline"), [(Status.PASS, "All is well"), (Status.WARN, "Working, with warnings")]
)
def test_the_state_in_words(browser: Client, status: Status, headline: str) -> None:
    weather(status)
    assert headline in shown(browser, "/health/")


def test_what_is_not_ready_is_not_working(browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from healthcheck import readiness

    monkeypatch.setattr(readiness, "_needed_migrations", lambda: {("accounts", "9999_not_there")})
    answer = browser.get("/health/")
    assert answer.status_code == 503
    assert "Not working" in answer.content.decode()
    assert "manage.py migrate" in answer.content.decode()


def test_the_frame_knows_who_is_signed_in_and_lets_them_out(operator: User) -> None:
    browser = Client(headers=BROWSER, enforce_csrf_checks=True)
    browser.force_login(operator)
    page = browser.get("/health/").content.decode()
    (token,) = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert "Your account" in page
    assert browser.post("/accounts/logout/", {"csrfmiddlewaretoken": token}).status_code == 302
    assert "Sign in to see the details" in browser.get("/health/").content.decode()


def test_the_page_costs_the_same_whatever_there_is(browser: Client, django_assert_max_num_queries: Any) -> None:
    with django_assert_max_num_queries(5):  # session, person, what the person may do, operations
        browser.get("/health/")
    for minute in range(50):
        Sample.objects.create(at=timezone.now() - timedelta(minutes=minute), status="pass", milliseconds=1)
        Incident.objects.create(check_name=f"c{minute}", status="warn", code="x", began_at=timezone.now())
    forget()
    with django_assert_max_num_queries(5):
        browser.get("/health/")


def test_without_time_left_the_page_shows_what_the_process_knows(
    browser: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    Sample.objects.create(at=timezone.now() - timedelta(minutes=2), status="pass", milliseconds=1)
    first = shown(browser, "/health/")
    assert "ready 100 % of the time" in first
    monkeypatch.setattr(views, "CHECK_SECONDS", 100)
    Sample.objects.all().update(status="fail")
    history.past(1).forget()
    again = shown(browser, "/health/")
    assert "ready 100 % of the time" in again
    assert "auditlog_record" in again


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"title": "Changed the name", "by": "keeper"}, "Changed the name"),
        ({"action": "update", "resource": "accounts.user", "object": "<b>ada</b>", "by": "keeper"}, "“&lt;b&gt;ada"),
    ],
)
def test_what_a_check_adds_is_listed_and_not_asked_for_by_itself(
    browser: Client, record: dict[str, Any], words: str
) -> None:
    own = {"records": [record | {"at": "2026-03-01T12:00:00+00:00"}]}
    registry.register(Check(name="own", label="Own", run=lambda: Result(Status.PASS), detail=lambda request: own))
    page = browser.get("/health/own").content.decode()
    assert words in page
    assert "2026-03-01 12:00:00 UTC" in page
    # Reading records is recorded: nothing may do it again and again.
    assert "healthcheck/health" in browser.get("/health/weather").content.decode()
    assert not re.search(r"healthcheck/health[.\w]*js", page)


# History

NONSENSE = ["", "0", "-1", "x", "1.5", "²", "٣", "1e3", "9" * 400, "%00", "1&days=x", "None"]


def test_a_nonsensical_range_is_a_day(browser: Client) -> None:
    for days in NONSENSE:
        facts = browser.get(f"/health/system/?days={days}", headers={"Accept": "application/json"}).json()
        assert facts["days"] == 1, days
        assert "What has been" in shown(browser, f"/health/system/?days={days}")


def test_the_range_is_never_longer_than_what_is_kept(browser: Client) -> None:
    for days, answered in (("7", 7), ("45", 45), ("46", 45), ("999999999", 45)):
        facts = browser.get(f"/health/system?days={days}", headers={"Accept": "application/json"}).json()
        assert facts["days"] == answered
        points = facts["response_times"]
        length = datetime.fromisoformat(points[-1]["at"]) - datetime.fromisoformat(points[0]["at"])
        assert timedelta(days=answered - 1) < length < timedelta(days=answered)


def test_incidents_are_told_with_their_length_in_words(browser: Client) -> None:
    now = timezone.now()
    Incident.objects.create(
        check_name="database",
        status="fail",
        code="no_answer",
        began_at=now - timedelta(hours=5),
        ended_at=now - timedelta(hours=3, minutes=55),
    )
    Incident.objects.create(check_name="weather", status="warn", code="rain", began_at=now - timedelta(seconds=90))
    page = shown(browser, "/health/system/")
    assert re.search(r"Weather\s+warning\s+goes on .* for 1 min 3\d s .* Database\s+failing .* for 1 h 5 min", page)
    weathers = shown(browser, "/health/weather")
    assert "for 1 min 3" in weathers
    assert "for 1 h 5 min" not in weathers


# Database


@pytest.fixture
def program(settings: Any) -> Client:
    settings.HEALTH_TOKEN_DIGESTS = [hashlib.sha256(TOKEN.encode()).hexdigest()]
    return Client(headers={"Authorization": f"Bearer {TOKEN}"})


def test_the_database_page_tells_state_speed_and_sessions(program: Client, browser: Client) -> None:
    facts = program.get("/health/database").json()
    assert facts["answers"] is True
    assert 0 < facts["milliseconds"] < facts["connect_milliseconds"] < 500
    assert facts["sessions"]["states"]["active"] >= 1
    assert facts["sessions"]["caps"][0]["most"] > 0
    assert re.search(r"To a question\s+[\d.]+ ms .* Of the server\s+\d+ of \d+", shown(browser, "/health/database"))


def test_the_statistics_name_the_tables(program: Client, browser: Client) -> None:
    facts = program.get("/health/database/statistics/").json()
    assert {"accounts_user", "healthcheck_sample"} <= {table["name"] for table in facts["tables"]}
    assert facts["statistics_age"] >= 0
    assert "taken" not in facts
    assert "healthcheck_sample" in shown(browser, "/health/database/statistics/")


def test_what_was_done_to_the_database_is_listed(browser: Client) -> None:
    assert "None so far" in shown(browser, "/health/")
    Run.objects.create(operation="optimize", state="running", progress={"done": 2, "of": 9, "now": "accounts_user"})
    Run.objects.create(operation="cleanup", state="failed", code="interrupted", asked_by_label="keeper")
    page = shown(browser, "/health/")
    assert re.search(r"failed .* interrupted.* asked for by keeper .* running\s+2 of 9: accounts_user", page)


# The console


@pytest.fixture
def rows() -> None:
    now = timezone.now()
    Sample.objects.create(at=now, status="warn", milliseconds=0.7, codes={"disk": "filling"})
    ConnectionSample.objects.create(at=now, active=1, idle=2, idle_in_transaction=0, waiting=0, most=97)
    Incident.objects.create(
        check_name="weather", status="warn", code="rain", began_at=now - timedelta(minutes=2), ended_at=now
    )


@pytest.mark.usefixtures("rows")
def test_the_console_shows_the_history_and_nobody_changes_it() -> None:
    console = Client()
    console.force_login(UserFactory.create(is_staff=True, is_superuser=True))
    for model in (Sample, ConnectionSample, Incident):
        is_only_for_looking(console, f"/admin/healthcheck/{model.__name__.lower()}/", model._default_manager.get().pk)


def is_only_for_looking(console: Client, place: str, row: int) -> None:
    assert console.get(place).status_code == console.get(f"{place}{row}/change/").status_code == 200
    for refused in (f"{place}add/", f"{place}{row}/delete/"):
        assert console.get(refused).status_code == console.post(refused, {"post": "yes"}).status_code == 403
    assert console.post(f"{place}{row}/change/", {"status": "fail"}).status_code == 403


@pytest.mark.usefixtures("rows")
def test_incidents_are_found_by_check_and_whether_they_go_on(operator: User) -> None:
    console = Client()
    console.force_login(operator)
    place = "/admin/healthcheck/incident/"
    for query, count in (("check_name=weather", 1), ("check_name=disk", 0), ("open=yes", 0), ("open=no", 1)):
        page = console.get(f"{place}?{query}").content.decode()
        assert page.count('<th class="field-began_at') == count, query
    assert "2 min" in console.get(place).content.decode()
    assert 'href="/health/"' in console.get(place).content.decode()


@pytest.mark.usefixtures("rows")
def test_staff_without_the_permission_see_no_history() -> None:
    console = Client()
    console.force_login(UserFactory.create(is_staff=True))
    assert console.get("/admin/healthcheck/sample/").status_code == 403
