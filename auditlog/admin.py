"""The trail in the admin console: for reading, exporting, and giving objects their old values back."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _

from auditlog import events, exporting, reading, registry, restoring
from auditlog.describing import Columns, describe, model_of
from auditlog.filters import FilterForm
from auditlog.history import history_page
from auditlog.models import Record
from auditlog.restoring import NotRestorable


@admin.register(Record)
class RecordAdmin(admin.ModelAdmin[Any]):
    """Nobody adds, changes or deletes a record, not even a superuser."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Record | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Record | None = None) -> bool:
        return False

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("auditlog.export_record")

    def get_urls(self) -> list[URLPattern]:
        def view(name: str) -> Any:
            return self.admin_site.admin_view(getattr(self, name))

        return [
            path("export/", view("export_view"), name="auditlog_record_export"),
            path("<path:object_id>/restore/", view("restore_view"), name="auditlog_record_restore"),
            *super().get_urls(),
        ]

    # The list

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = FilterForm(request.GET)
        page = reading.page_at(form.query(), request.GET) if form.is_valid() else reading.Page([])
        described = describe(page.records)  # before the note, which binds what comes after it to the primary
        events.record("read", "auditlog.record", label="list", new={"page": "list", **form.asked})
        return self._page(
            request,
            "auditlog/record_list.html",
            title=capfirst(self.opts.verbose_name_plural),
            form=form,
            page=page,
            records=described,
            keep=urlencode(form.given) + "&" if form.given else "",
            may_export=self.has_export_permission(request),
            formats=exporting.FORMATS,
        )

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """Stream what the filters of the list find; by POST, so that no link, prefetch or log line carries them."""
        if not self.has_export_permission(request):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = FilterForm(request.POST)
        kind = request.POST.get("format", "csv")
        if not form.is_valid() or kind not in exporting.FORMATS:
            messages.error(request, _("That filter could not be understood, so nothing was exported."))
            return HttpResponseRedirect(reverse("admin:auditlog_record_changelist"))
        return exporting.response(form.query(), kind, asked=form.asked)

    # One record

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        record = self._record(request, object_id)
        if record is None:
            return self._missing(request)
        (described,) = describe([record])
        events.record("read", "auditlog.record", label=str(record.pk), new={"page": "record", "record": record.pk})
        return self._page(
            request,
            "auditlog/record_detail.html",
            title=_("Record %(id)s") % {"id": record.pk},
            record=record,
            described=described,
            object_page=self._page_of_object(request, record),
            may_restore=self._refusal(request, record) is None,
            audited=registry.of_resource(record.resource) is not None,
        )

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """The history of the record's object, which may be gone."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        record = self._record(request, object_id)
        if record is None:
            return self._missing(request)
        if record.object_id is None:
            return HttpResponseRedirect(f"../../?{urlencode({'resource': record.resource})}")
        name = record.object_label or record.object_id
        return history_page(request, self, record.resource, record.object_id, name=name, extra=extra_context)

    def restore_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, then give the object the record's old values back."""
        if not self._may_restore(request):
            raise PermissionDenied
        record = self._record(request, object_id)
        if record is None:
            return self._missing(request)
        try:
            editable = self._editable(request, record)
            names = restoring.restorable(record, editable)
            if request.method == "POST":
                return self._restored(request, record, editable)
        except NotRestorable as refusal:
            messages.error(request, refusal.message)
        except ValidationError as refusal:
            messages.error(request, " ".join(refusal.messages))
        else:
            (described,) = describe([record])
            shown = Columns(record.resource).names(names)
            title = _("Restore the old values of record %(id)s") % {"id": record.pk}
            kept = [line for line in described.differences if line.name not in shown and not line.quiet]
            lines = [line for line in described.differences if line.name in shown]
            return self._page(
                request,
                "auditlog/restore.html",
                title=title,
                record=record,
                described=described,
                lines=lines,
                kept=kept,
            )
        return HttpResponseRedirect(reverse("admin:auditlog_record_change", args=[record.pk]))

    def _restored(self, request: HttpRequest, record: Record, editable: Collection[str]) -> HttpResponse:
        restored = restoring.restore(record, editable=editable, acting_user=request.user)
        messages.success(request, _("The old values of “%(name)s” are back.") % {"name": restored})
        return HttpResponseRedirect(self._page_of_object(request, record))

    # What they share

    def _page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        site = self.admin_site.each_context(request)
        return TemplateResponse(request, template, {**site, "opts": self.opts, "subtitle": None, **context})

    def _record(self, request: HttpRequest, object_id: str) -> Record | None:
        found: Record | None = self.get_object(request, unquote(object_id))
        return found

    def _missing(self, request: HttpRequest) -> HttpResponse:
        messages.warning(request, _("There is no such record. Perhaps it was older than the trail is kept."))
        return HttpResponseRedirect(reverse("admin:auditlog_record_changelist"))

    def _may_restore(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("auditlog.restore_record")

    def _refusal(self, request: HttpRequest, record: Record) -> str | None:
        """The code of what stands against restoring, as far as it can be told without a lock."""
        if not self._may_restore(request):
            return "not_yours"
        try:
            restoring.restorable(record, self._editable(request, record))
        except NotRestorable as refusal:
            return refusal.code
        return None

    def _object(self, request: HttpRequest, record: Record) -> tuple[Any, Any]:
        """The object's model admin and the object, as far as there are such."""
        model = model_of(record.resource)
        if model in (None, Record) or record.object_id is None or not self.admin_site.is_registered(model):
            return None, None
        object_admin = self.admin_site.get_model_admin(model)
        return object_admin, object_admin.get_object(request, record.object_id)

    def _page_of_object(self, request: HttpRequest, record: Record) -> str:
        """The address of the object's own page, if it has one that this person may see."""
        object_admin, found = self._object(request, record)
        if found is None or not object_admin.has_view_or_change_permission(request, found):
            return ""
        opts = object_admin.opts
        return reverse(f"admin:{opts.app_label}_{opts.model_name}_change", args=[quote(found.pk)])

    def _editable(self, request: HttpRequest, record: Record) -> set[str]:
        """The fields of the object that this person could edit in its own form; raises NotRestorable."""
        object_admin, found = self._object(request, record)
        if found is None:
            raise NotRestorable("gone" if object_admin else "not_yours")
        if not object_admin.has_change_permission(request, found):
            raise NotRestorable("not_yours")
        return set(object_admin.get_form(request, found, change=True).base_fields)
