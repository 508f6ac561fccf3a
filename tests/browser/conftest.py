"""A real headless Chromium on a real server; every page is watched for what must not happen."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.test.testcases import LiveServerThread
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Response, sync_playwright
from pytest_django.fixtures import Settings

from accounts import invitations
from accounts.models import Invitation, User
from config.worker import Worker
from tests.chromium import CHROMIUM, launched

# Collects what moved although nobody did anything (Layout Instability API).
SHIFTS = """
window.shifts = [];
const note = (entries) => {
  for (const shift of entries) {
    // Columns of a table settle while its rows arrive.
    const isOfTables = shift.sources.length && shift.sources.every((source) => source.node?.closest?.("tbody"));
    if (shift.hadRecentInput || shift.value < 0.001 || isOfTables) continue;
    const moved = shift.sources.map((source) => source.node?.outerHTML?.slice(0, 80) ?? "a text");
    window.shifts.push(`moves by ${shift.value.toFixed(3)}: ${moved}`);
  }
};
const watch = new PerformanceObserver((list) => note(list.getEntries()));
watch.observe({ type: "layout-shift", buffered: true });
// What was drawn last shows two frames later.
window.settled = async () => {
  for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
  await new Promise((done) => setTimeout(done, 50));
  note(watch.takeRecords());
  return window.shifts;
};
"""
ARTEFACTS = Path(__file__).resolve().parents[2] / ".artefacts"


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Behind all others: Playwright's event loop stays in the thread of the tests, and asynchronous ones need their own.
    items.sort(key=lambda item: "tests/browser" in item.nodeid)
    for item in items:
        if "tests/browser" in item.nodeid:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="no Chromium on this machine"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    # Playwright's event loop makes Django think that the tests are asynchronous code; they are not.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with sync_playwright() as playwright:
        browser = launched(playwright)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@dataclass
class Visitor:
    """A person at a browser, with the site's address and a watch on what the page does."""

    page: Page
    site: str
    complaints: list[str] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # bytes of each answer since the last `go`, packed

    def watch(self) -> None:
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("response", self._received)

    def _heard(self, message: ConsoleMessage) -> None:
        # The browser also logs each refused page; those are what some tests are about.
        if message.type in ("error", "warning") and "the server responded with a status of 4" not in message.text:
            self.complaints.append(message.text)

    def _received(self, response: Response) -> None:
        length = response.headers.get("content-length")
        self.sent.append(int(length) if length else len(response.body()) if response.ok else 0)
        if not response.url.startswith(self.site):
            self.complaints.append(f"from another host: {response.url}")
        if response.status >= 400 and response.request.resource_type != "document":
            self.complaints.append(f"{response.status}: {response.url}")

    def go(self, path: str) -> None:
        self.sent.clear()
        self.page.goto(self.site + path)

    def fill(self, **values: str) -> None:
        for name, value in values.items():
            self.page.fill(f"[name={name}]", value)

    def submit(self) -> None:
        self.page.click("main [type=submit]")

    def text(self) -> str:
        return self.page.inner_text("main")

    def screenshot(self, name: str) -> None:
        ARTEFACTS.mkdir(exist_ok=True)
        self.page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


Arrive = Callable[..., Visitor]


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """The address of a server thread that serves the hashed files of `collectstatic`, as in production."""
    server = LiveServerThread("localhost", static_handler=lambda application: application)  # type: ignore[arg-type]
    server.daemon = True
    server.start()
    server.is_ready.wait()
    assert server.error is None
    yield f"http://localhost:{server.port}"
    server.terminate()


@pytest.fixture
def arrive(chromium: Browser, site: str, settings: Settings, tmp_path: Path) -> Iterator[Arrive]:
    """Return a function that opens a browser of its own, with any option of Playwright's contexts."""
    settings.BASE_URL = site
    settings.MAIL_DIRECTORY = tmp_path / "mail"
    contexts: list[BrowserContext] = []
    visitors: list[Visitor] = []

    def open_browser(**options: object) -> Visitor:
        context = chromium.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(20_000)
        context.add_init_script(SHIFTS)
        contexts.append(context)
        visitor = Visitor(context.new_page(), site)
        visitor.watch()
        visitors.append(visitor)
        return visitor

    yield open_browser
    complaints = [complaint for visitor in visitors for complaint in visitor.complaints]
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def visitor(arrive: Arrive) -> Visitor:
    return arrive()


def invite(emails: list[str], note: str = "", *, acting_user: User | None, **terms: Any) -> list[Invitation]:
    """Invite these addresses as the page does, or (without `acting_user`) as a command does."""
    return invitations.invite_addresses(emails, invitations.Terms(note=note, **terms), acting_user=acting_user)


def make_link(*, acting_user: User | None, **terms: Any) -> Invitation:
    """Make an invitation that is handed over as a link, on these `invitations.Terms`."""
    (made,) = invitations.make_links(1, invitations.Terms(**terms), acting_user=acting_user)
    return made


@pytest.fixture
def newest_link(site: str) -> Callable[[str], str]:
    """Return a function that lets the worker send what is queued, and reads the link out of the newest mail."""

    def read(recipient: str) -> str:
        Worker(once=True).run()
        (newest,) = [message for message in mail.outbox if message.to == [recipient]][-1:]
        (link,) = re.findall(rf"{re.escape(site)}/accounts/\S+/\S{{20,}}", str(newest.body))
        return str(link)

    return read
