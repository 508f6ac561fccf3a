"""The history of one object, which every model admin of an audited model can show in place of Django's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.translation import gettext_lazy as _

from auditlog import events, reading, registry
from auditlog.describing import describe, describe_state, name_of_resource, visible
from auditlog.filters import MomentField

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    ModelAdmin = object

MAY_READ = "auditlog.view_record"


class MomentForm(forms.Form):
    """Asks for the state of an object at a moment."""

    at = MomentField(label=_("As it was at (UTC)"), required=False)


class ObjectHistory(ModelAdmin):
    """For a model admin: its history page shows the trail, when the model is audited."""

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Show whoever may see the object what happened to it; the values only to whoever may read the trail."""
        audited = registry.of_model(self.model)
        found = self.get_object(request, unquote(object_id)) if audited else None
        if audited is None or found is None:
            return super().history_view(request, object_id, extra_context)
        if not self.has_view_or_change_permission(request, found):
            raise PermissionDenied
        return history_page(request, self, audited.resource, str(found.pk), name=str(found), extra=extra_context)


def history_page(
    request: HttpRequest, model_admin: Any, resource: str, object_id: str, *, name: str, extra: Any = None
) -> HttpResponse:
    """Return the page of the trail of one object, alive or not; noted as read."""
    may_read = request.user.has_perm(MAY_READ)
    page = reading.page_at(reading.of_object(resource, object_id), request.GET)
    form = MomentForm(request.GET if request.GET.get("at") and may_read else None)
    state = None
    if form.is_bound and form.is_valid():
        state = describe_state(resource, reading.state_at(resource, object_id, form.cleaned_data["at"]))
    described = describe(page.records)  # before the note, which binds what comes after it to the primary
    asked = {"page": "history", "resource": resource, "object": object_id}
    # By its id alone: the name may have to be forgotten, and this record is about no object whose names are.
    events.record("read", "auditlog.record", label="history", new=asked | ({"at": request.GET["at"]} if state else {}))
    context = {
        **model_admin.admin_site.each_context(request),
        "title": _("History of %(name)s") % {"name": visible(name, 120)},
        "subtitle": None,
        "opts": model_admin.opts,
        "resource": name_of_resource(resource),
        "name": visible(name, 120),
        "page": page,
        "records": described,
        "may_read": may_read,
        "form": form,
        "state": state,
        **(extra or {}),
    }
    return TemplateResponse(request, "auditlog/history.html", context)
