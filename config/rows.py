"""Bases for models of any app: rows of one person, rows deleted softly, and rows that several people edit at once.

They combine by inheritance, in any order. ``docs/extending.md`` says how to use them, and what they do not do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeVar

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import connections, migrations, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

Row = TypeVar("Row", bound=models.Model)


# Of one person


class OwnedQuerySet(models.QuerySet[Row]):
    def of(self, user: Any) -> Self:
        """The rows of `user`; of a stranger, who is signed in to no account, none."""
        return self.filter(owner=user) if user.is_authenticated else self.none()


# Deleted softly


class SoftDeletedQuerySet(models.QuerySet[Row]):
    """Deletes by marking; `erase` is what `delete` is elsewhere."""

    def delete(self) -> tuple[int, dict[str, int]]:
        """Mark those that are not marked yet. Sends no signals and follows no foreign keys."""
        marked = self.filter(deleted_at=None).update(deleted_at=timezone.now())
        return marked, {self.model._meta.label: marked}

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def restore(self) -> int:
        """Take the marks away; returns how many rows had one."""
        return self.exclude(deleted_at=None).update(deleted_at=None)

    restore.alters_data = True  # type: ignore[attr-defined]

    def erase(self) -> tuple[int, dict[str, int]]:
        """Delete the rows for good, marked or not, with all that hangs on them."""
        return super().delete()

    erase.alters_data = True  # type: ignore[attr-defined]
    erase.queryset_only = True  # type: ignore[attr-defined]


class _OwnedSoftDeletedQuerySet(SoftDeletedQuerySet[Row], OwnedQuerySet[Row]):  # type: ignore[override]  # as_manager
    pass


class _All(models.Manager[Row]):
    """Every row, with what its model's bases can do with many of them."""

    def get_queryset(self) -> Any:
        owned, soft = issubclass(self.model, Owned), issubclass(self.model, SoftDeleted)
        rows = _OwnedSoftDeletedQuerySet if owned and soft else OwnedQuerySet if owned else SoftDeletedQuerySet
        return rows(self.model, using=self._db)

    def of(self, user: Any) -> Any:
        return self.get_queryset().of(user)


class _Living(_All[Row]):
    """Those that are not deleted softly."""

    def get_queryset(self) -> Any:
        rows = super().get_queryset()
        return rows.filter(deleted_at=None) if issubclass(self.model, SoftDeleted) else rows


class Owned(models.Model):
    """A row that belongs to one person, and goes with the account. `objects.of(user)` are the rows of one.

    That pages ask for no others is theirs to see to; `config.row_security` lets the database see to it too.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", verbose_name=_("owner")
    )

    objects: ClassVar[Any] = _Living()

    class Meta:
        abstract = True


class SoftDeleted(models.Model):
    """A row that `delete` only marks, `restore` brings back, and `erase` takes away for good.

    `objects` hides the marked ones, and so do the managers of reverse relations, forms and the admin; `all_objects`
    does not. A foreign key still leads to a marked row. Nothing cascades by a mark: what hangs on the row stays as it
    is. A cascade from above, and `erase`, delete for good, marked rows as well. What must be unique among the living
    only, needs ``UniqueConstraint(..., condition=Q(deleted_at=None))``.
    """

    deleted_at = models.DateTimeField(_("deleted"), null=True, editable=False)

    objects: ClassVar[Any] = _Living()
    all_objects: ClassVar[Any] = _All()

    class Meta:
        abstract = True

    def delete(self, using: Any = None, keep_parents: bool = False) -> tuple[int, dict[str, int]]:
        """Mark this row. It is saved like an edit, so a `Versioned` one may raise StaleRow."""
        if self.deleted_at is not None:
            return 0, {}
        self.deleted_at = timezone.now()
        self.save(using=using, update_fields=["deleted_at"])
        return 1, {self._meta.label: 1}

    def restore(self) -> None:
        self.deleted_at = None
        self.save(update_fields=["deleted_at"])

    def erase(self) -> tuple[int, dict[str, int]]:
        """Delete the row for good, with all that hangs on it."""
        return super().delete()


# Edited by several people at once


class StaleRow(Exception):
    """Somebody else has changed the row since it was read, so nothing was saved.

    `current` is the row as it is now, None when it is gone; `changed` are the names of fields with what was to be saved
    and what is there.
    """

    def __init__(self, current: Versioned | None, changed: dict[str, tuple[Any, Any]]) -> None:
        self.current = current
        self.changed = changed
        what = f"{current!r} was changed" if current is not None else "The row was deleted"
        super().__init__(f"{what} meanwhile: {', '.join(changed) or 'nothing that differs'}")


class Versioned(models.Model):
    """A row whose `save` refuses to overwrite what somebody else has saved since it was read.

    The database counts the versions, by a trigger that `CountVersions` puts on the table in a migration; so `update()`,
    raw SQL and other programs count too. A change of nothing, or of `silent` fields only, is no new version, and
    `silent` fields alone can always be saved.
    """

    silent: ClassVar[Collection[str]] = ()
    version = models.PositiveIntegerField(_("version"), default=1, editable=False)
    updated_at = models.DateTimeField(_("updated"), default=timezone.now, editable=False)

    class Meta:
        abstract = True

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Raises StaleRow, which spoils no transaction around it.

        Costs one statement more than usual, the look at the new version, and inside a transaction a savepoint.
        """
        if self._state.adding:
            super().save(*args, **kwargs)
            return
        using = kwargs.get("using") or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):  # nobody may come between the write and the look at its version
            super().save(*args, **kwargs)
            manager = type(self)._base_manager  # noqa: SLF001 - public, says Django's documentation
            found = manager.using(using).filter(pk=self.pk).values_list("version", "updated_at")
            self.version, self.updated_at = found.get()

    def _do_update(  # type: ignore[override]  # the stubs know Django 6 only
        self, base_qs: Any, using: Any, pk_val: Any, values: Any, *rest: Any
    ) -> bool:
        """As Django's, for the version that was read only. Of several tables, the one that has the version decides."""
        names = {field.name for field, _model, _value in values}
        own = {field.name for field in base_qs.model._meta.local_fields}
        if "version" not in own or names <= {*self.silent, "version", "updated_at"}:
            return bool(super()._do_update(base_qs, using, pk_val, values, *rest))
        meant = base_qs.filter(version=self.version)
        updated = bool(super()._do_update(meant, using, pk_val, values, *rest))
        if not updated and (current := base_qs.filter(pk=pk_val).first()):
            raise StaleRow(current, self._differences(current, names))
        if not updated and not self._state.adding:  # Django would insert it again
            raise StaleRow(None, {})
        return updated

    def _differences(self, current: models.Model, names: Collection[str]) -> dict[str, tuple[Any, Any]]:
        pairs = {
            field.name: (getattr(self, field.attname), getattr(current, field.attname))
            for field in current._meta.concrete_fields
            if field.name in names and field.name not in ("version", "updated_at")
        }
        return {name: (mine, theirs) for name, (mine, theirs) in pairs.items() if mine != theirs}


# Counting in the database

_COUNT = """
CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    silent CONSTANT text[] := ARRAY[{silent}];
BEGIN
    IF (to_jsonb(NEW) - silent) IS DISTINCT FROM (to_jsonb(OLD) - silent) THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := clock_timestamp();
    ELSE
        NEW.version := OLD.version;
        NEW.updated_at := OLD.updated_at;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER count_version BEFORE UPDATE ON {table}
    FOR EACH ROW EXECUTE FUNCTION {function}();
"""
_STOP = "DROP TRIGGER IF EXISTS count_version ON {table}; DROP FUNCTION IF EXISTS {function}();"


def _names(connection: BaseDatabaseWrapper, model: type[models.Model]) -> dict[str, str]:
    table = model._meta.db_table
    function = f"count_version_of_{table}"
    if len(function) > 63:
        function = f"{function[:52]}_{hashlib.sha256(function.encode()).hexdigest()[:10]}"
    return {"table": connection.ops.quote_name(table), "function": connection.ops.quote_name(function)}


def count_versions(connection: BaseDatabaseWrapper, model: type[models.Model], silent: Collection[str] = ()) -> None:
    """Let the database count the versions of `model` from now on; for apps without migrations. As the owner."""
    fields = {field.name: str(field.column) for field in model._meta.concrete_fields}
    columns = {fields[name] for name in silent} | {"version", "updated_at"}
    quoted = ", ".join("'" + column.replace("'", "''") + "'" for column in sorted(columns))
    with connection.cursor() as cursor:
        cursor.execute(_COUNT.format(silent=quoted, **_names(connection, model)))


class CountVersions(migrations.operations.base.Operation):
    """Put the trigger on the table of a `Versioned` model, behind the operation that makes its columns.

    `silent` are the model's own `silent` fields: a migration cannot see them.
    """

    reversible = True

    def __init__(self, model_name: str, silent: Sequence[str] = ()) -> None:
        self.model_name = model_name
        self.silent = silent

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            count_versions(schema_editor.connection, model, self.silent)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.execute(_STOP.format(**_names(schema_editor.connection, model)))

    def describe(self) -> str:
        return f"Count the versions of {self.model_name} in the database"


_COUNTED = "SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname = 'count_version' AND tgenabled = 'O'"


@checks.register(checks.Tags.database)
def versions_are_counted(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse a `Versioned` model whose versions nobody counts: none of its saves would ever be stale."""
    return [error for using in databases or () for error in _uncounted(using)]


def _uncounted(using: str) -> Iterator[checks.CheckMessage]:
    connection = connections[using]
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED)
        counted = {table.strip('"') for (table,) in cursor.fetchall()}
    there = set(connection.introspection.table_names())
    for model in apps.get_models():
        table = model._meta.db_table
        has_version = "version" in {field.name for field in model._meta.local_fields}
        if issubclass(model, Versioned) and has_version and model._meta.managed and table in there - counted:
            yield checks.Error(
                f"The database does not count the versions of {model._meta.label}.",
                hint="Add config.rows.CountVersions to its migrations.",
                obj=model,
                id="config.E003",
            )
