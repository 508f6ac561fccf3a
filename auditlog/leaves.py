"""Reads records out of the database at speed and makes of each a leaf, of which seals are made.

A leaf is a keyed digest of what a record can never lose, and of two salted commitments to what can be erased: who
acted from where, and what it says about whom. An erased part has left its commitment in the record.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from struct import Struct, iter_unpack, pack
from types import SimpleNamespace
from typing import Any

from django.db import connections
from psycopg2 import extensions

SALT = 8  # bytes, for each of the two parts
PREFIX = 4  # bytes of a leaf that a seal keeps, to name the record that changed
Salts = tuple[bytes, bytes]
_BOTH = f"{SALT}s{SALT}s"
# In PostgreSQL's binary form, on which no setting of a session has an effect, so that a record reads the same after a
# dump and restore. Row and field lengths come first, so what is hashed as one piece stands together at the end.
_COPY = """
COPY (
    SELECT id, ROW(actor_label, on_behalf_label, address, agent), ROW(object_label, personal, reason),
        erased_who, erased_what,
        at, transaction, epoch, request, origin, action, actor_kind, actor_id, on_behalf_id, resource, object_id,
        old, new
    FROM auditlog_record WHERE {}
) TO STDOUT WITH BINARY
"""
_HEADER = b"PGCOPY\n\xff\r\n\0"
_HEADER_SIZE = len(_HEADER) + 8
_ID_AND_SIZE = Struct(">6xqi").unpack_from
_SIZE = Struct(">i").unpack_from
_ID = slice(6, 14)
_WHO = 18  # where that field begins: behind the number of fields, the id with its size, and its own size
_NOT_ERASED = b"\xff" * 8  # two fields that are NULL
_NONSENSE = b"\0" * 32


def _empty(*types: int) -> bytes:
    """How a row looks whose columns, of these types, are all NULL."""
    return pack(">i", len(types)) + b"".join(pack(">Ii", each, -1) for each in types)


_TEXT, _INET, _BIGINT, _JSONB = 25, 869, 20, 3802
_NOBODY = _empty(_TEXT, _TEXT, _INET, _BIGINT)
_NO_WORDS = _empty(_TEXT, _JSONB, _TEXT)


@dataclass
class Leaves:
    """The leaves of some records in the order of their ids, and how many of the records have an erased part."""

    ids: list[int]
    leaves: list[bytes]
    erased: int

    @property
    def root(self) -> bytes:
        return sha256(b"".join(self.leaves)).digest()

    @property
    def prefixes(self) -> bytes:
        return b"".join([leaf[:PREFIX] for leaf in self.leaves])


def fresh_salts() -> defaultdict[int, Salts]:
    """Gives each id that is asked for two salts, and keeps them."""

    def made() -> Iterator[Salts]:
        while True:
            yield from iter_unpack(_BOTH, os.urandom(2 * SALT * 1000))

    return defaultdict(made().__next__)


def known_salts(ids: list[int], salts: bytes) -> defaultdict[int, Salts]:
    """Gives the salts that a seal has kept for these ids, and none for others."""
    whole = len(salts) == 2 * SALT * len(ids)
    return defaultdict(lambda: (b"", b""), zip(ids, iter_unpack(_BOTH, salts), strict=True) if whole else ())


def read(where: str, key: bytes, salts: defaultdict[int, Salts], using: str) -> Leaves:
    """Return the leaves of the records `where` (SQL, complete with its values), inside the caller's transaction."""
    ids: list[int] = []
    leaves: list[bytes] = []
    erased = 0

    def write(row: bytes) -> None:  # runs for every record: each name and call in it counts
        nonlocal erased
        if row[0]:  # the first row comes with the header; and there is the trailer
            if row.startswith(_HEADER) and len(row) > _HEADER_SIZE:
                write(row[_HEADER_SIZE:])
            return
        number, size = _ID_AND_SIZE(row)
        what = _WHO + size
        end = what + 4 + _SIZE(row, what)[0]
        salt = salts[number]
        if row[end : end + 8] == _NOT_ERASED:
            who_says = sha256(salt[0] + row[_WHO:what]).digest()
            what_says = sha256(salt[1] + row[what + 4 : end]).digest()
            rest = row[end + 8 :]
        else:
            erased += 1
            erased_who, end_of_who = _field(row, end)
            erased_what, end_of_what = _field(row, end_of_who)
            who_says = _commitment(salt[0], row[_WHO:what], erased_who, _NOBODY)
            what_says = _commitment(salt[1], row[what + 4 : end], erased_what, _NO_WORDS)
            rest = row[end_of_what:]
        ids.append(number)
        # The inner half of an HMAC. The outer one would guard a digest that is shown; of this, four bytes are kept.
        leaves.append(sha256(b"".join((key, row[_ID], rest, who_says, what_says))).digest())

    _copy(_COPY.format(where), write, using)
    in_order = sorted(ids)
    if in_order != ids:
        leaves = [leaf for _number, leaf in sorted(zip(ids, leaves, strict=True))]
    return Leaves(in_order, leaves, erased)


def _field(row: bytes, place: int) -> tuple[bytes | None, int]:
    """The field whose size stands at `place`, and where the next one stands."""
    begin = place + 4
    (size,) = _SIZE(row, place)
    return (None, begin) if size < 0 else (row[begin : begin + size], begin + size)


def _commitment(salt: bytes, part: bytes, erased: bytes | None, empty: bytes) -> bytes:
    """The commitment to a part that may be erased; one that was, and says something all the same, is nonsense."""
    if erased is None:
        return sha256(salt + part).digest()
    return erased if part == empty else _NONSENSE


def _copy(statement: str, write: Callable[[bytes], None], using: str) -> None:
    connection = connections[using]
    # psycopg2's own cursor: the channel has nothing to say about reading. But Django's errors: by them the worker
    # knows that it is the database's fault.
    with (
        connection.wrap_database_errors,
        connection.connection.cursor(cursor_factory=extensions.cursor) as cursor,
        without_wait_callback(),
    ):
        cursor.copy_expert(statement, SimpleNamespace(write=write))


@contextmanager
def without_wait_callback() -> Iterator[None]:
    """Let psycopg2 do what it cannot with a wait callback.

    The callback belongs to the whole process: for commands and the worker, never for a web process.
    """
    callback: Any = extensions.get_wait_callback()
    extensions.set_wait_callback(None)
    try:
        yield
    finally:
        extensions.set_wait_callback(callback)
