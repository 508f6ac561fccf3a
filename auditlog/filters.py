"""The questions that people can ask the trail: one form for the list, the export and the command."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from auditlog import reading, registry
from auditlog.describing import known_actions, name_of_resource
from auditlog.models import Record
from auditlog.reading import Query


class MomentField(forms.DateTimeField):
    """A moment in UTC, whatever the time zone of the site."""

    widget = forms.DateTimeInput(attrs={"placeholder": "2026-12-31 23:59"})

    def to_python(self, value: Any) -> datetime | None:
        with timezone.override(UTC):
            return super().to_python(value)


def _any_of(choices: Any) -> list[tuple[str, Any]]:
    return [("", _("All")), *choices]


def _resources() -> list[tuple[str, Any]]:
    found = [(audited.resource, f"{name_of_resource(audited.resource)}") for audited in registry.registered()]
    return _any_of(sorted([*found, *_EVENTS], key=lambda pair: str(pair[1])))


_EVENTS = [("auditlog.record", _("audit record")), ("login", _("login")), ("request", _("request"))]


class TransactionField(forms.RegexField):
    """A transaction as records are shown with it: the database's epoch and the number, like 1.4711."""

    def __init__(self, **options: Any) -> None:
        super().__init__(r"^[0-9]{1,4}\.[0-9]{1,18}$", **options)

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        return tuple(int(number) for number in text.split(".")) if text else None


class FilterForm(forms.Form):
    """Filters of the trail; all that are given must hold."""

    q = forms.CharField(
        label=_("Search"),
        required=False,
        max_length=200,
        help_text=_("A whole username, id, address, request or transaction number."),
    )
    actor = forms.CharField(label=_("Who"), required=False, max_length=200, help_text=_("A whole username or id."))
    action = forms.ChoiceField(label=_("Action"), required=False, choices=lambda: _any_of(known_actions()))
    resource = forms.ChoiceField(label=_("Kind of object"), required=False, choices=_resources)
    object = forms.CharField(label=_("Object’s id"), required=False, max_length=200)
    origin = forms.ChoiceField(label=_("Path"), required=False, choices=_any_of(Record.Origin.choices))
    since = MomentField(label=_("From (UTC)"), required=False)
    until = MomentField(label=_("Before (UTC)"), required=False)
    address = forms.GenericIPAddressField(label=_("Address"), required=False)
    request = forms.UUIDField(label=_("Request"), required=False)
    transaction = TransactionField(label=_("Transaction"), required=False)

    def clean_object(self) -> str:
        given = str(self.cleaned_data["object"])
        if given and not self.data.get("resource"):
            raise ValidationError(_("Choose the kind of object as well."))
        return given

    @property
    def given(self) -> dict[str, str]:
        """The filters in use as they were typed, for links."""
        return {name: str(self.data[name]) for name in self.fields if self.data.get(name)}

    @property
    def asked(self) -> dict[str, str]:
        """The same for the record of who read what: people by their ids, because names may have to be forgotten."""
        by_name = {name: reading.id_of_user(self.given[name]) for name in ("q", "actor") if name in self.given}
        return {**self.given, **{name: found for name, found in by_name.items() if found}}

    def query(self) -> Query:
        """The question that a valid form asks."""
        asked = self.cleaned_data
        where = reading.matching(asked["q"]) if asked["q"] else Q()
        for name in ("action", "resource", "origin", "address", "request"):
            if asked[name]:
                where &= Q((name, asked[name]))
        if asked["object"]:
            where &= Q(object_id=asked["object"])
        if asked["actor"]:
            ids = {asked["actor"], reading.id_of_user(asked["actor"]) or asked["actor"]}
            where &= Q(actor_id__in=sorted(ids))
        if asked["transaction"]:
            epoch, number = asked["transaction"]
            where &= reading.of_transaction(epoch, number).where
        return Query(where, since=asked["since"], until=asked["until"])


def of_user(user_id: str) -> Query:
    """What a user did and what was done to the account; not what they only looked at."""
    own = Q(resource=get_user_model()._meta.label_lower, object_id=user_id)
    return Query((own | Q(actor_id=user_id)) & ~Q(action__in=("read", "export", "exported")))
