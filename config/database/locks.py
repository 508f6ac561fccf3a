"""Locks on what has no row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from django.db import connection

from config.database.roles import owner_connection


def hold_until_commit(*names: str) -> None:
    """Wait for each of `names` in turn and hold it until the current transaction ends.

    Whoever takes several must take them in one order everywhere. What another holder committed is seen by the
    statements after this one, not by this one.
    """
    with connection.cursor() as cursor:
        calls = ", ".join(["pg_advisory_xact_lock(%s)"] * len(names))
        cursor.execute(f"SELECT {calls}", [_key(name) for name in names])


@contextmanager
def held_alone(name: str) -> Iterator[bool]:
    """Say whether nobody else holds `name`; if so it is held for the length of the block, however long that is.

    By a session of its own, past any pooler: it ends with the process, however that dies. Does not meet
    `hold_until_commit`.
    """
    with owner_connection() as owner, owner.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [_key(f"alone {name}")])
        yield bool(cursor.fetchone()[0])


def _key(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
