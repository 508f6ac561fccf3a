"""Whose rows are whose when the database itself sees to it (ROW_SECURITY=on), and code forgets to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest
from django.apps import apps
from django.contrib.auth.models import AnonymousUser
from django.core.checks import run_checks
from django.db import ProgrammingError, connection, transaction
from django.test import Client, override_settings
from pytest_django.plugin import DjangoDbBlocker

from accounts.models import User
from auditlog import channel
from config import policies
from config.database.roles import as_owner
from config.row_security import everybody, only, protect
from tests.hostapp.machines import services as machines
from tests.hostapp.machines.models import Credit, Machine, Metric
from tests.hostapp.queries import services as queries
from tests.hostapp.queries.models import Kind, Query, Status
from tests.hostapp.tasks import services as tasks
from tests.hostapp.tasks.models import Task

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.hostapp.urls")]
SHOWN_TO_ALL = "queries_popular"


def _install() -> None:
    with as_owner():
        policies.install(connection)


@pytest.fixture(scope="module", autouse=True)
def mode(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """As in a process that was started with ROW_SECURITY=on, on a database that was migrated with it."""
    with django_db_blocker.unblock():
        try:
            with override_settings(ROW_SECURITY=True):
                protect(Task)  # again, now that it is on; the rest the apps have said themselves
                _install()
                yield
        finally:
            channel._brought.clear()
            _install()


def live(person: User) -> None:
    """One row in every table and view that there is."""
    task = tasks.add_task(person, title=f"{person}: done", tags=[f"{person}: tag"])
    tasks.complete_tasks(person, [task.pk])
    tasks.add_task(person, title=f"{person}: late", due=date(2020, 1, 1))
    queries.remember(person, f"{person}: asked", kind=Kind.SEARCH, status=Status.OK, milliseconds=1)
    machine = Machine.objects.create(owner=person, name=f"{person}: machine")
    machines.measured([Metric(machine=machine, processor=1, memory=1)])
    machines.buy(person, Decimal(2), key="order")
    machines.charge(machine, Decimal(1), key="hour")


@pytest.fixture(autouse=True)
def lives(owner: User, colleague: User) -> None:
    live(owner)
    live(colleague)


def tables() -> list[str]:
    """Every table and view of the sample apps, those behind many-to-many fields too."""
    found = [
        model._meta.db_table
        for app in ("tasks", "queries", "machines")
        for model in apps.get_app_config(app).get_models(include_auto_created=True)
    ]
    return sorted(set(found) - {SHOWN_TO_ALL})


def counts() -> dict[str, int]:
    found = {}
    with connection.cursor() as cursor:
        for table in tables():
            cursor.execute(f"SELECT count(*) FROM {table}")  # noqa: S608 - names of ours
            found[table] = cursor.fetchone()[0]
    return found


def test_every_table_and_view_shows_the_rows_of_one_person(owner: User, colleague: User) -> None:
    assert len(tables()) == 15
    with only(owner):
        own = counts()
    assert min(own.values()) > 0
    with only(colleague):
        assert counts() == own
    with everybody():
        assert counts() == {table: 2 * count for table, count in own.items()}
    with only(AnonymousUser()):
        assert set(counts().values()) == {0}


def test_who_forgets_to_ask_whose_rows_changes_ones_own_only(owner: User, colleague: User) -> None:
    with only(owner):
        assert Task.all_objects.update(title="mine") == 2
        assert Machine.objects.update(state="running") == 1
        assert Metric.objects.all().delete()[0] == 1
        for theirs in (Task(owner=colleague, title="for you"), Query(owner=colleague, milliseconds=1)):
            with pytest.raises(ProgrammingError, match="row-level security"), transaction.atomic():
                theirs.save()
    assert Task.objects.of(colleague).filter(title="mine").count() == 0
    assert Metric.objects.count() == 1


ADDRESSES = ["/host/tasks/", "/host/queries/", "/host/machines/"]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("asks", ["for its own", "for all"])
def test_a_page_shows_ones_own_rows_only(
    browser: Client, address: str, asks: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if asks == "for all":
        for manager in (Task.objects, Query.objects, Machine.objects, Credit.objects):
            monkeypatch.setattr(type(manager), "of", lambda manager, user: manager.all(), raising=False)
    page = browser.get(address).content.decode()
    assert "owner: " in page and "colleague: " not in page


def test_checks_name_the_one_view_that_shows_all_to_everybody() -> None:
    (found,) = [one for one in run_checks(databases=["default"], tags=["database"]) if one.id == "config.W005"]
    assert SHOWN_TO_ALL in str(found.msg)
