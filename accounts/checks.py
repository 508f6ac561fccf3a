"""What `manage.py check --database` says about accounts: roles that are not as declared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from accounts import roles


@checks.register(checks.Tags.database)
def roles_are_as_declared(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn of roles whose groups hold other permissions than the code declares, unless migrations are to come."""
    return [warning for using in databases or () for warning in _different(using)]


def _different(using: str) -> Iterator[checks.CheckMessage]:
    executor = MigrationExecutor(connections[using])
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        return
    if names := roles.differences(using):
        yield checks.Warning(
            f"In the database these roles are not as the code declares them: {', '.join(names)}.",
            hint="Run manage.py migrate, and find out in the audit trail who changed the groups.",
            id="accounts.W001",
        )
