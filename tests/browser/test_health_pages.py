"""The health pages in a real browser: light, dark, narrow, without JavaScript, and through an outage."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.utils import timezone
from playwright.sync_api import Browser, expect

from accounts.models import User
from healthcheck import connection as database_connection
from healthcheck import history, overall, registry
from healthcheck.models import Incident, Reading
from healthcheck.registry import Check
from healthcheck.results import Result, Status
from tests.browser.conftest import Arrive, Visitor
from tests.browser.test_journeys import sign_in
from tests.browser.test_pages import inspect
from tests.factories import PASSWORD, UserFactory
from tests.live import manage, own_database, running_site
from tests.weeks import HISTORY

pytestmark = pytest.mark.django_db(transaction=True)
READINGS = [
    ("connections", "Connections", "", Status.PASS, "ok", 17.5, "%"),
    ("replicas", "Replicas", "", Status.PASS, "none", None, ""),
    ("cache", "Cache", "", Status.PASS, "ok", 0.21, "ms"),
    ("mail", "Mail", "", Status.WARN, "slow", 3.2, "s"),
    ("disk", "Disk", "web-1", Status.PASS, "ok", 41.0, "%"),
    ("disk", "Disk", "web-2.a-long-name-of-a-host.example", Status.WARN, "filling", 83.4, "%"),
    ("audit", "Audit trail", "", Status.PASS, "ok", 0.4, "h"),
    ("worker", "Worker", "", Status.PASS, "ok", 0.0, "s"),
]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that tests before have read is shared with these."""
    monkeypatch.setattr(registry, "_checks", {})
    for name, label, *_ in READINGS:
        if name not in registry.checks():
            registry.register(Check(name=name, label=label, run=lambda: Result(Status.PASS)))
    yield
    forget()


def forget() -> None:
    overall.overall.forget()
    database_connection.look.forget()
    for days in (1, 7):
        history.past(days).forget()


def furnish() -> User:
    """Somebody who may look, at a site of some weeks."""
    keeper = UserFactory.create(username="keeper", is_staff=True)
    keeper.groups.set([Group.objects.get(name="Support")])
    now = timezone.now()
    Reading.objects.bulk_create(
        Reading(check_name=name, host=host, status=status, code=code, value=value, unit=unit, milliseconds=4.2, at=now)
        for name, _, host, status, code, value, unit in READINGS
    )
    with connection.cursor() as cursor:
        cursor.execute(HISTORY)
    for name, status, code, began, lasted in (
        ("mail", Status.WARN, "slow", 20, None),
        ("database", Status.FAIL, "no_answer", 304, 5),
        ("disk", Status.WARN, "filling", 9300, 300),
        ("database", Status.FAIL, "no_answer", 30050, 51),
    ):
        began_at = now - timedelta(minutes=began)
        ended_at = None if lasted is None else began_at + timedelta(minutes=lasted, seconds=12)
        Incident.objects.create(check_name=name, status=status, code=code, began_at=began_at, ended_at=ended_at)
    forget()
    return keeper


PAGES = {
    "whole": "/health/",
    "history": "/health/system/?days=7",
    "database": "/health/database/",
    "tables": "/health/database/statistics/",
    "check": "/health/disk/",
}


def test_the_pages_are_sound(arrive: Arrive) -> None:
    furnish()
    visitor = arrive(timezone_id="Asia/Tokyo")
    faults = inspect(visitor, "health-stranger", "/health/")
    sign_in(visitor, "keeper")
    for name, path in PAGES.items():
        faults += inspect(visitor, f"health-{name}", path)
    assert faults == []


def test_without_javascript_the_page_is_whole(arrive: Arrive) -> None:
    furnish()
    visitor = arrive(java_script_enabled=False)
    visitor.go("/health/")
    assert "Working, with warnings" in visitor.text()
    assert "Mail" not in visitor.text()
    visitor.page.click("text=Sign in to see the details")
    visitor.fill(username="keeper", password=PASSWORD)
    visitor.submit()
    assert visitor.page.url == f"{visitor.site}/health/"
    shown = visitor.text()
    for words in (
        "2 of 11 checks need a look",
        "83.4 %",
        "The last 45 days",
        "51 min 12 s",
        "auditlog_record",
        "UTC",
    ):
        assert words in shown
    assert "keeps itself up to date" not in shown
    visitor.page.click("text=Refresh")
    assert visitor.page.url == f"{visitor.site}/health/"
    visitor.page.click("text=Sign out")
    assert "Sign in" in visitor.page.inner_text("nav")


def test_what_is_open_and_focused_stays_while_the_page_renews_itself(arrive: Arrive) -> None:
    furnish()
    visitor = arrive(timezone_id="Asia/Tokyo")
    sign_in(visitor, "keeper")
    visitor.go("/health/")
    page = visitor.page
    page.click("#uptime-table summary")
    page.focus("text=All tables")
    Reading.objects.filter(check_name="disk").update(status="pass", code="ok", value=12.5, at=timezone.now())
    page.wait_for_selector("text=12.5 %", timeout=6000)
    assert "One of 11 checks needs a look" in visitor.text()
    assert page.eval_on_selector("#uptime-table", "element => element.open")
    assert page.evaluate("document.activeElement.textContent") == "All tables"
    assert "GMT+9" in page.inner_text(".verdict")


def test_a_connection_that_is_lost_is_told(arrive: Arrive) -> None:
    visitor = arrive()
    visitor.go("/health/")
    visitor.page.wait_for_load_state("networkidle")
    visitor.page.context.set_offline(True)
    visitor.page.wait_for_selector("#health-lost", state="visible", timeout=6000)
    assert "The connection is lost" in visitor.page.inner_text("#health-said")
    visitor.screenshot("page-health-lost")
    visitor.page.context.set_offline(False)
    visitor.page.wait_for_selector("#health-lost", state="hidden", timeout=6000)
    visitor.complaints = [each for each in visitor.complaints if "ERR_INTERNET_DISCONNECTED" not in each]


def test_the_open_page_sees_an_outage_come_and_go(chromium: Browser) -> None:
    """A real site on a real database, which is killed and started again while somebody looks at the page."""
    with own_database() as database, running_site(database.environment) as site:
        person = ["keeper", "keeper@example.com", "--superuser", "--password-stdin"]
        assert (
            manage("create_user", *person, environment=database.environment, input=PASSWORD, stdin=None).returncode == 0
        )
        context = chromium.new_context()
        visitor = Visitor(context.new_page(), f"http://localhost:{site.port}")
        sign_in(visitor, "keeper")
        visitor.go("/health/")
        page = visitor.page
        said = page.locator("#health-said")
        page.wait_for_selector("text=accounts_user")
        database.kill()
        page.wait_for_selector("h1:text-is('Not working')", timeout=20_000)
        assert said.inner_text() == "Not working"
        assert page.title().startswith("Not working")
        shown = visitor.text()
        assert "nothing has to be started again" in shown
        assert "accounts_user" in shown, "the last known figures stay"
        assert "Shown to keeper" in page.inner_text("header"), "nobody can be known to be signed in"
        visitor.screenshot("page-health-outage")
        database.cluster.ensure_running()
        expect(page.locator("h1")).to_have_text(re.compile("^Working"), timeout=20_000)
        assert said.inner_text() == page.inner_text("h1")
        assert "Your account" in page.inner_text("header")
        context.close()
