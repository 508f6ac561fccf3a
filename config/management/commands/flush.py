"""Django's own command, with the rights of the owner role."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush

from config.database.roles import as_owner


class Command(flush.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        with as_owner(options["database"]):
            super().handle(*args, **options)
