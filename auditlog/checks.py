"""What `manage.py check` says about the trail: undecided secrets, and triggers that are not as declared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from auditlog import registry, triggers
from auditlog.registry import Audited


@checks.register
def secrets_are_decided_about(**kwargs: Any) -> list[checks.CheckMessage]:
    """Warn of every column that is masked only because of its name."""
    return [warning for audited in registry.registered() for warning in _undecided(audited)]


def _undecided(audited: Audited) -> Iterator[checks.CheckMessage]:
    for field in audited.fields:
        if registry.looks_secret(field.name) and field.name not in audited.masked | audited.clear:
            yield checks.Warning(
                f"'{field.name}' bears the name of a secret; the audit trail masks it, but nobody has said so.",
                hint="Name it in masked=, excluded= or clear= where the model is registered.",
                obj=audited.model,
                id="auditlog.W001",
            )


@checks.register(checks.Tags.database)
def triggers_are_as_declared(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn of triggers that are missing, off, changed or left over, unless migrations are about to put them right."""
    return [warning for using in databases or () for warning in _different(using)]


def _different(using: str) -> Iterator[checks.CheckMessage]:
    connection = connections[using]
    executor = MigrationExecutor(connection)
    if connection.vendor != "postgresql" or executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return
    missing, superfluous = triggers.differences(connection)
    if places := sorted({trigger.place for trigger in missing} | set(superfluous)):
        named = ", ".join(f"{name.removeprefix('auditlog_on_')} on {table}" for name, table in places[:5])
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        yield checks.Warning(
            f"The database does not record as the models declare: {named}{more}.",
            hint="Run manage.py migrate, and find out who changed the triggers if no model was changed.",
            id="auditlog.W002",
        )
