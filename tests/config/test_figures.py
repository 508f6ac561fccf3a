"""What happens to accounts is counted: each event once, by its own name."""

from __future__ import annotations

from collections import Counter

import pytest
from django.db import OperationalError, connection
from django.test import Client

from accounts import invitations, links, services
from accounts.invitations import Terms
from accounts.models import User
from accounts.services import SignUp
from auditlog.delivering import deliver
from auditlog.models import Record
from config.figures import counted
from healthcheck.models import Figure
from healthcheck.operations.maintenance import own_session
from tests.accounts.conftest import failures, sign_in
from tests.factories import PASSWORD, InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db(transaction=True)
NEW = "Another-Horse-8-Battery"


@pytest.fixture(autouse=True)
def from_now_on() -> None:
    while deliver():  # a turn ends after so many records, and tests before may have left more
        pass


def events() -> dict[str, int]:
    """The events of accounts since the last look, as the worker counts them."""
    before = _counted()
    deliver()
    return dict(_counted() - before)


def _counted() -> Counter[str]:
    found = Figure.objects.filter(name="account_events")
    return Counter({figure.labels["event"]: int(figure.value) for figure in found})


def signup(name: str, email: str = "ada@example.com", invitation: str = "") -> SignUp:
    return SignUp(username=name, email=email, password=PASSWORD, browser="b", invitation=invitation)


def test_signups_and_people_whom_others_add() -> None:
    services.sign_up(signup("ada"))
    services.add_user(User(username="bob", email="bob@example.com"), acting_user=None)
    assert events() == {"signup": 1, "user_created": 1}


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_a_count_that_does_not_get_its_lock_in_time_is_made_later() -> None:
    with own_session() as other, other.cursor() as holder:
        holder.execute("BEGIN; LOCK TABLE healthcheck_figure IN EXCLUSIVE MODE")
        services.add_user(User(username="bob", email="bob@example.com"), acting_user=None)
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        with pytest.raises(OperationalError):
            deliver()
        connection.close()
    assert events() == {"user_created": 1}


def test_logins_failures_and_locks() -> None:
    owner = UserFactory.create(username="owner", email="owner@example.com")
    deliver()
    browser = Client()
    failures(browser, 5)
    sign_in(browser, "owner")
    services.unlock(account=str(owner.pk), acting_user=None)
    sign_in(browser, "owner")
    browser.post("/accounts/logout/")
    assert events() == {"login_failed": 5, "locked_out": 1, "unlocked": 1, "login": 1, "logout": 1}


def test_invitations_made_used_and_revoked() -> None:
    first, second = (
        invitations.invite_addresses([f"{name}@example.com"], Terms(), acting_user=None)[0] for name in "ab"
    )
    assert events() == {"invited": 2}
    token = links.invitation_url(first, mailed=True).rstrip("/").rpartition("/")[2]
    services.sign_up(signup("ada", email="a@example.com", invitation=token))
    invitations.revoke(second.pk, acting_user=None)
    assert events() == {"signup": 1, "invitation_accepted": 1, "invitation_revoked": 1}


def test_passwords_changed_and_not_what_else_is_changed_of_a_person() -> None:
    owner: User = UserFactory.create(username="owner", email="owner@example.com")
    events()
    services.change_password(owner, NEW)
    owner.full_name = "Ada"
    services.update_profile(owner, version=owner.version)
    assert events() == {"password_changed": 1}


def test_a_record_of_no_known_event_is_a_record_all_the_same() -> None:
    InvitationFactory()
    records = list(Record.objects.order_by("-id")[:1])
    ((name, labels),) = [key for key in counted(records) if key[0] == "audit_records"]
    assert (name, dict(labels)["action"]) == ("audit_records", records[0].action)
