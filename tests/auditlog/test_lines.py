"""One structured line for each record, written by whoever follows the trail."""

from __future__ import annotations

import uuid
from collections.abc import Callable, MutableMapping
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.utils.dateparse import parse_datetime
from structlog.testing import capture_logs

import auditlog
from accounts import services
from accounts.models import User
from auditlog.delivering import deliver
from auditlog.lines import line_of
from auditlog.models import Record
from tests.factories import PASSWORD, UserFactory
from tests.live import ROOT, Program, manage, own_database

pytestmark = pytest.mark.django_db(transaction=True)
Lines = list[MutableMapping[str, Any]]


def lines_of(work: Callable[[], object]) -> Lines:
    """What the follower logs of `work`, without the numbers of the records, which it checks."""
    deliver()
    before = Record.objects.order_by("-id")[0].id
    work()
    with capture_logs() as lines:
        deliver()
    assert all(line.pop("record") > before for line in lines)
    return lines


def test_a_new_user_is_a_line_that_says_who() -> None:
    lines = lines_of(lambda: services.add_user(User(username="newcomer", email="new@example.com"), acting_user=None))
    user = User.objects.get(username="newcomer")
    (line,) = [line for line in lines if line["event"] == "user.created"]
    created = line.pop("created")
    assert parse_datetime(created) == user.created_at
    assert line.pop("by").startswith("command ")
    assert line == {
        "event": "user.created",
        "log_level": "info",
        "id": str(user.pk),
        "username": "newcomer",
        "email": "new@example.com",
        "second_factor": False,
    }


def test_a_new_user_who_was_erased_meanwhile_is_a_line_without_the_person() -> None:
    record = Record(resource="accounts.user", object_id="7", action="create", origin="save", actor_kind="anonymous")
    record.new = {"created_at": "2026-01-31T12:00:00Z"}
    event, facts = line_of(record)
    assert event == "user.created"
    assert facts == {"id": "7", "created": "2026-01-31T12:00:00Z", "second_factor": False, "by": "anonymous"}


def test_a_change_names_fields_and_tells_no_value() -> None:
    user = UserFactory.create(username="owner", full_name="Olivia")

    def change() -> None:
        with auditlog.acting_as(user, reason="married"):
            User.objects.filter(pk=user.pk).update(full_name="Olivia New", password="another hash")

    assert lines_of(change) == [
        {
            "event": "user.changed",
            "log_level": "info",
            "id": str(user.pk),
            "fields": ["full_name", "password"],
            "by": str(user.pk),
            "reason": "married",
        }
    ]


def test_it_joins_with_the_lines_of_its_request() -> None:
    user = UserFactory.create(username="owner")
    browser = Client()
    browser.force_login(user)
    asked: list[str] = []

    def change() -> None:
        form = {"full_name": "New", "bio": "", "avatar_url": "", "version": user.version}
        asked.append(browser.post("/accounts/profile/", form)["X-Request-ID"])

    (line,) = lines_of(change)
    assert (line["event"], line["request_id"]) == ("user.changed", asked[0])
    assert uuid.UUID(asked[0]).hex == asked[0]


def test_relations_deletions_and_sql_have_lines_of_their_own() -> None:
    user, group = UserFactory.create(), Group.objects.create(name="writers")

    def work() -> None:
        user.groups.add(group)
        user.groups.remove(group)
        with connection.cursor() as cursor:
            cursor.execute("UPDATE auth_group SET name = 'authors' WHERE name = 'writers'")
        group.delete()

    seen = [(line["event"], line["id"], line["fields"]) for line in lines_of(work)]
    assert seen == [
        ("user.added", str(user.pk), ["groups"]),
        ("user.removed", str(user.pk), ["groups"]),
        ("group.changed", str(group.id or seen[2][1]), ["name"]),
        ("group.deleted", seen[2][1], ["id", "name"]),
    ]


def test_an_event_is_a_line_with_its_facts() -> None:
    def work() -> None:
        auditlog.record("opened", "door", new={"floor": 3, "token": "hush"}, reason="fire drill")

    (line,) = lines_of(work)
    assert line.pop("by").startswith("command ")
    assert line == {
        "event": "door.opened",
        "log_level": "info",
        "floor": 3,
        "token": "********",
        "reason": "fire drill",
    }


def test_an_event_that_speaks_of_events_is_a_line_too() -> None:
    (line,) = lines_of(lambda: auditlog.record("planned", "party", new={"event": "dinner"}))
    assert (line["event"], line["event_"]) == ("party.planned", "dinner")


def test_logins_and_failures_are_told_at_once_and_not_again() -> None:
    user = UserFactory.create(username="owner")

    def work() -> None:
        for password in ("Wrong-Password-1", PASSWORD):
            Client().post("/accounts/login/", {"username": "owner", "password": password})

    assert lines_of(work) == []
    actions = Record.objects.filter(object_id=str(user.pk)).order_by("-id")[:2].values_list("action", flat=True)
    assert list(actions) == ["login", "login_failed"]


@pytest.mark.django_db(databases=[])
def test_a_real_worker_writes_them_whoever_wrote_the_row() -> None:
    with own_database() as database:
        assert manage("worker", "--once", environment=database.environment).returncode == 0  # from now on
        database.rows("INSERT INTO auth_group (name) VALUES ('by psql')")
        command = [f"{ROOT}/manage.py", "worker", "--interval=0.1"]
        with Program(*command, environment=database.environment | {"LOG_FORMAT": "json"}) as worker:
            worker.wait_for('"event": "group.created"')
            add = "from accounts.models import User; User.objects.create_user('newcomer', 'new@example.com')"
            assert manage("shell", "-c", add, environment=database.environment).returncode == 0
            worker.wait_for('"event": "user.created"')
            assert worker.end() == 0
            assert worker.says().count('"event": "group.created"') == 1
