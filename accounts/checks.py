"""What `manage.py check` says about accounts, with ``--database`` where it has to look there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.core import checks
from django.db import ProgrammingError, connections
from django.db.migrations.executor import MigrationExecutor

from accounts import identity, roles
from accounts.models import ErasedName


@checks.register(checks.Tags.database)
def names_stay_reserved(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn of names of erased people that are free again, because nobody knows the key of their digests any more."""
    known = [key.id for key in identity.name_keys()]
    return [warning for using in databases or () for warning in _of_unknown_keys(using, known)]


def _of_unknown_keys(using: str, known: list[str]) -> list[checks.CheckMessage]:
    try:
        lost = ErasedName.objects.using(using).exclude(hash_key__in=known).first()
    except ProgrammingError:  # not migrated yet
        return []
    if lost is None:
        return []
    return [
        checks.Warning(
            f"Names of erased people were reserved with a key that is gone ({lost.hash_key}): they are free again.",
            hint="Put the former NAME_HASH_KEY into NAME_HASH_KEY_FALLBACKS, or the former SECRET_KEY into "
            "SECRET_KEY_FALLBACKS if there was none.",
            id="accounts.W001",
        )
    ]


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
            id="accounts.W002",
        )
