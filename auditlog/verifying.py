"""Checks every seal against the records, and the chain of the seals, and names what is broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, models, transaction

from auditlog import leaves, sealing
from auditlog.leaves import PREFIX, Leaves
from auditlog.models import Seal
from auditlog.sealing import Stretch

MOST_FINDINGS = 100
_LAST_PURGE = f"SELECT greatest(({sealing.PURGED}), (SELECT max(purged_before) FROM auditlog_seal))"  # noqa: S608
_STRANGE = "SELECT min(r.id) FROM auditlog_record r WHERE r.epoch <> ALL (SELECT h.epoch FROM auditlog_horizons() h)"


class Fault(models.TextChoices):
    """What can be wrong, and how it is said."""

    CHANGED = "changed", "record {record} was changed after it was sealed"
    REMOVED = "removed", "record {record} is gone"
    ADDED = "added", "record {record} was added among those that were sealed"
    ALTERED = "seal_altered", "the seal itself was altered, or the one before it"
    MISSING = "seal_missing", "the seal is gone"
    UNKNOWN_KEY = "unknown_key", "the seal was made with a key that is not among AUDITLOG_SEAL_KEY and its fallbacks"
    WEEK_MISSING = "week_missing", "all records of the week are gone, and no purge has said so"
    NOT_EXPECTED = (
        "not_expected",
        "the expected digest is nowhere in the chain: seals were cut off, or it is another trail",
    )


@dataclass(frozen=True)
class Finding:
    """Something broken: in which seal, and which record if it can be said."""

    fault: str
    seal: int | None = None
    record: int | None = None
    week: datetime | None = None

    def __str__(self) -> str:
        where = f"seal {self.seal} (week of {self.week:%Y-%m-%d}): " if self.seal and self.week else ""
        where = where or (f"seal {self.seal}: " if self.seal else "")
        return where + Fault(self.fault).label.format(record=self.record)


@dataclass
class Report:
    """What verification has found. `purged`: seals whose records went by a purge."""

    seals: int = 0
    records: int = 0
    erased: int = 0
    purged: int = 0
    unsealed: int = 0
    unsealed_since: datetime | None = None
    newest: str = ""  # the digest of the last seal, in hexadecimal
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.findings

    def facts(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


def verify(using: str = DEFAULT_DB_ALIAS, *, expect: str = "", progress: Callable[[int], None] | None = None) -> Report:
    """Check everything that is sealed, seal by seal; the first finding is the first that is broken.

    `expect` is a digest noted earlier, outside the database: without one nobody can tell that the newest seals were
    cut off. `progress` is told of each seal's records.
    """
    walk = _Walk(using)
    numbers = list(Seal.objects.using(using).order_by("id").values_list("id", flat=True))
    for number in numbers:
        walk.visit(number)
        if progress:
            progress(walk.seal_records)
    return walk.end(expect.strip().lower())


def _in_pieces(prefixes: bytes) -> list[bytes]:
    return [prefixes[place : place + PREFIX] for place in range(0, len(prefixes), PREFIX)]


class _Walk:
    """Goes from seal to seal and keeps what the next one must follow."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.report = Report()
        self.keys = {key.id: key for key in sealing.known_keys()}
        self.before = sealing.START
        self.digests: set[str] = set()
        self.next_number = 1
        self.seal_records = 0

    def visit(self, number: int) -> None:
        """Check one seal in one snapshot, so that an erasure or a purge meanwhile is seen whole or not at all."""
        while self.next_number < number:
            self._find(Fault.MISSING, self.next_number)
            self.next_number += 1
        self.next_number += 1
        with transaction.atomic(self.using):
            with connections[self.using].cursor() as cursor:
                # The lock before the snapshot: dropping a week is seen by every snapshot at once.
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                cursor.execute("LOCK TABLE ONLY auditlog_record IN ACCESS SHARE MODE")
            seal = Seal.objects.using(self.using).get(pk=number)
            self.seal_records = seal.records
            self._check_chain(seal)
            self._check_records(seal)
        self.before = bytes(seal.digest)
        self.report.newest = self.before.hex()
        self.digests.add(self.report.newest)
        self.report.seals += 1

    def end(self, expect: str) -> Report:
        if expect and expect not in self.digests:
            self._find(Fault.NOT_EXPECTED)
        with connections[self.using].cursor() as cursor:
            cursor.execute(_STRANGE)
            (strange,) = cursor.fetchone()
        if strange is not None:  # never sealed, because no transaction of ours can have written it
            self._find(Fault.ADDED, record=strange)
        for tail in sealing.unsealed(self.using):
            self.report.unsealed += tail.records
            self.report.unsealed_since = min(filter(None, (self.report.unsealed_since, tail.since)))
        return self.report

    def _check_chain(self, seal: Seal) -> None:
        key = self.keys.get(seal.key)
        if key is None:
            self._find(Fault.UNKNOWN_KEY, seal)
        elif key.digest(seal, self.before) != bytes(seal.digest):
            self._find(Fault.ALTERED, seal)

    def _check_records(self, seal: Seal) -> None:
        if seal.ids is None and seal.week < (self._purged_before() or seal.week):
            self.report.purged += 1
            return
        key = self.keys.get(seal.key)
        if key is None:
            return
        ids = sealing.from_ranges(seal.ids or "")
        prefixes = bytes(seal.prefixes or b"")
        salts = leaves.known_salts(ids, bytes(seal.salts or b""))
        found = leaves.read(Stretch.of_seal(seal).sql, key.of_leaves, salts, self.using)
        self.report.records += len(found.ids)
        self.report.erased += found.erased
        if found.ids != ids or found.root != bytes(seal.root) or found.prefixes != prefixes:
            self._name_broken(seal, found, ids, prefixes)

    def _name_broken(self, seal: Seal, found: Leaves, ids: list[int], prefixes: bytes) -> None:
        if seal.records and not found.ids and not self._week_exists(seal.week):
            self._find(Fault.WEEK_MISSING, seal)
            return
        known = dict(zip(ids, _in_pieces(prefixes), strict=False))
        there = dict(zip(found.ids, _in_pieces(found.prefixes), strict=True))
        faults = dict.fromkeys(known.keys() - there.keys(), Fault.REMOVED)
        faults |= dict.fromkeys(there.keys() - known.keys(), Fault.ADDED)
        faults |= {number: Fault.CHANGED for number in known.keys() & there.keys() if there[number] != known[number]}
        faults |= {one: Fault.ADDED for one, next_one in pairwise(found.ids) if one == next_one}
        for number in sorted(faults):
            self._find(faults[number], seal, number)
        if not faults:
            self._find(Fault.ALTERED, seal)

    def _week_exists(self, week: datetime) -> bool:
        with connections[self.using].cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM auditlog_partitions() p WHERE p.opens = %s)", [week])
            return bool(cursor.fetchone()[0])

    def _purged_before(self) -> datetime | None:
        with connections[self.using].cursor() as cursor:
            cursor.execute(_LAST_PURGE)
            moment: datetime | None = cursor.fetchone()[0]
            return moment

    def _find(self, fault: Fault, seal: Seal | int | None = None, record: int | None = None) -> None:
        if len(self.report.findings) >= MOST_FINDINGS:
            return
        number, week = (seal.id, seal.week) if isinstance(seal, Seal) else (seal, None)
        self.report.findings.append(Finding(fault.value, number, record, week))
