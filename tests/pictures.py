"""``make pictures``: take the README's pictures from a running system, so that they stay true.

Starts a throw-away site with made-up people and some weeks of history, looks at it with Chromium in light and in dark,
and writes ``docs/images/*.webp``, none larger than `LARGEST`.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from config.scratch import ROOT, Program, manage, own_database, running_site, wait_until
from tests.chromium import launched
from tests.weeks import HISTORY

IMAGES = ROOT / "docs" / "images"
LARGEST = 60 * 1024  # bytes
PEOPLE = 3000
PASSWORD = f"Aa1!{secrets.token_urlsafe(16)}"
SIZE: ViewportSize = {"width": 1360, "height": 820}


@contextmanager
def furnished_site() -> Iterator[str]:
    """The address of a site that has people, a past, and a worker; its keeper's password is `PASSWORD`."""
    os.environ |= {"ENVIRONMENT": "development", "SECRET_KEY": secrets.token_urlsafe(64)}
    with own_database() as database:
        environment = database.environment
        keeper = ["keeper", "keeper@example.com", "--full-name", "Karin Keeper", "--superuser", "--password-stdin"]
        collect = ["collectstatic", "--noinput", "--verbosity=0"]
        for command in (collect, ["create_user", *keeper], ["seed", str(PEOPLE)]):
            done = manage(*command, environment=environment, input=PASSWORD, stdin=None)
            if done.returncode:
                sys.exit(done.stderr)
        database.rows(HISTORY)
        with (
            Program(str(ROOT / "manage.py"), "worker", environment=environment) as worker,
            running_site(environment) as site,
        ):
            looked = "SELECT count(*) > 5 FROM healthcheck_reading"
            wait_until(lambda: database.value(looked) or worker.process.poll() is not None, "the worker looks around")
            yield f"http://localhost:{site.port}"


def sign_in(page: Page, site: str) -> None:
    page.goto(f"{site}/accounts/login/")
    page.fill("[name=username]", "keeper")
    page.fill("[name=password]", PASSWORD)
    page.click("main [type=submit]")
    page.wait_for_url("**/accounts/profile/")


def make_a_record(page: Page, site: str) -> str:
    """Change somebody in the console; returns the address of what the trail says of it."""
    page.goto(f"{site}/admin/accounts/user/?is_staff__exact=0")
    page.click("#result_list tbody tr:nth-child(3) th a")
    page.fill("#id_full_name", "Ada Lovelace")
    page.fill("#id_bio", "Wrote the first program.")
    page.click("[name=_save]")
    page.goto(f"{site}/admin/auditlog/record/?resource=accounts.user")
    page.click("main tbody th a >> nth=0")
    return page.url.removeprefix(site)


def take(page: Page, name: str) -> None:
    """Write what is in sight as WebP, which Chromium makes itself, as good as the size allows."""
    session = page.context.new_cdp_session(page)
    page.wait_for_load_state("networkidle")
    for quality in (90, 75, 55, 35, 20):
        asked = {"format": "webp", "quality": quality}
        picture = base64.b64decode(session.send("Page.captureScreenshot", asked)["data"])
        if len(picture) <= LARGEST:
            break
    else:
        sys.exit(f"{name} is too large: {len(picture)} bytes")
    Path(IMAGES, f"{name}.webp").write_bytes(picture)
    sys.stdout.write(f"{name}.webp  {len(picture) / 1024:.0f} KiB\n")


def take_all(browser: Browser, site: str) -> None:
    pages = {"console": "/admin/", "people": "/admin/accounts/user/", "health": "/health/"}
    schemes: tuple[Literal["light", "dark"], ...] = ("light", "dark")
    for scheme in schemes:
        context = browser.new_context(color_scheme=scheme, reduced_motion="reduce", viewport=SIZE, locale="en-GB")
        page = context.new_page()
        page.goto(f"{site}/accounts/signup/")
        take(page, f"signup-{scheme}")
        sign_in(page, site)
        if "record" not in pages:
            pages["record"] = make_a_record(page, site)
        for name, path in pages.items():
            page.goto(site + path)
            take(page, f"{name}-{scheme}")
        context.close()


def main() -> None:
    with furnished_site() as site, sync_playwright() as playwright:
        browser = launched(playwright)
        take_all(browser, site)
        browser.close()


if __name__ == "__main__":
    main()
