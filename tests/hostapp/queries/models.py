"""Who asked what, and what many ask."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from config.rows import Owned, OwnedQuerySet


class Kind(models.TextChoices):
    SEARCH = "search", _("search")
    REPORT = "report", _("report")
    EXPORT = "export", _("export")


class Status(models.TextChoices):
    OK = "ok", _("answered")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class QueryQuerySet(OwnedQuerySet["Query"]):
    def older_than(self, moment: datetime) -> Self:
        return self.filter(at__lt=moment)


class Query(Owned):
    """One question that somebody asked, and how long the answer took."""

    text = models.CharField(_("question"), max_length=2000)
    kind = models.CharField(_("kind"), max_length=10, choices=Kind.choices)
    status = models.CharField(_("status"), max_length=10, choices=Status.choices)
    milliseconds = models.PositiveIntegerField(_("response time (ms)"))
    at = models.DateTimeField(_("asked"), default=timezone.now)

    objects: ClassVar[Any] = QueryQuerySet.as_manager()

    class Meta:
        verbose_name = _("query")
        verbose_name_plural = _("queries")
        indexes = [
            models.Index(fields=["owner", "-at", "-id"], name="queries_query_page"),
            models.Index(fields=["at"], name="queries_query_at"),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(kind__in=Kind.values), name="queries_query_kind"),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="queries_query_status"),
        ]

    def __str__(self) -> str:
        return self.text


class PopularQueryManager(models.Manager["PopularQuery"]):
    def popular(self) -> models.QuerySet[PopularQuery]:
        """The most asked of this week first."""
        return self.order_by("-runs", "text", "kind")

    def trending(self) -> models.QuerySet[PopularQuery]:
        """Those asked more often this week than in the one before, the steepest first."""
        return self.filter(runs__gt=models.F("runs_before")).order_by("-growth", "-runs", "text", "kind")


class PopularQuery(models.Model):
    """A question of this week (seven days until it was counted) that three people or more asked in it.

    Not fewer: everybody may read it, and what one person asks is theirs. `growth` is the ratio to the week before, in
    which each question counts once at least.
    """

    pk = models.CompositePrimaryKey("text", "kind")
    text = models.TextField()
    kind = models.TextField(choices=Kind.choices)
    runs = models.BigIntegerField()
    runs_before = models.BigIntegerField()
    people = models.BigIntegerField()
    median_milliseconds = models.FloatField()
    growth = models.FloatField()

    objects = PopularQueryManager()

    class Meta:
        managed = False
        db_table = "queries_popular"
        default_permissions = ()

    def __str__(self) -> str:
        return self.text
