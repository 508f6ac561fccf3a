"""Two people who edit one object in the admin: the second is told what the first has changed, and loses nothing.

The form carries the version it was rendered from, and of each field what it held, as a digest. What somebody else has
changed meanwhile is seen by that, many-to-many fields and inlines included, whoever wrote it; the audit trail says who.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from hashlib import blake2b
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db import connections, models, router
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from auditlog import reading, registry
from auditlog.describing import Described, describe, in_words, visible

if TYPE_CHECKING:
    BaseAdmin = admin.ModelAdmin[Any]
    BaseForm = forms.ModelForm[Any]
else:
    BaseAdmin = object
    BaseForm = forms.ModelForm

TOKEN = "row_version"  # noqa: S105 - the name of a field
_LOOKED_THROUGH = 100  # records of the object, for who has changed a field


@dataclass(frozen=True)
class Change:
    """One field that somebody else has changed since the form was opened. `yours` is None where it was left alone."""

    label: str
    theirs: str
    yours: str | None
    by: str
    at: datetime | None


class VersionedForm(BaseForm):
    """A form that knows what it was rendered from."""

    row_version = forms.CharField(widget=forms.HiddenInput, required=False, max_length=20_000)
    conflict: list[Change] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # As they are now: a formset adds fields of its own later.
        self._compared = [name for name, field in self.fields.items() if name != TOKEN and not field.disabled]
        if not self.instance._state.adding:  # noqa: SLF001 - public, says Django's documentation
            self.initial[TOKEN] = self._token()

    @cached_property
    def changed_data(self) -> list[str]:
        return [name for name in super().changed_data if name != TOKEN]

    def clean(self) -> Any:
        cleaned = super().clean()
        if given := self.cleaned_data.get(TOKEN):
            read = _read_token(given)
            if read is None:
                self.add_error(None, ValidationError(_("This form is damaged. Please open it again."), code="damaged"))
            elif theirs := [name for name in self._compared if read.get(name) != self._digest_now(name)]:
                self._refuse(read, theirs)
        return cleaned

    def _token(self) -> str:
        digests = {name: self._digest_now(name) for name in self._compared}
        return json.dumps({"version": getattr(self.instance, "version", 0), "fields": digests})

    def _digest_now(self, name: str) -> str:
        return _digest(self.fields[name], self.get_initial_for_field(self.fields[name], name))

    def _refuse(self, read: Mapping[str, str], theirs: list[str]) -> None:
        """Put what the others have changed where this person left the field alone; show both where not."""
        who = _last_changes(self.instance, theirs)
        data: Any = self.data
        data, changes = data.copy(), []
        for name in theirs:
            field, now = self.fields[name], self.get_initial_for_field(self.fields[name], name)
            is_mine = name not in self.cleaned_data or read.get(name) != _digest(field, self.cleaned_data[name])
            if not is_mine:
                _put(data, self.add_prefix(name), field, now)
            changes.append(
                Change(
                    label=str(self[name].label),
                    theirs=_shown(field, now),
                    yours=_shown(field, self.cleaned_data.get(name, self[name].data)) if is_mine else None,
                    by=who[name].who if name in who else "",
                    at=who[name].record.at if name in who else None,
                )
            )
        data[self.add_prefix(TOKEN)] = self._token()
        self.data, self.conflict = data, changes
        text = _("Somebody else has changed this since you opened it. Nothing was saved yet: look, and save again.")
        self.add_error(None, ValidationError(text, code="stale"))


def _read_token(text: str) -> dict[str, str] | None:
    with suppress(ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {str(name): str(digest) for name, digest in json.loads(text)["fields"].items()}
    return None


def _digest(field: forms.Field, value: Any) -> str:
    return blake2b(repr(_plain(field, value)).encode("utf-8", "replace"), digest_size=6).hexdigest()


def _plain(field: forms.Field, value: Any) -> Any:
    """The value as a form shows it, the same before and after it went through a browser."""
    value = field.prepare_value(value)
    if value in (None, ""):
        return ""
    if isinstance(value, datetime):
        value = value.replace(microsecond=0)
    if isinstance(value, list | tuple | set | models.QuerySet):
        return sorted(str(getattr(item, "pk", item)) for item in value)
    return str(value)


def _put(data: Any, name: str, field: forms.Field, value: Any) -> None:
    """Let the posted data say `value`, as the field's widget would have sent it."""
    value, widget = field.prepare_value(value), cast("Any", field.widget)
    if isinstance(field.widget, forms.MultiWidget):
        for suffix, part in zip(widget.widgets_names, widget.decompress(value), strict=True):
            data[name + suffix] = "" if part is None else str(part)
    elif isinstance(value, list | tuple | set | models.QuerySet):
        data.setlist(name, [str(getattr(item, "pk", item)) for item in value])
    elif value is False:  # a box that is not ticked sends nothing
        data.pop(name, None)
    else:
        data[name] = "" if value is None else "on" if value is True else str(value)


def _shown(field: forms.Field, value: Any) -> str:
    if isinstance(field, forms.ModelChoiceField) and not isinstance(value, models.Model):
        many = isinstance(field, forms.ModelMultipleChoiceField)
        keys = [getattr(each, "pk", each) for each in (value or [])] if many else [value]
        with suppress(ValueError, TypeError, ValidationError):
            rows: Any = field.queryset
            value = ", ".join(sorted(str(row) for row in rows.filter(pk__in=[key for key in keys if key])))
    choices = dict(getattr(field, "choices", None) or ()) if isinstance(field, forms.ChoiceField) else {}
    text = in_words(choices.get(value, value)) if value not in (None, "") else ""
    return visible(text) or _("nothing")


def _last_changes(instance: models.Model, names: Iterable[str]) -> dict[str, Described]:
    """The newest records of a change of these fields, as far as the trail tells."""
    audited = registry.of_model(type(instance))
    if audited is None:
        return {}
    query = reading.of_object(audited.resource, str(instance.pk))
    found: dict[str, Described] = {}
    for described in describe(reading.newest(query, _LOOKED_THROUGH).records):
        touched = {*described.record.before, *described.record.after}
        for name in set(names) - found.keys():
            if getattr(instance._meta.get_field(name), "attname", name) in touched or name in touched:
                found[name] = described
    return found


class _CarriesVersion(BaseAdmin):
    """For a model admin or an inline: its form is a `VersionedForm`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.form = type(self.form.__name__, (VersionedForm, self.form), {"Meta": getattr(self.form, "Meta", object)})

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_fieldsets(request, obj)
        if obj is None or not self.has_change_permission(request, obj):
            return found
        # The admin shows the fields of fieldsets only, the hidden ones as well.
        (title, options), *rest = found
        fields = [field for field in options["fields"] if field != TOKEN]
        return [(title, {**options, "fields": [*fields, TOKEN]}), *rest]

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [field for field in super().get_fields(request, obj) if field != TOKEN]


class VersionedInline(_CarriesVersion):
    """For an inline of a `VersionedAdmin`: a row that somebody else has changed is not overwritten either."""


class VersionedAdmin(_CarriesVersion):
    """For the admin of any model that people edit side by side, best a `config.rows.Versioned` one.

    Answers 409 to whoever saves on top of somebody else's change, with what it was, by whom and when, and everything
    that was typed. Saved again, it is meant.
    """

    change_form_template = "config/versioned_change_form.html"

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        found = super().get_object(request, object_id, from_field)
        using = router.db_for_write(self.model)
        if found is None or request.method != "POST" or not connections[using].in_atomic_block:
            return found
        # Of two who save at once the second waits here, and then reads what the first has saved.
        manager = self.model._base_manager  # noqa: SLF001 - public, says Django's documentation
        rows = manager.using(using).select_for_update(of=("self",), no_key=True)
        rows.filter(pk=found.pk).values_list("pk").first()
        return super().get_object(request, object_id, from_field)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        formsets = [inline.formset for inline in context.get("inline_admin_formsets", ())]
        shown = [context["adminform"].form, *(form for formset in formsets for form in formset.forms)]
        conflict = [change for form in shown for change in getattr(form, "conflict", None) or ()]
        response: HttpResponse = super().render_change_form(request, {**context, "conflict": conflict}, *args, **kwargs)
        if conflict:
            response.status_code = HTTPStatus.CONFLICT
        return response
