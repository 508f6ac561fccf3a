"""What can happen to tasks. Every function is about the tasks of one person, who acts."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts.models import User
from config import bulk
from tests.hostapp.tasks.models import Priority, Tag, Task


@transaction.atomic
def add_task(
    owner: User,
    *,
    title: str,
    text: str = "",
    priority: int = Priority.NORMAL,
    due: date | None = None,
    tags: Collection[str] = (),
) -> Task:
    """Write a new task; tags that `owner` does not have yet are made."""
    task: Task = Task.objects.create(owner=owner, title=title, text=text, priority=priority, due=due)
    task.tags.set(tags_of(owner, tags))
    return task


@transaction.atomic
def edit_task(task: Task, *, tags: Collection[str], **values: Any) -> None:
    """Write `values` to the fields of `task`. Raises StaleRow when it was changed since it was read."""
    for name, value in values.items():
        setattr(task, name, value)
    task.save(update_fields=list(values))
    task.tags.set(tags_of(task.owner, tags))


def tags_of(owner: User, names: Collection[str]) -> list[Tag]:
    """Return these tags of `owner`, and make those that are missing."""
    Tag.objects.bulk_create([Tag(owner=owner, name=name) for name in sorted(names)], ignore_conflicts=True)
    return list(Tag.objects.of(owner).filter(name__in=names))


def complete_tasks(owner: User, ids: Collection[int]) -> int:
    """Call these tasks done; returns how many were open. So do the others here: how many it made a difference to."""
    return bulk.update(_tasks(owner, ids).filter(completed_at=None), completed_at=timezone.now())


def reopen_tasks(owner: User, ids: Collection[int]) -> int:
    return bulk.update(_tasks(owner, ids).exclude(completed_at=None), completed_at=None)


def delete_tasks(owner: User, ids: Collection[int]) -> int:
    return bulk.delete(_tasks(owner, ids))


def restore_tasks(owner: User, ids: Collection[int]) -> int:
    return bulk.restore(Task.all_objects.of(owner).filter(pk__in=ids).exclude(deleted_at=None))


def retag_tasks(owner: User, ids: Collection[int], *, add: Collection[str] = (), remove: Collection[str] = ()) -> int:
    """Give these tasks some tags and take others away; returns how many tasks there were."""
    given, taken = tags_of(owner, add), Tag.objects.of(owner).filter(name__in=remove)

    def change(tasks: QuerySet[Task]) -> int:
        for tag in given:
            tag.tasks.add(*tasks)
        for tag in taken:
            tag.tasks.remove(*tasks)
        return len(tasks)

    return bulk.each(_tasks(owner, ids), change)


def _tasks(owner: User, ids: Collection[int]) -> QuerySet[Task]:
    tasks: QuerySet[Task] = Task.objects.of(owner).filter(pk__in=ids)
    return tasks
