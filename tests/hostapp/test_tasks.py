"""To-do tasks: what happens to them, what the views of the database say of them, and that they are one's own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

import auditlog
from accounts import exporting, life_cycle, stats
from accounts.models import User
from auditlog.models import Record
from config.rows import StaleRow
from tests.hostapp.tasks import services
from tests.hostapp.tasks.models import (
    CompletedTask,
    OverdueTask,
    Priority,
    PriorityCount,
    Productivity,
    Tag,
    TaggedTask,
    Task,
    TaskSummary,
)

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.hostapp.urls")]
TASKS = "/host/tasks/"


@pytest.fixture
def task(owner: User) -> Task:
    return services.add_task(owner, title="Water the plants", tags=["home"])


@pytest.fixture
def theirs(colleague: User) -> Task:
    return services.add_task(colleague, title="Nobody else's", tags=["private"], due=date(2020, 1, 1))


def fresh(task: Task) -> Task:
    found: Task = Task.all_objects.get(pk=task.pk)
    return found


def tags(task: Task) -> list[str]:
    return sorted(tag.name for tag in fresh(task).tags.all())


def records(task: Task) -> list[Record]:
    return list(Record.objects.filter(resource="tasks.task", object_id=str(task.pk)).order_by("id"))


# What happens to them


def test_every_path_leaves_its_record_in_the_name_of_who_acts(owner: User) -> None:
    with auditlog.acting_as(owner):
        task = services.add_task(owner, title="first", tags=["home"])
        services.edit_task(fresh(task), title="second", tags=["work"])
        ids = [task.pk]
        for change in (services.complete_tasks, services.reopen_tasks, services.delete_tasks, services.restore_tasks):
            assert (change(owner, ids), change(owner, ids)) == (1, 0)  # the second time there is nothing to do
        services.retag_tasks(owner, ids, add=["home"], remove=["work"])
        fresh(task).erase()
    found = records(task)
    changed = [
        (record.action, *sorted({*record.before, *record.after} - {"version", "updated_at"})) for record in found
    ]
    assert changed == [
        ("create", *("created_at", "id", "owner_id", "priority", "text", "title")),
        ("add", "tags"),
        ("update", "title"),
        ("remove", "tags"),
        ("add", "tags"),
        *[("update", "completed_at")] * 2,
        *[("update", "deleted_at")] * 2,
        ("add", "tags"),
        ("remove", "tags"),
        ("remove", "tags"),
        ("delete", *("created_at", "id", "owner_id", "priority", "text", "title")),
    ]
    assert {record.actor_id for record in found} == {str(owner.pk)}


def test_who_saves_on_top_of_anothers_change_is_refused(task: Task) -> None:
    mine, other = fresh(task), fresh(task)
    services.edit_task(other, title="changed meanwhile", tags=["home"])
    with pytest.raises(StaleRow) as refused:
        services.edit_task(mine, title="mine", tags=["mine"])
    assert refused.value.changed == {"title": ("mine", "changed meanwhile")}
    assert (fresh(task).title, tags(task)) == ("changed meanwhile", ["home"])
    services.complete_tasks(task.owner, [task.pk])  # written by one statement for many, and counted all the same
    with pytest.raises(StaleRow):
        services.edit_task(other, title="again", tags=[])


def test_many_get_and_lose_tags_at_once(owner: User) -> None:
    made = [services.add_task(owner, title=f"{number}", tags=["old"]) for number in range(3)]
    assert services.retag_tasks(owner, [one.pk for one in made[:2]], add=["new", "old"], remove=["gone"]) == 2
    assert services.retag_tasks(owner, [made[0].pk], remove=["old"]) == 1
    assert [tags(one) for one in made] == [["new"], ["new", "old"], ["old"]]
    assert Tag.objects.of(owner).count() == 2


# What the views say


def _some(owner: User, chance: random.Random) -> Iterator[Task]:
    now = timezone.now()
    for number in range(40):
        made = now - timedelta(hours=chance.randrange(24, 24 * 40))
        done = made + (now - made) * chance.random() if chance.random() < 0.6 else None
        due = now.astimezone(UTC).date() + timedelta(days=chance.randrange(-9, 3)) if chance.random() < 0.7 else None
        gone = now if chance.random() < 0.1 else None
        yield Task(
            owner=owner, title=f"{number}", priority=chance.choice(Priority.values),
            due=due, created_at=made, completed_at=done, deleted_at=gone,
        )  # fmt: skip


@pytest.fixture
def living(owner: User, colleague: User) -> list[Task]:
    """Tasks of two people, some of them done, late, tagged or deleted; those that are not deleted."""
    chance = random.Random(7)  # noqa: S311 - the same each time
    made = Task.all_objects.bulk_create([*_some(owner, chance), *_some(colleague, chance)])
    for one in chance.sample(made, 30):
        one.tags.set(services.tags_of(one.owner, chance.sample(["a", "b", "c", "d"], 2)))
    return [one for one in made if one.deleted_at is None]


def grouped(tasks: list[Task], key: Callable[[Task], Any]) -> dict[Any, list[Task]]:
    groups: dict[Any, list[Task]] = {}
    for one in tasks:
        groups.setdefault(key(one), []).append(one)
    return groups


def open_of(tasks: list[Task]) -> list[Task]:
    return [one for one in tasks if one.completed_at is None]


def test_the_views_say_what_python_would(living: list[Task]) -> None:
    today = datetime.now(UTC).date()
    late = [one for one in open_of(living) if one.due and one.due < today]
    assert set(TaskSummary.objects.values_list("owner", "open", "completed", "overdue", "due_today")) == {
        (
            owner,
            len(open_of(own)),
            len(own) - len(open_of(own)),
            sum(one in late for one in own),
            sum(one.due == today for one in open_of(own)),
        )
        for owner, own in grouped(living, lambda one: one.owner_id).items()
    }
    assert {one.pk: one.tags for one in TaggedTask.objects.all()} == {one.pk: tags(one) for one in living}
    assert set(PriorityCount.objects.values_list("owner", "priority", "open", "completed")) == {
        (*key, len(open_of(own)), len(own) - len(open_of(own)))
        for key, own in grouped(living, lambda one: (one.owner_id, one.priority)).items()
    }
    assert set(OverdueTask.objects.values_list("task", "owner", "days")) == {
        (one.pk, one.owner_id, (today - one.due).days) for one in late if one.due
    }
    week_ago = timezone.now() - timedelta(days=7)
    assert set(CompletedTask.objects.values_list("task", "took")) == {
        (one.pk, one.completed_at - one.created_at)
        for one in living
        if one.completed_at and one.completed_at > week_ago
    }


@pytest.mark.parametrize("period", ["day", "week"])
def test_productivity_is_what_was_done_in_a_day_and_in_a_week(living: list[Task], period: str) -> None:
    def begins(task: Task) -> Any:
        assert task.completed_at
        day = task.completed_at.astimezone(UTC).date()
        return task.owner_id, day - timedelta(days=day.weekday() if period == "week" else 0)

    done = [one for one in living if one.completed_at]
    found = Productivity.objects.filter(period=period).values_list("owner", "begins", "completed", "median_hours")
    assert {(owner, day): (count, pytest.approx(hours)) for owner, day, count, hours in found} == {
        key: (len(own), median((one.completed_at - one.created_at) / timedelta(hours=1) for one in own))  # type: ignore[operator]
        for key, own in grouped(done, begins).items()
    }


# One's own


def test_a_page_shows_ones_own_tasks_only(browser: Client, task: Task, theirs: Task) -> None:
    page = browser.get(TASKS).content.decode()
    assert "Water the plants" in page and "1 open, 0 of them overdue" in page
    assert "Nobody else" not in page and "private" not in page
    assert browser.get(f"{TASKS}{theirs.pk}/").status_code == 404
    assert browser.post(f"{TASKS}{theirs.pk}/", {"title": "mine now"}).status_code == 404
    for action in ("complete", "delete"):
        browser.post(f"{TASKS}change/", {"task": [task.pk, theirs.pk, "9" * 30, "x"], "action": action})
    assert fresh(task).completed_at and fresh(task).deleted_at
    assert (fresh(theirs).completed_at, fresh(theirs).deleted_at) == (None, None)
    assert Client().get(TASKS).status_code == 302


def test_no_service_reaches_anothers_task(owner: User, task: Task, theirs: Task) -> None:
    ids = [theirs.pk]
    services.delete_tasks(theirs.owner, [theirs.pk])
    assert services.restore_tasks(owner, ids) == 0
    services.restore_tasks(theirs.owner, ids)
    for change in (services.complete_tasks, services.reopen_tasks, services.delete_tasks):
        assert change(owner, ids) == 0
    assert services.retag_tasks(owner, ids, add=["home"], remove=["private"]) == 0
    assert tags(theirs) == ["private"]
    assert [tag.owner for tag in services.tags_of(owner, ["private"])] == [owner]


def test_a_task_is_written_by_its_page(browser: Client, owner: User) -> None:
    asked = {"title": "From the page", "priority": 3, "tags": "one, two,,", "version": 1}
    assert browser.post(f"{TASKS}add/", asked)["Location"] == TASKS
    (task,) = Task.objects.of(owner)
    assert (task.title, task.priority, tags(task)) == ("From the page", 3, ["one", "two"])
    one = f"{TASKS}{task.pk}/"
    page = browser.get(one)
    assert 'value="one, two"' in page.content.decode()
    services.edit_task(fresh(task), text="by somebody else", tags=["one"])
    refused = browser.post(one, {**asked, "title": "Mine", "version": 1})
    assert (refused.status_code, fresh(task).title) == (409, "From the page")
    assert "was changed since you opened it" in refused.content.decode()
    assert browser.post(one, {**asked, "title": "Mine", "version": fresh(task).version}).status_code == 302
    assert fresh(task).title == "Mine"
    assert browser.post(one, {**asked, "tags": "x" * 51, "version": 3}).status_code == 200


def test_the_admin_shows_a_conflict(task: Task, owner: User) -> None:
    owner.is_staff = owner.is_superuser = True
    owner.save()
    staff = Client()
    staff.force_login(owner, "accounts.backends.IdentityBackend")
    page = f"/host/admin/tasks/task/{task.pk}/change/"
    form = staff.get(page).context["adminform"].form
    services.edit_task(fresh(task), title="changed meanwhile", tags=[])
    asked = {"title": "mine", "text": "", "priority": 2, "due": "", "row_version": form.initial["row_version"]}
    answer = staff.post(page, asked)
    assert (answer.status_code, "changed meanwhile" in answer.content.decode()) == (409, True)


# What it joins


def test_a_copy_holds_them_and_an_erasure_forgets_them(owner: User, task: Task, theirs: Task) -> None:
    services.delete_tasks(owner, [task.pk])
    copy = exporting._parts["tasks"](owner)
    assert [(one["title"], one["tags"], one["deleted"] is None) for one in copy] == [
        ("Water the plants", ["home"], False)
    ]
    life_cycle.erase(owner, acting_user=None)
    assert list(Task.all_objects.all()) == [theirs]
    assert [tag.name for tag in Tag.objects.all()] == ["private"]
    trail = repr([(record.object_label, record.before, record.after) for record in Record.objects.all()])
    assert "Nobody else's" in trail and "private" in trail
    assert "Water the plants" not in trail and "home" not in trail


def test_the_statistics_count_what_is_open(task: Task, theirs: Task) -> None:
    assert stats.take(["tasks"])["tasks"][0].value == 2
    services.complete_tasks(theirs.owner, [theirs.pk])
    assert stats.take(["tasks"])["tasks"][0].value == 1
