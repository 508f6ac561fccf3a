"""A session of the database for work that pages must not do: as the owner, past any pooler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

ALIAS = "direct"


@contextmanager
def own_session() -> Iterator[BaseDatabaseWrapper]:
    """A connection of the owner's for the length of the block; each statement is committed by itself."""
    connection = connections.create_connection(ALIAS)
    try:
        yield connection
    finally:
        connection.close()


def lock_key(name: str) -> int:
    """The advisory lock that stands for an operation while it runs."""
    digest = blake2b(f"healthcheck operation {name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
