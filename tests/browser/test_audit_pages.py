"""The pages of the trail in a real browser: one's own activity, and the console's, light, dark and narrow."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection

from accounts.models import User
from auditlog import acting_as
from auditlog.models import Record
from tests.browser.conftest import Arrive, Visitor, invite
from tests.browser.test_journeys import sign_in
from tests.browser.test_pages import inspect, look
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
TRAIL = "/admin/auditlog/record/"


def furnish() -> User:
    """Somebody whose trail holds a bit of everything."""
    keeper = UserFactory.create(username="keeper", is_staff=True, is_superuser=True)
    ada = UserFactory.create(username="ada", full_name="Ada", bio="Analyst.")
    with acting_as(keeper, reason="She asked for it by letter."):
        ada.full_name, ada.bio, ada.is_staff = "Ada Lovelace", "First programmer, " * 20, True
        ada.avatar_url = "https://pictures.example.com/" + "a-long-address-without-a-break" * 6
        ada.save()
        invite(["grace@example.com"], acting_user=keeper)
    return ada


def test_ones_own_activity_is_sound(arrive: Arrive) -> None:
    furnish()
    visitor = arrive(timezone_id="Asia/Tokyo")
    sign_in(visitor, "ada")
    assert inspect(visitor, "activity", "/accounts/activity/") == []
    assert "GMT+9" in visitor.text()


def colour(visitor: Visitor, selector: str) -> str:
    return str(visitor.page.eval_on_selector(selector, "element => getComputedStyle(element).backgroundColor"))


def test_the_consoles_pages_of_the_trail_are_sound(arrive: Arrive) -> None:
    ada = furnish()
    record = Record.objects.get(object_id=str(ada.pk), action="update", resource="accounts.user")
    moment = (record.at - timedelta(microseconds=1)).strftime("%Y-%m-%d+%H:%M:%S.%f")
    visitor = arrive()
    sign_in(visitor, "keeper")
    faults: list[str] = []
    for name, path in {
        "list": f"{TRAIL}?resource=accounts.user",
        "record": f"{TRAIL}{record.pk}/change/",
        "restore": f"{TRAIL}{record.pk}/restore/",
        "history": f"/admin/accounts/user/{ada.pk}/history/?at={moment}",
    }.items():
        visitor.go(path)
        faults += look(visitor, f"trail-{name}")
    visitor.go(f"{TRAIL}{record.pk}/change/")
    assert colour(visitor, ".trail del") != colour(visitor, ".trail ins")
    assert not faults, "\n".join(faults)


def test_a_change_is_restored_by_hand(arrive: Arrive) -> None:
    ada = furnish()
    User.objects.filter(pk=ada.pk).update(full_name="Somebody Else")
    visitor = arrive()
    sign_in(visitor, "keeper")
    visitor.go(f"/admin/accounts/user/{ada.pk}/change/")
    visitor.page.click("text=History")
    visitor.page.click(".trail-entry a >> nth=0")
    visitor.page.click("text=Restore the old values")
    visitor.page.click("[value=Restore]")
    assert visitor.page.url.endswith(f"/admin/accounts/user/{ada.pk}/change/")
    ada.refresh_from_db()
    assert ada.full_name == "Ada Lovelace"
    connection.close()
