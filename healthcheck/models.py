"""What the health pages remember. None of it is audited: it is about the machine, and there is a row a minute."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from healthcheck.results import Status

_STATUSES = [(Status.PASS.value, _("pass")), (Status.WARN.value, _("warn")), (Status.FAIL.value, _("fail"))]


class Reading(models.Model):
    """The last reading of a check, one row for each host where the check is about the host."""

    check_name = models.CharField(_("check"), max_length=64)
    host = models.CharField(_("host"), max_length=255, blank=True, help_text=_("Empty: of the whole site."))
    status = models.CharField(_("status"), max_length=4, choices=_STATUSES)
    code = models.CharField(_("code"), max_length=64)
    value = models.FloatField(_("value"), null=True)
    unit = models.CharField(_("unit"), max_length=16, blank=True)
    milliseconds = models.FloatField(_("milliseconds"), help_text=_("How long the check took."))
    at = models.DateTimeField(_("at"))

    class Meta:
        verbose_name = _("reading")
        verbose_name_plural = _("readings")
        default_permissions = ("view",)
        permissions = [("view_health", "Can see the details of health pages")]
        constraints = [models.UniqueConstraint(fields=["check_name", "host"], name="healthcheck_reading_of_check")]

    def __str__(self) -> str:
        return f"{self.check_name} {self.host}".rstrip()


class Sample(models.Model):
    """The worst state of the whole in one minute, seen by one process of all hosts; `at` is when the minute began."""

    at = models.DateTimeField(_("at"), unique=True)
    status = models.CharField(_("status"), max_length=4, choices=_STATUSES)
    milliseconds = models.FloatField(_("response time"), null=True, help_text=_("Of the database, in milliseconds."))
    codes = models.JSONField(_("codes"), default=dict, help_text=_("Of the checks that did not pass."))

    class Meta:
        verbose_name = _("sample")
        verbose_name_plural = _("samples")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.status}"


class ConnectionSample(models.Model):
    """The sessions of the database server in one minute; `most` is how many it can have."""

    at = models.DateTimeField(_("at"), unique=True)
    active = models.PositiveIntegerField(_("active"))
    idle = models.PositiveIntegerField(_("idle"))
    idle_in_transaction = models.PositiveIntegerField(_("idle in a transaction"))
    waiting = models.PositiveIntegerField(_("waiting for a lock"))
    most = models.PositiveIntegerField(_("most"))

    class Meta:
        verbose_name = _("connection sample")
        verbose_name_plural = _("connection samples")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.at:%Y-%m-%d %H:%M} {self.active + self.idle + self.idle_in_transaction}/{self.most}"


class Incident(models.Model):
    """The time in which a check did not pass, from its first reading until it passed again."""

    check_name = models.CharField(_("check"), max_length=64)
    host = models.CharField(_("host"), max_length=255, blank=True)
    status = models.CharField(_("worst status"), max_length=4, choices=_STATUSES)
    code = models.CharField(_("code"), max_length=64)
    began_at = models.DateTimeField(_("began"))
    ended_at = models.DateTimeField(_("ended"), null=True)

    class Meta:
        verbose_name = _("incident")
        verbose_name_plural = _("incidents")
        default_permissions = ("view",)
        indexes = [models.Index(fields=["-began_at"], name="healthcheck_incident_began")]
        constraints = [
            models.UniqueConstraint(
                fields=["check_name", "host"], condition=Q(ended_at=None), name="healthcheck_incident_open"
            ),
            models.CheckConstraint(
                condition=Q(ended_at=None) | Q(ended_at__gte=models.F("began_at")), name="healthcheck_incident_in_order"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.check_name} {self.code} {self.began_at:%Y-%m-%d %H:%M}"


class Figure(models.Model):
    """A number of the whole site, whichever process counted it: a counter or a gauge, as its name was registered."""

    name = models.CharField(_("name"), max_length=64)
    labels: models.JSONField[Any, Any] = models.JSONField(_("labels"), default=dict, blank=True)
    value = models.FloatField(_("value"), default=0)
    at = models.DateTimeField(_("at"), help_text=_("When it last changed."))

    class Meta:
        verbose_name = _("figure")
        verbose_name_plural = _("figures")
        default_permissions = ("view",)
        constraints = [models.UniqueConstraint(fields=["name", "labels"], name="healthcheck_figure_of_labels")]

    def __str__(self) -> str:
        return f"{self.name} {self.labels or ''}".rstrip()


class Statement(models.Model):
    """The shape of a statement, without any value (see `healthcheck.metrics.shapes`); its key is made of its text."""

    key = models.CharField(primary_key=True, max_length=16)
    operation = models.CharField(_("operation"), max_length=16)
    table = models.CharField(_("table"), max_length=64)
    text = models.TextField(_("text"))

    class Meta:
        verbose_name = _("statement")
        verbose_name_plural = _("statements")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return self.text


class StatementHour(models.Model):
    """What one host made of a statement in one hour."""

    statement = models.ForeignKey(Statement, verbose_name=_("statement"), on_delete=models.CASCADE)
    hour = models.DateTimeField(_("hour"))
    host = models.CharField(_("host"), max_length=255)
    count = models.PositiveBigIntegerField(_("count"), default=0)
    milliseconds = models.FloatField(_("milliseconds in all"), default=0)
    slowest = models.FloatField(_("slowest"), default=0, help_text=_("In milliseconds."))
    errors = models.PositiveBigIntegerField(_("failed"), default=0)

    class Meta:
        verbose_name = _("statements of an hour")
        verbose_name_plural = _("statements by the hour")
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["hour", "host", "statement"], name="healthcheck_statement_of_hour")
        ]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H} {self.host} {self.statement_id}"


class Run(models.Model):
    """An operation that somebody has asked for, what has come of it so far, and in the end what it did.

    There is at most one open run of each operation.
    """

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting for a worker")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    OPEN = (State.QUEUED, State.RUNNING)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    operation = models.CharField(_("operation"), max_length=40)
    state = models.CharField(_("state"), max_length=7, choices=State.choices, default=State.QUEUED)
    code = models.CharField(_("code"), max_length=40, blank=True, help_text=_("Why it has failed."))
    arguments = models.JSONField(_("arguments"), default=dict)
    progress = models.JSONField(_("progress"), default=dict)
    result = models.JSONField(_("result"), default=dict)
    asked_by_kind = models.CharField(max_length=10, help_text=_("user, token or command"))
    asked_by_id = models.CharField(max_length=64, blank=True)
    asked_by_label = models.CharField(_("asked for by"), max_length=150)
    asked_at = models.DateTimeField(_("asked for"), db_default=Now())
    began_at = models.DateTimeField(_("began"), null=True)
    ended_at = models.DateTimeField(_("ended"), null=True)

    class Meta:
        verbose_name = _("operation")
        verbose_name_plural = _("operations")
        default_permissions = ("view",)
        permissions = [
            ("run_optimize", "Can have the database optimized"),
            ("run_migrations", "Can have migrations applied"),
            ("run_cleanup", "Can have old data cleaned up"),
        ]
        indexes = [models.Index(fields=["-asked_at"], name="healthcheck_run_asked")]
        constraints = [
            models.UniqueConstraint(
                fields=["operation"], condition=Q(state__in=["queued", "running"]), name="healthcheck_run_one_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.operation} {self.asked_at:%Y-%m-%d %H:%M}"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN
