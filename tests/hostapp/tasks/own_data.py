"""What this app tells a person, and the site, of its tasks, and how it forgets them."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from accounts.exporting import MOST_ROWS
from accounts.models import User
from accounts.stats import Figure
from tests.hostapp.tasks.models import Tag, Task


def tasks_of(person: User) -> list[dict[str, Any]]:
    """For the copy of all that is kept about `person`: deleted tasks are kept too."""
    tasks = Task.all_objects.of(person).order_by("-pk").prefetch_related("tags")[:MOST_ROWS]
    return [
        {
            "title": task.title,
            "text": task.text,
            "priority": task.get_priority_display(),
            "due": task.due,
            "tags": sorted(tag.name for tag in task.tags.all()),
            "made": task.created_at,
            "done": task.completed_at,
            "deleted": task.deleted_at,
        }
        for task in tasks
    ]


def forget_tasks(person: User) -> list[Task | Tag]:
    """Delete what an erased person wrote; what the trail says of it goes too."""
    theirs = [*Task.all_objects.of(person), *Tag.objects.of(person)]
    Task.all_objects.of(person).erase()
    Tag.objects.of(person).delete()
    return theirs


def figures() -> list[Figure]:
    open_tasks = Task.objects.filter(completed_at=None)[:10_000]  # a bounded look, however many there are
    return [Figure(name="open", label=_("open, up to 10,000"), value=open_tasks.count())]
