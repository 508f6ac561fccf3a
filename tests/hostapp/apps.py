from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate


class HostappConfig(AppConfig):
    """Models of every kind for the tests of the audit trail; the apps beside it are like anybody's."""

    name = "tests.hostapp"
    label = "hostapp"

    def ready(self) -> None:
        import auditlog
        from tests.hostapp import console, models

        auditlog.register(models.Tag, label=["name"])
        auditlog.register(models.Thing, label=["name"], clear=["key"])
        auditlog.register(models.Machine, label=["name"])
        auditlog.register(models.Part, label=["name"])
        auditlog.register(
            models.Secretive, label=["name"], masked=["code"], excluded=["hidden"], personal=["phone"], quiet=["seen"]
        )
        auditlog.register(models.Vehicle, label=["name"])
        auditlog.register(models.Truck)
        auditlog.register(models.Everything)
        auditlog.register(models.Word, label=["code"])
        auditlog.register(models.Note, label=["title"], quiet=["read_count", "version", "updated_at"])
        console.take_over("tasks", "queries", "machines")
        post_migrate.connect(_count_versions, sender=self, dispatch_uid="hostapp.count_versions")


def _count_versions(using: str, **kwargs: Any) -> None:
    """What `rows.CountVersions` does in the migrations that this app does not have."""
    from config import rows
    from tests.hostapp.models import Note

    if rows.versions_are_counted(databases=[using]):  # once: afterwards the signal may come to who is not the owner
        rows.count_versions(connections[using], Note, silent=Note.silent)
