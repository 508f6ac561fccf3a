"""Which models are audited, and how: one line for each, anywhere in an `AppConfig.ready`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from django.db import models

# What is in the name of a column, or of a key inside JSON, whose values are masked even when nobody has said so:
# some words wherever they stand, the short ones as words of their own only.
_LONG_WORDS = ("passw", "passphrase", "secret", "token", "cookie", "credential", "authorization", "digest", "session")
_SHORT_WORDS = ("key", "pwd", "otp", "pin", "hash", "nonce")
SECRET_WORDS = _LONG_WORDS + _SHORT_WORDS
LIKE_A_SECRET = (
    rf"{'|'.join(_LONG_WORDS)}|(^|[^a-z])(api|access|private|signing)?({'|'.join(_SHORT_WORDS)})s?($|[^a-z])"
)
_SECRET = re.compile(LIKE_A_SECRET, re.I)


Restore = Callable[[Any, Collection[str], Any], None]  # of (object, names of the fields, acting user)


class NotAuditable(ValueError):
    """A model cannot be registered in this way; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of an audited table, as the triggers see it; `name` is the field's attname."""

    name: str
    column: str
    kind: str  # the type of the column in PostgreSQL
    masked: bool
    personal: bool
    quiet: bool


@dataclass(frozen=True, kw_only=True)
class Relation:
    """A many-to-many field whose table Django made: its rows are changes of the model that declares it."""

    name: str
    table: str
    key: str
    source: str
    target: str


@dataclass(frozen=True, kw_only=True)
class Audited:
    """How one model is audited. All names are names of its fields.

    `label`: what an object is called in its records. `excluded`: not recorded at all. `masked`: recorded as a keyed
    fingerprint. `personal`: what can be erased when the person asks for it. `quiet`: written by every save, so that
    a change of nothing else makes no record. `clear`: bear the name of a secret and are none.
    `line`: returns what the log line of a record of this model says instead of the names of the fields.
    """

    model: type[models.Model]
    label: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    masked: frozenset[str] = frozenset()
    personal: frozenset[str] = frozenset()
    quiet: frozenset[str] = frozenset()
    clear: frozenset[str] = frozenset()
    line: Callable[[Any], Mapping[str, Any]] | None = None
    restore: Restore | None = None

    @property
    def resource(self) -> str:
        """What its records call it, like ``accounts.user``."""
        return self.model._meta.label_lower

    @property
    def table(self) -> str:
        return self.model._meta.db_table

    def is_masked(self, field: models.Field[Any, Any]) -> bool:
        return field.name in self.masked or (field.name not in self.clear and looks_secret(field.name))

    def hides(self, field: models.Field[Any, Any]) -> bool:
        return field.name in self.excluded or self.is_masked(field)

    @cached_property
    def fields(self) -> list[models.Field[Any, Any]]:
        """The fields with a column of this table; a parent's columns are the parent's own affair."""
        return [field for field in self.model._meta.local_concrete_fields if field not in self.left_out]

    @cached_property
    def left_out(self) -> list[models.Field[Any, Any]]:
        """The fields that are not recorded; what the database computes follows from the others."""
        return [f for f in self.model._meta.local_concrete_fields if f.generated or f.name in self.excluded]

    @cached_property
    def key(self) -> tuple[str, ...]:
        """The columns of the primary key."""
        return tuple(str(field.column) for field in self.model._meta.pk_fields)

    def columns(self, connection: Any) -> Iterator[Column]:
        for field in self.fields:
            yield Column(
                name=field.attname,
                column=str(field.column),
                kind=(field.rel_db_type(connection) if field.is_relation else field.db_type(connection)) or "text",
                masked=self.is_masked(field),
                personal=field.name in self.personal,
                quiet=field.name in self.quiet,
            )

    @cached_property
    def relations(self) -> list[Relation]:
        found = []
        for field in self.model._meta.local_many_to_many:
            through: Any = field.remote_field.through
            if not through._meta.auto_created or field.name in self.excluded:
                continue
            source, target = (
                through._meta.get_field(name()) for name in (field.m2m_field_name, field.m2m_reverse_field_name)
            )
            found.append(
                Relation(
                    name=field.name,
                    table=through._meta.db_table,
                    key=through._meta.pk.column,
                    source=source.column,
                    target=target.column,
                )
            )
        return found


_registered: dict[type[models.Model], Audited] = {}


def register(
    model: type[models.Model],
    *,
    label: Iterable[str] = (),
    excluded: Iterable[str] = (),
    masked: Iterable[str] = (),
    personal: Iterable[str] = (),
    quiet: Iterable[str] = (),
    clear: Iterable[str] = (),
    line: Callable[[Any], Mapping[str, Any]] | None = None,
    restore: Restore | None = None,
) -> None:
    """Audit `model` from the next `migrate` on, which puts the triggers on its table; see `Audited`.

    Raises NotAuditable for a proxy, for a model without a table of ours, for a name that is no field, and for a label
    that would show what the records hide.
    """
    options = {
        "label": label,
        "excluded": excluded,
        "masked": masked,
        "personal": personal,
        "quiet": quiet,
        "clear": clear,
    }
    names = {name for given in options.values() for name in given}
    meta = model._meta
    if meta.proxy or meta.abstract or meta.auto_created:
        raise NotAuditable(f"{meta.label} has no table of its own: register the model that has.")
    if unknown := sorted(names - {field.name for field in (*meta.local_fields, *meta.local_many_to_many)}):
        raise NotAuditable(f"{meta.label} has no field of its own called {', '.join(unknown)}.")
    if lost := set(excluded) & {field.name for field in meta.pk_fields}:
        raise NotAuditable(f"{meta.label}: without its key ({', '.join(lost)}) a record would be about nothing.")
    audited = Audited(
        model=model,
        label=tuple(label),
        excluded=frozenset(excluded),
        masked=frozenset(masked),
        personal=frozenset(personal),
        quiet=frozenset(quiet),
        clear=frozenset(clear),
        line=line,
        restore=restore,
    )
    if shown := sorted(
        field.name for field in meta.local_fields if field.name in audited.label and audited.hides(field)
    ):
        raise NotAuditable(f"{meta.label}: its label would show {', '.join(shown)}, which its records hide.")
    _registered[model] = audited


def unregister(model: type[models.Model]) -> None:
    """Audit `model` no more from the next `migrate` on, which takes the triggers off."""
    del _registered[model]


def registered() -> list[Audited]:
    return list(_registered.values())


def of_model(model: type[models.Model]) -> Audited | None:
    return _registered.get(model._meta.concrete_model or model)


def of_resource(resource: str) -> Audited | None:
    """Return how the model is audited that records call `resource`, or None if there is none (any more)."""
    return next((audited for audited in registered() if audited.resource == resource), None)


@cache
def tables_of(model: type[models.Model]) -> frozenset[str]:
    """Return the tables that saving an object of `model` writes."""
    parents = model._meta.get_parent_list()
    return frozenset(parent._meta.db_table for parent in (model, *parents))


def tables() -> Iterator[str]:
    """Every table whose changes are recorded."""
    for audited in registered():
        yield audited.table
        yield from (relation.table for relation in audited.relations)


def looks_secret(name: str) -> bool:
    """Whether `name` is one that secrets have."""
    return _SECRET.search(name) is not None
