"""Erases what the trail says of a person; that something was done, to which id and when, stays, and so do the seals."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction

from auditlog import registry


def erase(
    person: Any,
    *,
    objects: Iterable[Any] = (),
    labels: Iterable[str] = (),
    using: str = DEFAULT_DB_ALIAS,
) -> int:
    """Erase `person`, a model instance, from all records so far; return how many records lost something.

    Of what the person did: name, address and browser, of whoever acted on whose behalf. Of what was done to the person
    and to `objects` (instances that are about the person): label, personal values and reason. The same for records
    that bear one of `labels`, exactly as written (names that somebody tried to sign in with).

    Call it last in the transaction that erases the person elsewhere: what is written later is recorded as ever.
    """
    others = [_place(each) for each in objects]
    resource, number = _place(person)
    arguments: list[Any] = [
        resource,
        number,
        [kind for kind, _id in others],
        [key for _kind, key in others],
        list(labels),
    ]
    with transaction.atomic(using), connections[using].cursor() as cursor:
        cursor.execute("SELECT auditlog_redact(%s, %s, %s::text[], %s::text[], %s::text[])", arguments)
        return int(cursor.fetchone()[0])


def _place(instance: Any) -> tuple[str, str]:
    model = instance._meta.concrete_model
    audited = registry.of_model(model)
    return (audited.resource if audited else model._meta.label_lower), str(instance.pk)
