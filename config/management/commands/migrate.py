"""Django's own command: one host at a time, with the rights of the owner role."""

from __future__ import annotations

from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from config.database.roles import as_owner, grant_runtime_rights

LOCK = 0x6761_7465  # any constant of our own; two hosts that migrate one database meet at it


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"]
        with as_owner(using):
            with connections[using].cursor() as cursor:
                # Held by the session until as_owner closes it. Waiting for another host's migration may take
                # longer than a migration may wait for a table.
                cursor.execute("SET lock_timeout = 0")
                cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
                cursor.execute("RESET lock_timeout")
            super().handle(*args, **options)
            grant_runtime_rights(using)
