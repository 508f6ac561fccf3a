"""How long the project keeps what belongs to no app of ours, or to one that does not know of `retention`."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.conf import settings
from django.contrib.sessions.models import Session
from django.utils.translation import gettext_lazy as _
from django_tasks_db.models import DBTaskResult

from auditlog import partitions
from config import retention
from config.models import OneUseToken
from config.retention import Rule
from healthcheck.models import ConnectionSample, Incident, Reading, Run, Sample, Statement, StatementHour

JOBS_KEPT_FOR = timedelta(days=14)  # their arguments may hold addresses
TOKENS_KEPT_FOR = timedelta(days=7)  # from their expiry on: so long is a used or expired one told from an unknown one


def register_rules() -> None:
    retention.register_rows(
        "django_sessions",
        _("expired sessions of apps that use Django's own table"),
        kept_for=timedelta,  # each row says until when
        older_than=lambda before: Session.objects.filter(expire_date__lt=before),
    )
    retention.register_rows(
        "jobs",
        _("finished jobs"),
        kept_for=lambda: JOBS_KEPT_FOR,
        older_than=lambda before: DBTaskResult.objects.finished().filter(finished_at__lt=before),
    )
    retention.register_rows(
        "one_use_tokens",
        _("tokens that work no more"),
        kept_for=lambda: TOKENS_KEPT_FOR,
        older_than=lambda before: OneUseToken.objects.filter(expires_at__lt=before),
    )
    retention.register(
        Rule(
            name="audit_weeks",
            label=_("weeks of the audit trail"),
            kept_for=lambda: timedelta(days=settings.AUDITLOG_RETENTION_DAYS),
            count=lambda before: len(partitions.purgeable(before)),
            delete=_purge,
        )
    )
    _register_health()


def _purge(before: datetime) -> int:
    return len(partitions.purge(before)) if partitions.purgeable(before) else 0


def _register_health() -> None:
    retention.register_rows(
        "health_readings",
        _("readings of checks or hosts that are gone"),
        kept_for=lambda: timedelta(days=1),
        older_than=lambda before: Reading.objects.filter(at__lt=before),
    )
    retention.register_rows(
        "health_samples",
        _("minutes of the health history"),
        kept_for=lambda: timedelta(days=45),
        older_than=lambda before: Sample.objects.filter(at__lt=before),
    )
    retention.register_rows(
        "connection_samples",
        _("minutes of the connection history"),
        kept_for=lambda: timedelta(days=30),
        older_than=lambda before: ConnectionSample.objects.filter(at__lt=before),
    )
    retention.register_rows(
        "incidents",
        _("incidents that are over"),
        kept_for=lambda: timedelta(days=45),
        older_than=lambda before: Incident.objects.filter(ended_at__lt=before),
    )
    retention.register_rows(
        "operations",
        _("operations that have ended"),
        kept_for=lambda: timedelta(days=45),
        older_than=lambda before: Run.objects.filter(ended_at__lt=before),
    )
    retention.register_rows(
        "statement_hours",
        _("hours of the history of statements"),
        kept_for=lambda: timedelta(days=30),
        older_than=lambda before: StatementHour.objects.filter(hour__lt=before),
    )
    retention.register_rows(
        "statements",
        _("statements of which no hour is left"),
        kept_for=timedelta,
        older_than=lambda _before: Statement.objects.filter(statementhour=None),
    )
