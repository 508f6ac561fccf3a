"""To-do tasks, and the views of the database that say how somebody gets on with them."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from config.rows import Owned, SoftDeleted, Versioned


class Priority(models.IntegerChoices):
    LOW = 1, _("low")
    NORMAL = 2, _("normal")
    HIGH = 3, _("high")
    URGENT = 4, _("urgent")


class Tag(Owned):
    """A word by which somebody sorts their own tasks."""

    name = models.CharField(_("name"), max_length=50)

    class Meta:
        verbose_name = _("tag")
        verbose_name_plural = _("tags")
        constraints = [models.UniqueConstraint(fields=["owner", "name"], name="tasks_tag_name")]

    def __str__(self) -> str:
        return self.name


class Task(SoftDeleted, Versioned, Owned):
    """Something to do; done when it has a time at which it was."""

    title = models.CharField(_("title"), max_length=200)
    text = models.TextField(_("text"), max_length=10_000, blank=True, default="")
    priority = models.PositiveSmallIntegerField(_("priority"), choices=Priority.choices, default=Priority.NORMAL)
    due = models.DateField(_("due"), null=True, blank=True)
    created_at = models.DateTimeField(_("made"), default=timezone.now, editable=False)
    completed_at = models.DateTimeField(_("done"), null=True, editable=False)
    tags = models.ManyToManyField(Tag, verbose_name=_("tags"), blank=True, related_name="tasks")

    class Meta:
        verbose_name = _("task")
        verbose_name_plural = _("tasks")
        indexes = [models.Index(fields=["owner", "-created_at", "-id"], name="tasks_task_page")]
        constraints = [
            models.CheckConstraint(condition=Q(priority__in=Priority.values), name="tasks_task_priority"),
            models.CheckConstraint(
                condition=Q(completed_at=None) | Q(completed_at__gte=models.F("created_at")), name="tasks_task_order"
            ),
        ]

    def __str__(self) -> str:
        return self.title


# Views: what they show is written in the migrations. Deleted tasks are in none of them.


def _owner(**options: Any) -> Any:
    """Whose it is. No cascade ends here: a view has no rows of its own."""
    return models.ForeignKey(settings.AUTH_USER_MODEL, models.DO_NOTHING, related_name="+", **options)


class TaskSummary(models.Model):
    """How many tasks somebody has, one row a person."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, models.DO_NOTHING, primary_key=True, related_name="+")
    open = models.BigIntegerField()
    completed = models.BigIntegerField()
    overdue = models.BigIntegerField()
    due_today = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "tasks_summary"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.open} open"


class TaggedTask(models.Model):
    """A task with the names of its tags, in their order."""

    task = models.OneToOneField(Task, models.DO_NOTHING, primary_key=True, related_name="+")
    owner = _owner()
    title = models.TextField()
    tags = ArrayField(models.TextField())

    class Meta:
        managed = False
        db_table = "tasks_with_tags"
        default_permissions = ()

    def __str__(self) -> str:
        return self.title


class PriorityCount(models.Model):
    """How many tasks of one priority somebody has."""

    pk = models.CompositePrimaryKey("owner_id", "priority")
    owner = _owner()
    priority = models.PositiveSmallIntegerField(choices=Priority.choices)
    open = models.BigIntegerField()
    completed = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "tasks_by_priority"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.open} open"


class OverdueTask(models.Model):
    """An open task whose day is over (UTC)."""

    task = models.OneToOneField(Task, models.DO_NOTHING, primary_key=True, related_name="+")
    owner = _owner()
    title = models.TextField()
    due = models.DateField()
    days = models.IntegerField()

    class Meta:
        managed = False
        db_table = "tasks_overdue"
        default_permissions = ()

    def __str__(self) -> str:
        return self.title


class CompletedTask(models.Model):
    """A task that was done in the last seven days."""

    task = models.OneToOneField(Task, models.DO_NOTHING, primary_key=True, related_name="+")
    owner = _owner()
    title = models.TextField()
    completed_at = models.DateTimeField()
    took = models.DurationField()

    class Meta:
        managed = False
        db_table = "tasks_recently_completed"
        default_permissions = ()

    def __str__(self) -> str:
        return self.title


class Productivity(models.Model):
    """What somebody got done in one day or week (UTC, from Monday), and how long half of it took at most, in hours."""

    pk = models.CompositePrimaryKey("owner_id", "period", "begins")
    owner = _owner()
    period = models.TextField()  # day or week
    begins = models.DateField()
    completed = models.BigIntegerField()
    median_hours = models.FloatField()

    class Meta:
        managed = False
        db_table = "tasks_productivity"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.completed} in the {self.period} of {self.begins}"
