"""Django's own command: one host at a time, with the rights of the owner role."""

from __future__ import annotations

from time import sleep
from typing import Any

from django.core.management.commands import migrate
from django.db import connections

from config.database.roles import as_owner, grant_runtime_rights

LOCK = 0x6761_7465  # any constant of our own; two hosts that migrate one database meet at it
ASK_AGAIN = 0.25  # seconds


class Command(migrate.Command):
    def handle(self, *args: Any, **options: Any) -> None:
        using = options["database"]
        with as_owner(using):
            _take_turn(using)
            super().handle(*args, **options)
            grant_runtime_rights(using)


def _take_turn(using: str) -> None:
    """Wait until no other host migrates; the lock is held by the session until `as_owner` closes it.

    By asking again: a statement that waits for the lock holds a snapshot, for whose end an index that the other host
    makes concurrently would wait in turn.
    """
    with connections[using].cursor() as cursor:
        while True:
            cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
            if cursor.fetchone()[0]:
                return
            sleep(ASK_AGAIN)
