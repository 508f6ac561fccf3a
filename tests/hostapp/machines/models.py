"""Virtual machines, what they measure, and what they cost."""

from __future__ import annotations

from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from config.rows import Owned, SoftDeleted, Versioned


class State(models.TextChoices):
    STOPPED = "stopped", _("stopped")
    STARTING = "starting", _("starting")
    RUNNING = "running", _("running")
    STOPPING = "stopping", _("stopping")
    FAILED = "failed", _("failed")


# Which states may follow each: all that is not here is refused.
TRANSITIONS: dict[str, frozenset[str]] = {
    State.STOPPED: frozenset({State.STARTING}),
    State.STARTING: frozenset({State.RUNNING, State.FAILED}),
    State.RUNNING: frozenset({State.STOPPING, State.FAILED}),
    State.STOPPING: frozenset({State.STOPPED, State.FAILED}),
    State.FAILED: frozenset({State.STOPPING}),
}


class Machine(SoftDeleted, Versioned, Owned):
    name = models.CharField(_("name"), max_length=60)
    state = models.CharField(_("state"), max_length=10, choices=State.choices, default=State.STOPPED, editable=False)
    price = models.DecimalField(_("credits an hour"), max_digits=10, decimal_places=4, default=Decimal(1))

    class Meta:
        verbose_name = _("machine")
        verbose_name_plural = _("machines")
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], name="machines_machine_name", condition=Q(deleted_at=None)
            ),
            models.CheckConstraint(condition=Q(state__in=State.values), name="machines_machine_state"),
            models.CheckConstraint(condition=Q(price__gte=0), name="machines_machine_price"),
        ]

    def __str__(self) -> str:
        return self.name


class Metric(models.Model):
    """How busy a machine was at one moment."""

    machine = models.ForeignKey(Machine, models.CASCADE, related_name="metrics")
    at = models.DateTimeField(_("measured"), default=timezone.now)
    processor = models.FloatField(_("share of its processors"))
    memory = models.FloatField(_("share of its memory"))

    class Meta:
        verbose_name = _("metric")
        verbose_name_plural = _("metrics")
        indexes = [models.Index(fields=["at"], name="machines_metric_at")]
        constraints = [models.UniqueConstraint(fields=["machine", "at"], name="machines_metric_once")]

    def __str__(self) -> str:
        return f"{self.processor:.0%}"


class Credit(Owned):
    """What somebody has left; the database refuses less than nothing."""

    balance = models.DecimalField(_("credits"), max_digits=14, decimal_places=4, default=Decimal(0))

    class Meta:
        verbose_name = _("credit")
        verbose_name_plural = _("credits")
        constraints = [
            models.UniqueConstraint(fields=["owner"], name="machines_credit_owner"),
            models.CheckConstraint(condition=Q(balance__gte=0), name="machines_credit_balance"),
        ]

    def __str__(self) -> str:
        return str(self.balance)


class Bill(Owned):
    """One movement of credits: above zero bought, below zero spent. Its key lets it happen once."""

    machine = models.ForeignKey(Machine, models.SET_NULL, null=True, related_name="bills")
    key = models.CharField(_("key"), max_length=100)
    amount = models.DecimalField(_("credits"), max_digits=14, decimal_places=4)
    at = models.DateTimeField(_("at"), default=timezone.now)

    class Meta:
        verbose_name = _("bill")
        verbose_name_plural = _("bills")
        indexes = [models.Index(fields=["owner", "-at", "-id"], name="machines_bill_page")]
        constraints = [
            models.UniqueConstraint(fields=["owner", "key"], name="machines_bill_once"),
            models.CheckConstraint(condition=~Q(amount=0), name="machines_bill_amount"),
        ]

    def __str__(self) -> str:
        return f"{self.amount}"


class Spending(models.Model):
    """What somebody bought and spent in one month (UTC)."""

    pk = models.CompositePrimaryKey("owner_id", "month")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.DO_NOTHING, related_name="+")
    month = models.DateField()
    bought = models.DecimalField(max_digits=14, decimal_places=4)
    spent = models.DecimalField(max_digits=14, decimal_places=4)

    class Meta:
        managed = False
        db_table = "machines_spending"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.spent}"
