"""The history in the admin console, for looking only: the worker writes it, and retention takes it away."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from healthcheck import advice, registry
from healthcheck.models import ConnectionSample, Incident, Sample
from healthcheck.templatetags.health import lasting, milliseconds


class _OnlyLooking(admin.ModelAdmin[Any]):
    """Nobody adds, changes or deletes what was measured, not even a superuser."""

    ordering = ("-at",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class CheckFilter(admin.SimpleListFilter):
    """The checks that there are: asking the table for its own would read all of it."""

    title = _("check")
    parameter_name = "check_name"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, advice.label(name)) for name in (*advice.LABELS, *registry.checks())]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(check_name=self.value()) if self.value() else queryset


class OpenFilter(admin.SimpleListFilter):
    title = _("still going on")
    parameter_name = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in ("yes", "no"):
            return queryset
        return queryset.filter(ended_at__isnull=self.value() == "yes")


@admin.register(Sample)
class SampleAdmin(_OnlyLooking):
    list_display = ("at", "status", "took", "not_passed")
    list_filter = ("status", "at")

    @admin.display(description=_("response time"))
    def took(self, sample: Sample) -> str:
        return milliseconds(sample.milliseconds)

    @admin.display(description=_("not passed"))
    def not_passed(self, sample: Sample) -> str:
        return ", ".join(f"{name}: {code}" for name, code in sample.codes.items())


@admin.register(ConnectionSample)
class ConnectionSampleAdmin(_OnlyLooking):
    list_display = ("at", "active", "idle", "idle_in_transaction", "waiting", "most")
    list_filter = ("at",)


@admin.register(Incident)
class IncidentAdmin(_OnlyLooking):
    ordering = ("-began_at",)
    list_display = ("began_at", "checked", "host", "status", "code", "ended_at", "lasted")
    list_filter = ("status", CheckFilter, OpenFilter, "began_at")

    @admin.display(description=_("check"))
    def checked(self, incident: Incident) -> Any:
        return advice.label(incident.check_name)

    @admin.display(description=_("lasted"))
    def lasted(self, incident: Incident) -> str:
        return lasting(incident.ended_at - incident.began_at) if incident.ended_at else "–"
