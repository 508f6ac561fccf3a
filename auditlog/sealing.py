"""Seals what nobody writes any more, and proves that it is still what it was.

A seal is an HMAC-SHA-256, with a key that the database does not have, over a closed set of records and the seal
before. It is made after the fact and so costs a write nothing: what is not sealed yet can still be changed by whoever
rules the database without a trace, which is why the worker seals often.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from itertools import pairwise

import structlog
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from auditlog import leaves
from auditlog.models import Seal

MOST_RECORDS = 50_000  # of one seal
WEEK = timedelta(weeks=1)
START = b"\0" * 32  # the digest before the first
log = structlog.get_logger("auditlog")
Position = tuple[int, int]  # transaction and id
_LOCK = "pg_try_advisory_xact_lock(hashtextextended('auditlog seals', 0))"
PURGED = """
SELECT max((r.new ->> 'before')::timestamptz) FROM auditlog_record r
WHERE r.resource = 'auditlog.record' AND r.action = 'purge'
    AND (r.new ->> 'before')::timestamptz <= r.at - interval '30 days'  -- or the database cannot have done it
"""
_OPEN = """
SELECT w.opens, h.epoch, coalesce(s.to_transaction, 0), coalesce(s.to_id, 0), h.transaction, n.records, n.since
FROM (SELECT DISTINCT p.opens, p.closes FROM auditlog_partitions() p) w CROSS JOIN auditlog_horizons() h
LEFT JOIN LATERAL (
    SELECT s.to_transaction, s.to_id FROM auditlog_seal s WHERE s.week = w.opens AND s.epoch = h.epoch
    ORDER BY s.id DESC LIMIT 1
) s ON true
CROSS JOIN LATERAL (
    SELECT count(*) AS records, min(r.at) AS since FROM auditlog_record r
    WHERE r.at >= w.opens AND r.at < w.closes AND r.epoch = h.epoch
        AND r.transaction >= coalesce(s.to_transaction, 0) AND (%(all)s OR r.transaction < h.transaction)
        AND (r.transaction, r.id) >= (coalesce(s.to_transaction, 0), coalesce(s.to_id, 0))
) n
WHERE n.records > 0 ORDER BY w.opens, h.epoch
"""
_CUTS = """
SELECT p.transaction, p.id FROM (
    SELECT r.transaction, r.id, row_number() OVER (ORDER BY r.transaction, r.id) AS place
    FROM auditlog_record r WHERE {}
) p WHERE p.place %% %s = 1 AND p.place > 1 ORDER BY p.place
"""


@dataclass(frozen=True)
class Key:
    """A key and what is derived of it. `id` says which one it is and nothing else about it."""

    secret: bytes

    @cached_property
    def id(self) -> str:
        return self._derived(b"id")[:8].hex()

    @cached_property
    def of_leaves(self) -> bytes:
        return self._derived(b"leaf")

    def digest(self, seal: Seal, before: bytes) -> bytes:
        """The digest of `seal`, which follows the one whose digest is `before`."""
        moments = (seal.at, seal.week, seal.purged_before)
        header = (
            *("auditlog seal 1", seal.id, seal.key, seal.epoch, seal.records),
            *(seal.from_transaction, seal.from_id, seal.to_transaction, seal.to_id),
            *(moment.astimezone(UTC).isoformat() if moment else "" for moment in moments),
            *(before.hex(), bytes(seal.root).hex()),
        )
        return hmac.digest(self.secret, "\n".join(map(str, header)).encode(), "sha256")

    def _derived(self, purpose: bytes) -> bytes:
        return hmac.digest(self.secret, b"auditlog " + purpose, "sha256")


def known_keys() -> list[Key]:
    """The key of new seals, then the former ones that are still good for old seals."""
    words = [settings.AUDITLOG_SEAL_KEY, *settings.AUDITLOG_SEAL_KEY_FALLBACKS]
    words += [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [_key(word) for word in words if word]


@lru_cache
def _key(words: str) -> Key:
    return Key(hmac.digest(words.encode(), b"auditlog.sealing", "sha256"))


@dataclass(frozen=True)
class Stretch:
    """Records of one week and epoch from one position to before another."""

    week: datetime
    epoch: int
    begin: Position
    end: Position

    @classmethod
    def of_seal(cls, seal: Seal) -> Stretch:
        begin, end = (seal.from_transaction, seal.from_id), (seal.to_transaction, seal.to_id)
        return cls(seal.week, seal.epoch, begin, end)

    @property
    def sql(self) -> str:
        """The condition, complete with its values, which are numbers and moments."""
        closes = (self.week + WEEK).isoformat()
        return (
            f"at >= '{self.week.isoformat()}' AND at < '{closes}' AND epoch = {self.epoch}"
            # For the index; the comparison of pairs alone would not use it.
            f" AND transaction >= {self.begin[0]} AND transaction <= {self.end[0]}"
            f" AND (transaction, id) >= ({self.begin[0]}, {self.begin[1]})"
            f" AND (transaction, id) < ({self.end[0]}, {self.end[1]})"
        )


@dataclass(frozen=True)
class Unsealed:
    """What of one week and epoch is not sealed: so many records, the oldest of them since when."""

    stretch: Stretch
    records: int
    since: datetime


def unsealed(using: str = DEFAULT_DB_ALIAS, *, running: bool = True) -> list[Unsealed]:
    """Return what is not sealed, by week; without `running`, what can be: all its transactions are over."""
    with connections[using].cursor() as cursor:
        cursor.execute(_OPEN, {"all": running})
        found = cursor.fetchall()
    return [
        Unsealed(Stretch(week, epoch, (begin, number), (horizon, 0)), records, since)
        for week, epoch, begin, number, horizon, records, since in found
    ]


def seal(
    using: str = DEFAULT_DB_ALIAS, *, most: int = MOST_RECORDS, progress: Callable[[int], None] | None = None
) -> int:
    """Seal what can be sealed, each seal in its own transaction; return how many records that were.

    0, too, when another process is at it. `progress` is told of each seal's records.
    """
    sealed = 0
    for found in unsealed(using, running=False):
        for stretch in _cut(found, most, using):
            made = _seal(stretch, using)
            if made is None:
                return sealed
            sealed += made.records
            # Not called digest: that would be masked, and this is to be kept where the database cannot reach it.
            log.info("audit.sealed", seal=made.id, records=made.records, newest=bytes(made.digest).hex())
            if progress:
                progress(made.records)
    return sealed


def _cut(found: Unsealed, most: int, using: str) -> list[Stretch]:
    stretch = found.stretch
    if found.records <= most:
        return [stretch]
    with connections[using].cursor() as cursor:
        cursor.execute(_CUTS.format(stretch.sql), [most])
        cuts = [stretch.begin, *cursor.fetchall(), stretch.end]
    return [Stretch(stretch.week, stretch.epoch, begin, end) for begin, end in pairwise(cuts)]


def _seal(stretch: Stretch, using: str) -> Seal | None:
    """Seal the stretch; None when another process seals, or has sealed it meanwhile."""
    with transaction.atomic(using), connections[using].cursor() as cursor:
        cursor.execute(f"SELECT {_LOCK}, clock_timestamp()")
        mine, now = cursor.fetchone()
        if not mine or _end(stretch, using) != stretch.begin:
            return None
        last = Seal.objects.using(using).order_by("-id").defer("ids", "prefixes", "salts").first()
        key = known_keys()[0]
        salts = leaves.fresh_salts()
        found = leaves.read(stretch.sql, key.of_leaves, salts, using)
        if len(salts) < len(found.ids):
            raise CannotSeal("Two records of the audit trail have the same id: it was tampered with.")
        cursor.execute(PURGED)
        seal = Seal(
            id=last.id + 1 if last else 1,
            at=now,
            key=key.id,
            epoch=stretch.epoch,
            week=stretch.week,
            from_transaction=stretch.begin[0],
            from_id=stretch.begin[1],
            to_transaction=stretch.end[0],
            to_id=stretch.end[1],
            records=len(found.ids),
            purged_before=max(filter(None, (cursor.fetchone()[0], last and last.purged_before)), default=None),
            root=found.root,
            ids=as_ranges(found.ids),
            prefixes=found.prefixes,
            salts=b"".join([salt for number in found.ids for salt in salts[number]]),
        )
        before = bytes(last.digest) if last else START
        seal.digest = key.digest(seal, before)
        values = [getattr(seal, column.attname) for column in Seal._meta.concrete_fields]
        marks = ", ".join(["%s"] * len(values))
        cursor.execute(f"SELECT auditlog_add_seal(ROW({marks})::auditlog_seal, %s)", [*values, before])
    return seal


class CannotSeal(Exception):
    """The trail is not in a state that can be sealed; the message says why."""


def _end(stretch: Stretch, using: str) -> Position:
    """Where the seals of this week and epoch end."""
    seals = Seal.objects.using(using).filter(week=stretch.week, epoch=stretch.epoch).order_by("-id")
    return seals.values_list("to_transaction", "to_id").first() or (0, 0)


def as_ranges(ids: list[int]) -> str:
    """The sorted `ids` as PostgreSQL writes a multirange: ``{[1,4),[7,8)}``."""
    found: list[list[int]] = []
    for number in ids:
        if found and found[-1][1] == number:
            found[-1][1] = number + 1
        else:
            found.append([number, number + 1])
    return "{" + ",".join(f"[{begin},{end})" for begin, end in found) + "}"


def from_ranges(text: str) -> list[int]:
    """The ids of what `as_ranges` made."""
    return [number for begin, end in re.findall(r"\[(\d+),(\d+)\)", text) for number in range(int(begin), int(end))]
