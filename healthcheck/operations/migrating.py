"""Applies the migrations that this code has and the database has not: those that somebody has read, and no others."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from healthcheck.operations import Failed, Progress, Refused


@dataclass(frozen=True)
class Step:
    """One migration and what it says it does."""

    name: str
    operations: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """What would be applied now, in order."""

    steps: tuple[Step, ...]

    @property
    def digest(self) -> str:
        """Names exactly this plan; 16 hexadecimal digits."""
        lines = [line for step in self.steps for line in (step.name, *step.operations)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def plan() -> Plan:
    """Return what this code has and the database has not."""
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return Plan(
        tuple(
            Step(
                f"{migration.app_label}.{migration.name}",
                tuple(operation.describe() for operation in migration.operations),
            )
            for migration, _backwards in missing
        )
    )


def is_enabled() -> bool:
    """Whether migrations may be applied at anybody's request."""
    return bool(settings.HEALTH_MIGRATIONS)


def accept(arguments: Mapping[str, Any]) -> None:
    """Refuse to queue what is switched off, needless, or not what is planned now."""
    if not is_enabled():
        raise Refused("migrations_off")
    planned = plan()
    if arguments.get("plan") != planned.digest:
        raise Refused("plan_changed")
    if not planned.steps:
        raise Refused("nothing_to_do")


def migrate(progress: Progress, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Apply the plan that was asked for, one migration after the other; raises Failed.

    A worker with older code has another plan, and applies nothing.
    """
    planned = plan()
    if arguments.get("plan") != planned.digest:
        raise Failed("plan_changed")
    said = _Lines(progress, len(planned.steps))
    try:
        call_command("migrate", interactive=False, no_color=True, stdout=said)
    except Exception as error:
        raise Failed("migration_failed", {"applied": said.applied, "failed": said.current}) from error
    return {"applied": said.applied}


class _Lines(io.StringIO):
    """What `migrate` says, read for the name of the migration that it begins."""

    def __init__(self, progress: Progress, of: int) -> None:
        super().__init__()
        self._progress, self._of = progress, of
        self.current = ""
        self.applied: list[str] = []

    def write(self, text: str) -> int:
        word, _space, name = text.strip().partition(" ")
        if word == "Applying":
            self.current = name.removesuffix("...")
            self._progress(len(self.applied), self._of, self.current)
        elif word == "OK" and self.current:
            self.applied.append(self.current)
        return len(text)
