"""The console's pages for many people at once, as a browser shows them."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import Group

from accounts import importing
from accounts.models import Import
from tests.browser.conftest import Arrive, Visitor
from tests.browser.test_audit_pages import sign_in
from tests.browser.test_pages import look
from tests.factories import UserFactory

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

USERS, IMPORTS = "/admin/accounts/user/", "/admin/accounts/import/"
CONTENT = "username,email,full_name,roles\n" + "".join(
    f"person.{n},person.{n}@a-rather-long-domain.example.com,Person {n},{'Boss' if n % 3 else 'Support'}\n"
    for n in range(12)
)


def looked_at(visitor: Visitor, name: str) -> list[str]:
    visitor.page.wait_for_load_state("load")
    return look(visitor, f"people-{name}")


def test_people_come_by_a_file_and_get_roles(arrive: Arrive, tmp_path: Path) -> None:
    Group.objects.get_or_create(name="Member")
    UserFactory.create(username="keeper", is_staff=True, is_superuser=True)
    UserFactory.create_batch(3)
    file = tmp_path / "people.csv"
    file.write_text(CONTENT)
    visitor = arrive()
    sign_in(visitor, "keeper")
    visitor.go(f"{IMPORTS}add/")
    faults = looked_at(visitor, "import")
    visitor.page.set_input_files("#id_file", str(file))
    visitor.page.click("text='Check the file'")
    faults += looked_at(visitor, "verdicts")
    visitor.page.click("text='Import now'")
    faults += looked_at(visitor, "progress")
    begun = Import.objects.get()
    importing.write_import.func(str(begun.pk))
    visitor.go(USERS)
    visitor.page.check("#action-toggle")
    visitor.page.select_option("select[name=action]", "give_role")
    visitor.page.click("button[name=index]")
    faults += looked_at(visitor, "role")
    visitor.page.select_option("#id_role", label="Auditor")
    visitor.page.click("input[type=submit][value='Give a role']")
    visitor.page.wait_for_load_state("load")
    assert "7 users changed." in visitor.text()
    assert not faults, "\n".join(faults)
