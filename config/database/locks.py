"""Locks on what has no row yet."""

from __future__ import annotations

from hashlib import blake2b

from django.db import connection


def hold_until_commit(*names: str) -> None:
    """Wait for each of `names` in turn and hold it until the current transaction ends.

    Whoever takes several must take them in one order everywhere. What another holder committed is seen by the
    statements after this one, not by this one.
    """
    with connection.cursor() as cursor:
        calls = ", ".join(["pg_advisory_xact_lock(%s)"] * len(names))
        cursor.execute(f"SELECT {calls}", [_key(name) for name in names])


def _key(name: str) -> int:
    digest = blake2b(name.encode("utf-8", "replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
