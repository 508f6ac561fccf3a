"""What is kept and counted of all machines together."""

from __future__ import annotations

from datetime import datetime

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.stats import Figure
from healthcheck.results import Limits, Result, judged
from tests.hostapp.machines.models import Machine, Metric, State

METRICS_KEPT_DAYS = 60
MOST_COUNTED = 10_000


def metrics_before(moment: datetime) -> QuerySet[Metric]:
    return Metric.objects.filter(at__lt=moment)


def figures() -> list[Figure]:
    running, failed = _how_many(State.RUNNING), _how_many(State.FAILED)
    return [
        Figure(name="running", label=_("running"), value=running),
        Figure(name="failed", label=_("failed"), value=failed),
    ]


def look_at_machines() -> Result:
    """One failed machine is its owner's business, ten are ours."""
    return judged(_how_many(State.FAILED), "machines", Limits(warn=10, fail=100), "machines_failed")


def _how_many(state: str) -> int:
    return int(Machine.objects.filter(state=state)[:MOST_COUNTED].count())
