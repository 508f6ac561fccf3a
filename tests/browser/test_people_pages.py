"""The console's pages for many people at once, as a browser shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib.auth.models import Group

from accounts import importing
from accounts.models import Import
from tests.browser.conftest import Arrive, Visitor
from tests.browser.test_audit_pages import sign_in
from tests.browser.test_pages import VIEWS
from tests.factories import UserFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

USERS, IMPORTS = "/admin/accounts/user/", "/admin/accounts/import/"
CONTENT = "username,email,full_name,roles\n" + "".join(
    f"person.{n},person.{n}@a-rather-long-domain.example.com,Person {n},{'Boss' if n % 3 else 'Support'}\n"
    for n in range(12)
)


def looked_at(visitor: Visitor, name: str, view: str) -> list[str]:
    """What is wrong with what we wrote; the frame around it is Django's."""
    visitor.page.wait_for_load_state("networkidle")
    visitor.screenshot(f"people-{name}-{view}")
    # Without its own copies of Django's style sheets, which the policy would not let it add to the page.
    violations = Axe().run(visitor.page, context="#content", options={"preload": False}).response["violations"]
    faults = [f"{name}: {each['id']}: {each['help']}" for each in violations]
    width = visitor.page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    return faults + ([f"{name}: scrolls sideways {width}"] if width[0] > width[1] else [])


@pytest.mark.parametrize("view", VIEWS)
def test_people_come_by_a_file_and_get_roles(arrive: Arrive, view: str, tmp_path: Path) -> None:
    Group.objects.get_or_create(name="Member")
    UserFactory.create(username="keeper", is_staff=True, is_superuser=True)
    UserFactory.create_batch(3)
    file = tmp_path / "people.csv"
    file.write_text(CONTENT)
    visitor = arrive(**VIEWS[view])
    sign_in(visitor, "keeper")
    visitor.go(f"{IMPORTS}add/")
    faults = looked_at(visitor, "import", view)
    visitor.page.set_input_files("#id_file", str(file))
    visitor.page.click("text='Check the file'")
    faults += looked_at(visitor, "verdicts", view)
    visitor.page.click("text='Import now'")
    faults += looked_at(visitor, "progress", view)
    begun = Import.objects.get()
    importing.write_import.func(str(begun.pk))
    visitor.go(USERS)
    visitor.page.check("#action-toggle")
    visitor.page.select_option("select[name=action]", "give_role")
    visitor.page.click("button[name=index]")
    faults += looked_at(visitor, "role", view)
    visitor.page.select_option("#id_role", label="Auditor")
    visitor.page.click("input[type=submit][value='Give a role']")
    visitor.page.wait_for_load_state("networkidle")
    assert "7 users changed." in visitor.text()
    assert faults == []
