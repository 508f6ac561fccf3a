"""Says what records mean: values by their fields, objects by their names, for pages and sentences.

Works from the records alone when a model or an object is gone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from typing import Any

from django.apps import apps
from django.core.exceptions import ValidationError
from django.db import models
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from auditlog import reading, registry
from auditlog.models import Agent, Record
from auditlog.reading import State

LONGEST_SHOWN = 1200  # characters of a value on a page
_LINKS = (Record.Action.ADD, Record.Action.REMOVE)
Words = str | Promise

# What events are called, and in what colour they are shown; other apps add theirs by `name_actions`.
_actions: dict[str, Words] = {
    **dict(Record.Action.choices),
    "login": gettext_lazy("signed in"),
    "logout": gettext_lazy("signed out"),
    "login_failed": gettext_lazy("failed to sign in"),
    "error": gettext_lazy("met an error"),
    "read": gettext_lazy("read the trail"),
    "export": gettext_lazy("exported the trail"),
    "exported": gettext_lazy("finished an export"),
    "purge": gettext_lazy("dropped old records"),
    "migrate": gettext_lazy("migrated the database"),
}
_TONES = {
    **dict.fromkeys(("create", "add", "login"), "added"),
    **dict.fromkeys(("delete", "remove", "truncate", "purge", "login_failed", "error"), "removed"),
    "update": "changed",
}


def name_actions(names: Mapping[str, Words]) -> None:
    """Give events their names: how they are shown, and what the filter offers. In an `AppConfig.ready`."""
    _actions.update(names)


def known_actions() -> list[tuple[str, Words]]:
    return list(_actions.items())


def name_of_action(action: str) -> str:
    return str(_actions.get(action) or action.replace("_", " "))


def tone_of_action(action: str) -> str:
    """One of ``added``, ``removed``, ``changed`` and ``event``: its colour, which never says it alone."""
    return _TONES.get(action, "removed" if action.endswith("_failed") else "event")


def model_of(resource: str) -> type[models.Model] | None:
    with suppress(LookupError, ValueError):
        return apps.get_model(resource)
    return None


def name_of_resource(resource: str) -> str:
    model = model_of(resource)
    return str(model._meta.verbose_name) if model else visible(resource.replace("_", " "))


def visible(text: str, longest: int = LONGEST_SHOWN) -> str:
    """Return `text` bounded and on one line, with what cannot be seen spelt out like ``\\x0a``."""
    shown = text if len(text) <= longest else f"{text[:longest]}…"
    return "".join(spelt(letter) if unicodedata.category(letter) in _UNSEEN else letter for letter in shown)


_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def spelt(letter: str) -> str:
    number = ord(letter)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}"


@dataclass(frozen=True)
class Shown:
    """A value in words; `note` says what the words do not: that it is empty, masked, cut or erased."""

    text: str = ""
    note: str = ""
    is_hidden: bool = False

    def __str__(self) -> str:
        return self.text or self.note


@dataclass(frozen=True)
class Difference:
    """One line of a record. `old` and `new`: None on the side where nothing can be."""

    name: str
    label: str
    old: Shown | None = None
    new: Shown | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Described:
    """A record in words."""

    record: Record
    differences: list[Difference]
    browser: str

    @property
    def action(self) -> str:
        return name_of_action(self.record.action)

    @property
    def tone(self) -> str:
        return tone_of_action(self.record.action)

    @property
    def resource(self) -> str:
        return name_of_resource(self.record.resource)

    @property
    def object(self) -> str:
        """What the record calls its object; its id when it has no name."""
        if self.record.object_label is None and self.record.erased_what is not None:
            return _("erased")
        return visible((self.record.object_label or self.record.object_id or "").strip())

    @property
    def who(self) -> str:
        record = self.record
        if record.actor_kind == Record.ActorKind.ANONYMOUS:
            return str(record.get_actor_kind_display())
        if record.actor_label is None and record.erased_who is not None:
            return _("erased")
        name = visible(record.actor_label or record.actor_id or "")
        if record.actor_kind == Record.ActorKind.USER:
            return name
        by = visible(record.actor_id or "")
        return f"{record.get_actor_kind_display()} {by}" + (f" ({name})" if name != by else "")

    @property
    def on_behalf_of(self) -> str:
        return visible(self.record.on_behalf_label or self.record.on_behalf_id or "")

    @property
    def reason(self) -> str:
        return visible(self.record.reason or "")

    @property
    def changed(self) -> str:
        """The names of what changed, in a line; nothing for what came or went whole."""
        if self.record.action in (Record.Action.CREATE, Record.Action.DELETE):
            return ""
        # A value inside JSON is named by its way, of which a line has room for the first step.
        names = (line.label.partition(" › ")[0] for line in self.differences if not line.quiet)
        return ", ".join(dict.fromkeys(names))


def describe(records: Iterable[Record], *, using: str | None = None) -> list[Described]:
    """Say what a page of records means, with one query for each model that they point to."""
    found = list(records)
    labels, named = _labels(found, using), browsers(found, using=using)
    return [
        Described(record, differences(record, labels), visible(named.get(record.agent or 0, ""), 300))
        for record in found
    ]


def browsers(records: Iterable[Record], *, using: str | None = None) -> dict[int, str]:
    """Return the names of the browsers of these records by their numbers."""
    wanted = {record.agent for record in records if record.agent is not None}
    return dict(Agent.objects.using(using).filter(pk__in=wanted).values_list("pk", "name")) if wanted else {}


# Fields


class Columns:
    """The fields of a resource by the names that records have for them; none when the model is gone."""

    def __init__(self, resource: str) -> None:
        self.model = model_of(resource)
        self.audited = registry.of_resource(resource)

    @cached_property
    def fields(self) -> dict[str, Any]:
        if self.model is None:
            return {}
        meta = self.model._meta
        return {**{field.attname: field for field in meta.concrete_fields}, **{f.name: f for f in meta.many_to_many}}

    def label(self, name: str) -> str:
        field = self.fields.get(name)
        return str(field.verbose_name) if field else visible(name.replace("_", " "), 100)

    def names(self, fields: Iterable[str]) -> set[str]:
        """Return what records call these fields."""
        wanted = set(fields)
        return {name for name, field in self.fields.items() if field.name in wanted}

    def is_quiet(self, name: str) -> bool:
        field = self.fields.get(name)
        return bool(self.audited and field and field.name in self.audited.quiet)


Labels = Mapping[tuple[type[models.Model], str], str]


def _labels(records: Iterable[Record], using: str | None) -> Labels:
    """What the objects are called that these records point to: by their rows, else by the trail, else not at all."""
    wanted: dict[type[models.Model], set[str]] = {}
    for record in records:
        for field, value in _references(record):
            wanted.setdefault(field.related_model, set()).add(str(value))
    return {(model, key): label for model, keys in wanted.items() for key, label in _names(model, keys, using).items()}


def _references(record: Record) -> Iterator[tuple[Any, Any]]:
    columns = Columns(record.resource)
    for values in (record.before, record.after):
        for name, value in values.items():
            field = columns.fields.get(name)
            if value is None or not _is_reference(field):
                continue
            for one in value.values() if isinstance(value, dict) else [value]:
                if not isinstance(one, dict | list):
                    yield field, one


def _is_reference(field: Any) -> bool:
    """Whether the field holds keys of other objects; not one that points to another column of theirs."""
    return field is not None and field.related_model is not None and field.target_field.primary_key


def _names(model: type[models.Model], keys: set[str], using: str | None) -> dict[str, str]:
    pk: Any = model._meta.pk
    typed = {}
    for key in keys:
        with suppress(ValidationError, ValueError):
            typed[key] = pk.to_python(key)
    # What an object is called may hold what it points to, as a permission's name does.
    rows = model._meta.base_manager.using(using).select_related().in_bulk(typed.values())
    found = {key: str(rows[value]) for key, value in typed.items() if value in rows}
    return {**reading.last_labels(model._meta.label_lower, keys - found.keys(), using=using), **found}


def describe_state(resource: str, state: State, *, using: str | None = None) -> DescribedState:
    """Say what an object was, with its fields in their order; without those that every save touches."""
    record = Record(resource=resource, action=Record.Action.CREATE, new=state.values)
    related = {name: {str(place): target for place, target in enumerate(ids)} for name, ids in state.related.items()}
    links = Record(resource=resource, action=Record.Action.ADD, new=related)
    labels = _labels([record, links], using)
    lines = [*differences(record, labels), *differences(links, labels)]
    return DescribedState(state, [line for line in lines if not line.quiet])


@dataclass(frozen=True)
class DescribedState:
    state: State
    lines: list[Difference]


# Differences


def differences(record: Record, labels: Labels) -> list[Difference]:
    columns = Columns(record.resource)
    before, after = record.before, record.after
    found: list[Difference] = []
    for name in dict.fromkeys([*_in_order(columns, before), *_in_order(columns, after)]):
        if record.action in _LINKS:
            found += _links(columns, name, before.get(name), after.get(name), labels)
        elif record.action in Record.Action.values:
            found += _of_column(columns, name, before, after, labels, record.action)
        else:
            found += _of_event(name, before, after)
    if record.erased_what is not None:
        found.append(Difference("", _("Personal data"), new=Shown(note=_("erased"))))
    return found


def _in_order(columns: Columns, values: Mapping[str, Any]) -> list[str]:
    order = list(columns.fields)
    return sorted(values, key=lambda name: order.index(name) if name in order else len(order))


def _of_column(
    columns: Columns, name: str, before: Mapping[str, Any], after: Mapping[str, Any], labels: Labels, action: str
) -> Iterator[Difference]:
    field = columns.fields.get(name)
    old, new = before.get(name), after.get(name)
    both = action == Record.Action.UPDATE
    for path, was, now in _paths(old, new) if isinstance(field, models.JSONField) else [("", old, new)]:
        yield Difference(
            name,
            columns.label(name) + path,
            old=show(field, was, labels) if both or name in before else None,
            new=show(field, now, labels) if both or name in after else None,
            quiet=columns.is_quiet(name),
        )


def _of_event(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    label = visible(name.replace("_", " "), 100)
    for path, was, now in _paths(before.get(name), after.get(name)):
        yield Difference(
            name,
            label + path,
            old=show(None, was, {}) if name in before else None,
            new=show(None, now, {}) if name in after else None,
        )


def _links(columns: Columns, name: str, removed: Any, added: Any, labels: Labels) -> Iterator[Difference]:
    field = columns.fields.get(name)

    def shown(rows: Any) -> Shown | None:
        return Shown(", ".join(str(show(field, target, labels)) for target in rows.values())) if rows else None

    yield Difference(name, columns.label(name), old=shown(removed), new=shown(added))


def _paths(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """What differs inside two JSON values, each with the way to it like `` › address › 0``."""
    if old == new and path:
        return
    before, after = _inside(old), _inside(new)
    if before is after or any(value is not None and _inside(value) is None for value in (old, new)):  # both None
        yield path, old, new
        return
    for key in dict.fromkeys([*(before or {}), *(after or {})]):
        yield from _paths((before or {}).get(key), (after or {}).get(key), f"{path} › {visible(str(key), 100)}")


def _inside(value: Any) -> dict[Any, Any] | None:
    if isinstance(value, list) and value:
        return dict(enumerate(value))
    return value if isinstance(value, dict) and value and not _stand_in(value) else None


def _stand_in(value: Any) -> Shown | None:
    """What the trigger wrote instead of a value, in words, or None for a value."""
    if not isinstance(value, dict):
        return None
    if value.keys() == {"masked"}:
        return Shown(note=_("not shown"), is_hidden=True)
    if value.keys() == {"beginning", "length", "sha256"}:
        note = _("%(length)s characters in all, SHA-256 %(digest)s")
        about = {"length": value["length"], "digest": value["sha256"]}
        return Shown(f"{visible(str(value['beginning']))}…", note % about)
    return None


def is_stand_in(value: Any) -> bool:
    """Whether the trail holds something else in place of this value, so that it cannot be restored."""
    return _stand_in(value) is not None


def show(field: Any, value: Any, labels: Labels) -> Shown:
    """Say a recorded value in words, by the rules of its field."""
    if value is None:
        return Shown(note=_("nothing"))
    if instead := _stand_in(value):
        return instead
    if value == "********":
        return Shown(note=_("not shown"), is_hidden=True)
    if _is_reference(field):
        return Shown(visible(labels.get((field.related_model, str(value)), str(value))))
    value = typed(field, value)
    choices = dict(getattr(field, "flatchoices", None) or ())
    text = str(choices[value]) if _is_among(value, choices) else in_words(value)
    return Shown(visible(text)) if text else Shown(note=_("empty"))


def _is_among(value: Any, choices: Mapping[Any, Any]) -> bool:
    with suppress(TypeError):
        return value in choices
    return False


def typed(field: Any, value: Any) -> Any:
    """Return a recorded value as its field has it in Python; as it is when the field is gone or was another."""
    if value is None:
        return None
    for kind, convert in _TYPES.items():
        if isinstance(field, kind):
            with suppress(ValueError, TypeError, OverflowError):
                return convert(value)
            return value
    with suppress(ValidationError, ValueError, TypeError, AttributeError):
        return field.to_python(value)
    return value


def plain(value: Any) -> Any:
    """JSON as Django reads it, without decimals."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return float(value) if isinstance(value, Decimal) else value


_TYPES: dict[type[models.Field[Any, Any]], Callable[[Any], Any]] = {
    models.DurationField: lambda seconds: timedelta(microseconds=int(Decimal(str(seconds)) * 1_000_000)),
    models.BinaryField: bytes.fromhex,
    models.JSONField: plain,
}


def in_words(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, datetime):
        # To the last digit: two times that differ must look different.
        return f"{value.astimezone(UTC).replace(tzinfo=None).isoformat(' ')} UTC" if value.tzinfo else str(value)
    if isinstance(value, bytes | memoryview):
        return bytes(value).hex()
    if isinstance(value, dict | list):
        return str(plain(value))
    return str(value)
