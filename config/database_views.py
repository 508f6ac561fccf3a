"""Views of the database as models: an operation for migrations that makes them, and what keeps counted ones fresh.

The model says ``managed = False`` and names the view as its ``db_table``; ``docs/extending.md`` has an example.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import DatabaseError, connection, migrations, router
from django.utils import timezone

from config.database import retry
from config.database.locks import held_alone
from config.database.roles import owner_connection

LONGEST = "15min"  # of one refresh
AFTER_A_FAULT = 3600.0  # seconds: what may read whole tables must not fail every minute
log = structlog.get_logger("gatehouse.views")
# In the comment of the view: PostgreSQL keeps it in no other place.
_SINCE = "SELECT obj_description(%s::regclass, 'pg_class')"
_COUNTED_NOW = "DO $$ BEGIN EXECUTE format('COMMENT ON MATERIALIZED VIEW %I IS %L', '{name}', now()); END $$"


class CreateView(migrations.operations.base.Operation):
    """Make the view `name` of the SELECT `sql`, whose columns are those of the model that shows it.

    A plain view runs with the rights of whoever asks it (``security_invoker``), so row-level security holds behind it.
    A `materialised` one is counted beforehand, as the owner, and shows all of it to everybody: put in only what tells
    nothing of one person. Its `unique` columns tell one row from another; without them it could not be refreshed beside
    its readers. Raises ValueError when a materialised view has none, or a plain one any.
    """

    reversible = True

    def __init__(self, name: str, sql: str, *, materialised: bool = False, unique: Sequence[str] = ()) -> None:
        if materialised != bool(unique):
            raise ValueError(f"{name}: unique columns are for materialised views, and each of them needs some.")
        self.name, self.sql, self.materialised, self.unique = name, sql, materialised, unique

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            self._create(schema_editor)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if router.allow_migrate(schema_editor.connection.alias, app_label):
            self._drop(schema_editor)

    def describe(self) -> str:
        return f"Create the view {self.name}"

    def _create(self, schema_editor: Any) -> None:
        quote = schema_editor.quote_name
        kind, options = ("MATERIALIZED VIEW", "") if self.materialised else ("VIEW", "WITH (security_invoker = true)")
        schema_editor.execute(f"CREATE {kind} {quote(self.name)} {options} AS {self.sql}", params=None)
        if self.materialised:
            columns = ", ".join(map(quote, self.unique))
            schema_editor.execute(f"CREATE UNIQUE INDEX {quote(f'{self.name}_key')} ON {quote(self.name)} ({columns})")
            schema_editor.execute(_COUNTED_NOW.format(name=self.name.replace("'", "''")), params=None)

    def _drop(self, schema_editor: Any) -> None:
        kind = "MATERIALIZED VIEW" if self.materialised else "VIEW"
        schema_editor.execute(f"DROP {kind} {schema_editor.quote_name(self.name)}")


class DropView(CreateView):
    """Take a view away; told as it was made, so that the migration can be taken back."""

    def database_forwards(self, *args: Any) -> None:
        super().database_backwards(*args)

    def database_backwards(self, *args: Any) -> None:
        super().database_forwards(*args)

    def describe(self) -> str:
        return f"Drop the view {self.name}"


def refresh(view: str) -> None:
    """Count a materialised view anew; whoever reads it meanwhile sees what was there before, and waits for nothing.

    As the owner: a session of the application would be cut short by its timeout.
    """
    begun = time.monotonic()
    with owner_connection() as owner, owner.cursor() as cursor:
        quoted = owner.ops.quote_name(view)
        cursor.execute("SELECT set_config('statement_timeout', %s, false), now()::text", [LONGEST])
        _timeout, since = cursor.fetchone()
        cursor.execute(f"REFRESH MATERIALIZED VIEW CONCURRENTLY {quoted}")
        cursor.execute(f"COMMENT ON MATERIALIZED VIEW {quoted} IS %s", [since])
    log.info("view.refreshed", view=view, seconds=round(time.monotonic() - begun, 1))


def refreshed_at(view: str) -> datetime | None:
    """Return since when a materialised view knows nothing newer; None if nobody has said so."""
    with connection.cursor() as cursor:
        cursor.execute(_SINCE, [connection.ops.quote_name(view)])
        since = cursor.fetchone()[0]
    return datetime.fromisoformat(since) if since else None


def keep_fresh(
    view: str, *, every: timedelta = timedelta(hours=1), is_due: Callable[[], bool] | None = None
) -> Callable[[], bool]:
    """Return what refreshes `view` when it is due, and says whether it was; for `schedule.every_minute`.

    It is due after `every`, or when `is_due` says so. One worker of all does it at a time; after a fault, this process
    tries again in an hour.
    """
    not_before = 0.0  # of time.monotonic()

    def is_old() -> bool:
        since = refreshed_at(view)
        return since is None or since < timezone.now() - every

    due = is_due or is_old

    def keep() -> bool:
        nonlocal not_before
        if time.monotonic() < not_before or not due():
            return False
        with held_alone(f"refresh {view}") as alone:
            if not alone or not due():
                return False
            try:
                refresh(view)
            except DatabaseError as error:
                if retry.fault_of(error) == retry.LOST:
                    raise
                not_before = time.monotonic() + AFTER_A_FAULT
                log.exception("view.not_refreshed", view=view)
        return True

    keep.__name__ = keep.__qualname__ = f"keep_{view}_fresh"  # as the schedule calls it in the log
    return keep
