"""Work on many rows: how many there were, in which pieces, and what is left when it ends early."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, connection, transaction
from django.db.models import F
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from auditlog.models import Record
from config import bulk
from tests.factories import UserFactory
from tests.hostapp.tasks.models import Task
from tests.live import in_parallel

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 10)


@pytest.fixture
def owner(db: None) -> User:
    return UserFactory.create()


def tasks(owner: User, many: int) -> Iterator[Task]:
    return (Task(owner=owner, title=f"{number}") for number in range(many))


def test_many_are_made_in_batches_and_each_is_told(owner: User) -> None:
    told: list[int] = []
    assert bulk.create(tasks(owner, 25), tell=told.append) == 25
    assert (told, Task.objects.count()) == ([10, 20, 25], 25)
    assert Record.objects.filter(resource="tasks.task", action="create", origin="bulk").count() == 25
    assert bulk.create(tasks(owner, 0)) == 0


class _ReadElsewhere:
    """As where a page with a replica begins with a read."""

    def db_for_read(self, model: object, **hints: object) -> str:
        return "direct"


@pytest.mark.django_db(databases=["default", "direct"])
def test_rows_that_would_be_read_elsewhere_are_locked_where_they_are_written(owner: User) -> None:
    bulk.create(tasks(owner, 3))
    with override_settings(DATABASE_ROUTERS=[_ReadElsewhere()]), CaptureQueriesContext(connection) as queries:
        assert bulk.update(Task.objects.filter(owner=owner), priority=4) == 3
    assert [query["sql"].split()[0] for query in queries][:2] == ["SAVEPOINT", "SELECT"]


CHANGES: list[tuple[Callable[..., int], dict[str, Any]]] = [
    (bulk.update, {"priority": 4}),
    (bulk.delete, {}),
    (bulk.restore, {}),
]


@pytest.mark.parametrize(("change", "values"), CHANGES)
def test_all_that_match_are_changed_once(owner: User, change: Callable[..., int], values: dict[str, Any]) -> None:
    bulk.create(tasks(owner, 33))
    if change is bulk.restore:
        Task.objects.all().delete()
    chosen = Task.all_objects.exclude(title__endswith="0")
    told: list[int] = []
    assert change(chosen, tell=told.append, **values) == 29
    assert told == [10, 20, 29]
    assert Task.all_objects.filter(version__gt=1).count() == (33 if change is bulk.restore else 29)
    assert Task.objects.count() == {bulk.update: 33, bulk.delete: 4, bulk.restore: 29}[change]
    if change is not bulk.update:  # who matches no more is not counted again
        assert change(chosen, **values) == 0


def test_what_falls_out_of_the_question_while_it_is_answered_is_no_trouble(owner: User) -> None:
    bulk.create(tasks(owner, 25))
    assert bulk.update(Task.objects.filter(priority=2), priority=3) == 25
    assert bulk.each(Task.objects.all(), lambda batch: batch.update(priority=F("priority") + 1), idempotent=False) == 25
    assert set(Task.objects.values_list("priority", flat=True)) == {4}


def is_held(task: Task) -> bool:
    """Whether somebody else has locked the row."""
    try:
        with transaction.atomic():
            Task.all_objects.select_for_update(nowait=True).get(pk=task.pk)
    except OperationalError:
        return True
    finally:
        connection.close()
    return False


@pytest.mark.django_db(transaction=True)
def test_whatever_ends_it_leaves_what_was_done() -> None:
    owner = UserFactory.create()
    told: list[int] = []

    def interrupt(done: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bulk.create(tasks(owner, 50), tell=interrupt)
    assert Task.objects.count() == 20
    assert bulk.update(Task.objects.all(), priority=4, tell=told.append, enough=lambda: len(told) == 1) == 10
    assert Task.objects.filter(priority=4).count() == 10
    with pytest.raises(IntegrityError):  # in the second batch, of which nothing is left
        bulk.create(Task(owner=owner, title=f"{number}", priority=2 if number < 15 else 9) for number in range(20))
    assert Task.objects.count() == 30
    assert bulk.delete(Task.objects.all()) == 30
    faults = [OperationalError("gone")]  # without a state: a connection that was lost

    def work(batch: Any) -> int:
        assert in_parallel([partial(is_held, batch[0])]) == [True]
        restored: int = batch.restore()
        if faults:
            raise faults.pop()
        return restored

    assert bulk.each(Task.all_objects.exclude(deleted_at=None), work) == 30
    with pytest.raises(RuntimeError), transaction.atomic():  # its batches could not be committed
        bulk.delete(Task.objects.all())
