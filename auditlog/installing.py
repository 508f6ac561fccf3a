"""Keeps the triggers in step with the models through migrations."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.apps import AppConfig, apps
from django.db import connections

from auditlog import context, events, triggers


def begin(using: str, plan: Any = (), **kwargs: Any) -> None:
    """Let the triggers stand whatever the migrations of `plan` change, and say who works from here on."""
    context.be_migrating(yes=True)
    if plan:
        triggers.generalise(connections[using])


def finish(using: str, plan: Any = (), **kwargs: Any) -> None:
    """Install what the models of now declare, unless the trail itself was migrated away."""
    try:
        connection = connections[using]
        if "auditlog_record" in connection.introspection.table_names():
            triggers.install(connection)
            _record(plan, using)
    finally:
        context.be_migrating(yes=False)


def _record(plan: Iterable[tuple[Any, bool]], using: str) -> None:
    """Record what was migrated; `plan` holds migrations and whether each was taken back."""
    done: dict[str, list[str]] = {}
    for migration, backwards in plan:
        names = done.setdefault("reverted" if backwards else "applied", [])
        names.append(f"{migration.app_label}.{migration.name}")
    if done:
        events.record("migrate", "database", new=done, using=using)


def first_app() -> AppConfig:
    """Return the app whose `pre_migrate` comes first."""
    return _apps()[0]


def last_app() -> AppConfig:
    """Return the app whose `post_migrate` comes last."""
    return _apps()[-1]


def _apps() -> list[AppConfig]:
    return [config for config in apps.get_app_configs() if config.models_module]
