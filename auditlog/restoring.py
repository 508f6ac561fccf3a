"""Gives an object back what a change took from it, as a change of its own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from django.db import IntegrityError, models, transaction
from django.utils.translation import gettext_lazy as _

from auditlog import channel, context, registry
from auditlog.describing import Columns, is_stand_in, typed
from auditlog.models import Record
from auditlog.registry import Audited

MESSAGES = {
    "not_an_update": _("Only a change can be undone like this: what was made or deleted has no old values."),
    "not_audited": _("This kind of object is not audited any more, so nobody can say how its values are to be read."),
    "no_values": _("The trail does not hold the old values themselves: they are secret, too long, or erased."),
    "not_yours": _("You may not edit any of the fields that were changed."),
    "gone": _("The object is gone."),
    "changed_since": _("The object was changed since. Look at its history, and restore the newest change first."),
    "refused": _("The database refuses the old values: something else has taken their place."),
}


class NotRestorable(Exception):
    """A change cannot be undone; `code` says why, and `message` says it to people."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    @property
    def message(self) -> str:
        return str(MESSAGES[self.code])


def restorable(record: Record, editable: Collection[str]) -> dict[str, Any]:
    """Return the old values by the names of the fields, of those among `editable`; raises NotRestorable.

    `editable`: what the person could type into the object's own form. Other fields that the change touched, such as
    what a service keeps in step, stay as they are.
    """
    audited = registry.of_resource(record.resource)
    if record.action != Record.Action.UPDATE or record.object_id is None:
        raise NotRestorable("not_an_update")
    if audited is None:
        raise NotRestorable("not_audited")
    fields = Columns(record.resource).fields
    before, after = record.before, record.after
    changed = {**before, **after}
    if record.erased_what is not None or not all(_is_whole(audited, fields, name, before, after) for name in changed):
        raise NotRestorable("no_values")
    found = {fields[name].name: typed(fields[name], before.get(name)) for name in changed}
    allowed = {name: value for name, value in found.items() if name in editable}
    if not allowed:
        raise NotRestorable("not_yours")
    return allowed


def _is_whole(
    audited: Audited, fields: Mapping[str, Any], name: str, before: Mapping[str, Any], after: Mapping[str, Any]
) -> bool:
    """Whether both values of a column are there, to put one back and to know the other again."""
    field = fields.get(name)
    if field is None or field.name in audited.excluded or audited.is_masked(field):
        return False
    return not any(_holds_stand_in(values.get(name)) for values in (before, after))


def _holds_stand_in(value: Any) -> bool:
    if is_stand_in(value):
        return True
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_holds_stand_in(item) for item in inside)


def restore(record: Record, *, editable: Collection[str], acting_user: Any, using: str = "default") -> models.Model:
    """Write the old values of `record` as a new change, and return the object.

    Raises NotRestorable, also when the object does not hold the record's new values any more, and ValidationError
    when the old ones would not be accepted today.
    """
    wanted = restorable(record, editable)
    audited = registry.of_resource(record.resource)
    assert audited is not None, "restorable() has looked"  # noqa: S101
    try:
        with transaction.atomic(using=using), context.acting_as(acting_user, reason=f"record {record.pk}"):
            instance = _locked(audited, record, using)
            _require_unchanged(instance, record, wanted)
            for name, value in wanted.items():
                setattr(instance, _attname(instance, name), value)
            others = {field.name for field in instance._meta.fields} - wanted.keys()
            instance.full_clean(exclude=others)
            with channel.of(using).restoring():
                _save(audited, instance, wanted, acting_user, using)
    except IntegrityError as error:
        raise NotRestorable("refused") from error
    return instance


def _locked(audited: Audited, record: Record, using: str) -> models.Model:
    rows = audited.model._meta.base_manager.using(using).select_for_update(of=("self",))
    instance: models.Model | None = rows.filter(pk=record.object_id).first()
    if instance is None:
        raise NotRestorable("gone")
    return instance


def _require_unchanged(instance: models.Model, record: Record, names: Collection[str]) -> None:
    for name in names:
        attname = _attname(instance, name)
        if getattr(instance, attname) != typed(instance._meta.get_field(name), record.after.get(attname)):
            raise NotRestorable("changed_since")


def _attname(instance: models.Model, name: str) -> str:
    field: Any = instance._meta.get_field(name)
    return str(field.attname)


def _save(audited: Audited, instance: models.Model, names: Collection[str], acting_user: Any, using: str) -> None:
    if audited.restore:
        audited.restore(instance, names, acting_user)
    else:
        instance.save(using=using, update_fields=list(names))
