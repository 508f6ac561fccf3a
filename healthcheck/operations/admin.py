"""Operations in the admin console: what was done, and a button for each that one may start."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from healthcheck import operations
from healthcheck.models import Run
from healthcheck.operations import AlreadyOpen, Asker, Operation, Refused, migrating

REFUSALS = {
    "already_running": _("It is waiting or running already. Follow that run instead."),
    "migrations_off": _("Migrations cannot be applied here: this site has HEALTH_MIGRATIONS off."),
    "plan_changed": _("The plan has changed since you saw it. Read it again, then confirm it."),
    "nothing_to_do": _("All migrations are applied already."),
}


@admin.register(Run)
class RunAdmin(admin.ModelAdmin[Run]):
    """Nobody adds, changes or deletes a run by hand."""

    list_display = ["operation", "state", "how_far", "asked_by_label", "asked_at", "ended_at"]
    list_filter = ["operation", "state"]
    ordering = ["-asked_at"]
    list_per_page = 50
    show_full_result_count = False
    fields = ["operation", "state", "code", "how_far", "outcome", "asked_by_label", "asked_at", "began_at", "ended_at"]
    change_list_template = "healthcheck/run_list.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Run | None = None) -> bool:
        return False

    @admin.display(description=_("progress"), empty_value="")
    def how_far(self, run: Run) -> str:
        if not (run.is_open and run.progress):
            return ""
        return str(gettext("%(done)d of %(of)d: %(now)s") % run.progress)

    @admin.display(description=_("result"))
    def outcome(self, run: Run) -> str:
        return format_html("<pre>{}</pre>", json.dumps(run.result, indent=2))

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.start_view)
        return [path("start/<slug:name>/", view, name="healthcheck_run_start"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        operations.settle()
        startable = [each for each in operations.operations().values() if _may_start(request, each)]
        response: HttpResponse = super().changelist_view(
            request, {**(extra_context or {}), "startable": startable, "title": _("Operations")}
        )
        return response

    def start_view(self, request: HttpRequest, name: str) -> HttpResponse:
        """Ask whether it shall be done, and have it done."""
        operation = operations.operations().get(name)
        if operation is None:
            raise Http404
        if not (self.has_view_permission(request) and _may_start(request, operation)):
            raise PermissionDenied
        if request.method == "POST":
            return _start(request, operation)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": operation.label,
            "operation": operation,
            "plan": migrating.plan() if name == "migrations" else None,
        }
        return TemplateResponse(request, "healthcheck/run_start.html", context)


def _may_start(request: HttpRequest, operation: Operation) -> bool:
    if operation.name == "migrations" and not migrating.is_enabled():
        return False
    return request.user.has_perm(operation.permission)


def _start(request: HttpRequest, operation: Operation) -> HttpResponse:
    asker = Asker("user", str(request.user.pk), str(request.user))
    arguments = {"plan": request.POST.get("plan", "")} if operation.name == "migrations" else {}
    try:
        run = operations.start(operation.name, asked_by=asker, arguments=arguments)
    except AlreadyOpen as other:
        messages.warning(request, REFUSALS[other.code])
        run = other.run
    except Refused as refusal:
        messages.error(request, REFUSALS[refusal.code])
        return HttpResponseRedirect(request.path)
    else:
        messages.success(request, _("A worker will do it now. Reload this page to see how far it is."))
    return HttpResponseRedirect(reverse("admin:healthcheck_run_change", args=[run.pk]))
