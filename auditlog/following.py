"""Follows the trail: every record once, as soon as it is committed, and none is missed.

Ids are handed out before the commit, so records appear out of order, and whoever asks for ``id > last`` loses some.
A cursor therefore remembers a snapshot: what was not visible in it and is now, is new. Finding that without reading
the whole trail takes two more facts: a transaction that began after the snapshot has ids above the last one handed
out then, and for each transaction that was open we remember where its ids can begin.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import BooleanField, Q
from django.db.models.expressions import RawSQL

from auditlog.models import Record

BEFORE_ALL = datetime.min.replace(tzinfo=UTC) + timedelta(days=366)
# After a crash a sequence may hand out again what nobody got to commit: at most 32, which it logs ahead.
_HANDED_OUT_AGAIN = 64
# A clock may be set back, and an id is drawn a moment before the time; it only chooses the partitions.
_MARGIN = timedelta(days=1)


class NoCursor(ValueError):
    """A text is no cursor of ours."""


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """A moment of the database, as ``auditlog_horizon()`` tells it; see migration 0005.

    `newer`: the open transactions that are newer than all that had ended, which a snapshot does not list.
    """

    epoch: int
    snapshot: str
    newer: list[int]
    last: int
    at: datetime
    session: int

    @property
    def open(self) -> list[int]:
        """The transactions that were not settled, without those that had not begun."""
        return [int(number) for number in self.snapshot.split(":")[2].split(",") if number] + self.newer

    def settles_no_more_than(self, other: Horizon) -> bool:
        # In another session the same numbers may mean something else: a crash takes some back, to use them again.
        return (self.epoch, self.snapshot, self.session) == (other.epoch, other.snapshot, other.session)


@dataclass(frozen=True, kw_only=True)
class Cursor:
    """How far somebody has come: all that is visible in `seen`, and what of `until` has an id up to `after`.

    `begins` holds, for each transaction that was open in `seen`, the last id and the time before it began.
    """

    seen: Horizon
    begins: dict[int, tuple[int, datetime]] = field(default_factory=dict)
    until: Horizon | None = None
    after: int = 0

    def __str__(self) -> str:
        """As a short text on one line, for `from_text`."""
        return json.dumps(asdict(self), default=datetime.isoformat, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """Return what `str` made the text of; raises NoCursor for any other."""
        try:
            facts = json.loads(text)
            return cls(
                seen=_horizon(facts["seen"]),
                begins={int(number): (int(last), _time(at)) for number, (last, at) in facts["begins"].items()},
                until=_horizon(facts["until"]) if facts["until"] else None,
                after=int(facts["after"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise NoCursor("this is no cursor of the audit trail") from error


def _horizon(facts: dict[str, Any]) -> Horizon:
    horizon = Horizon(
        epoch=int(facts["epoch"]),
        snapshot=str(facts["snapshot"]),
        newer=[int(number) for number in facts["newer"]],
        last=int(facts["last"]),
        at=_time(facts["at"]),
        session=int(facts["session"]),
    )
    # Reads it, which raises unless it has the form of a snapshot.
    if len(horizon.open) > len(horizon.snapshot) + len(horizon.newer):
        raise ValueError
    return horizon


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def from_start(since: datetime = BEFORE_ALL) -> Cursor:
    """Return a cursor before every record, or before every one that is not older than `since` by a day or more."""
    return Cursor(seen=Horizon(epoch=0, snapshot="1:1:", newer=[], last=0, at=since, session=0))


def from_now(using: str = DEFAULT_DB_ALIAS) -> Cursor:
    """Return a cursor before every record that is not committed yet."""
    seen = horizon(using)
    # Nobody has watched them begin. Their records are at most a day old, or they are not followed.
    return Cursor(seen=seen, begins=dict.fromkeys(seen.open, (0, seen.at)))


def read(
    cursor: Cursor, most: int = 500, where: Q | None = None, using: str = DEFAULT_DB_ALIAS
) -> tuple[list[Record], Cursor]:
    """Return the next records in the order of their ids, at most `most`, and the cursor after them.

    None, when there are none now. `where` chooses among them; with another `where` the cursor goes on as well. Not
    inside a transaction that has written: its own records are not settled.
    """
    if cursor.until is None:
        until = horizon(using)
        if until.settles_no_more_than(cursor.seen):
            return [], cursor
        cursor = replace(cursor, until=until, after=0)
    else:
        until = cursor.until
    found: list[Record] = []
    for part in parts(cursor, until):
        records = Record.objects.using(using).filter(part, where or Q(), id__gt=cursor.after)
        found += records.order_by("id")[: most - len(found)]
        if len(found) == most:
            return found, replace(cursor, after=found[-1].id)
    return found, _arrived(cursor, until)


def drain(
    cursor: Cursor, most: int = 500, where: Q | None = None, using: str = DEFAULT_DB_ALIAS
) -> Iterator[tuple[list[Record], Cursor]]:
    """Read until nothing is left of what is settled now; yields at least once, with the cursor after each batch."""
    while True:
        records, cursor = read(cursor, most, where, using)
        yield records, cursor
        if cursor.until is None:
            return


def horizon(using: str = DEFAULT_DB_ALIAS) -> Horizon:
    """Ask the database where it stands."""
    with connections[using].cursor() as cursor:
        cursor.execute("SELECT epoch, snapshot, newer, last, at, session FROM auditlog_horizon()")
        epoch, snapshot, newer, last, at, session = cursor.fetchone()
    return Horizon(epoch=epoch, snapshot=snapshot, newer=newer, last=last, at=at, session=session)


def _arrived(cursor: Cursor, until: Horizon) -> Cursor:
    seen = cursor.seen
    if seen.epoch != until.epoch:
        return Cursor(seen=until, begins=dict.fromkeys(until.open, (0, seen.at)))
    # A transaction that began since then has the ids after those.
    since_then = (seen.last, seen.at)
    return Cursor(seen=until, begins={number: cursor.begins.get(number, since_then) for number in until.open})


def parts(cursor: Cursor, until: Horizon) -> Iterator[Q]:
    """What is new and settled in `until`: parts that follow each other by id, each quickly found by an index."""
    seen = cursor.seen
    settled = Q(epoch__lt=until.epoch) | _visible(until)
    not_after = Q(at__lt=until.at + _MARGIN)
    if seen.epoch != until.epoch:
        # The database was restored elsewhere: what it brought along is judged by the numbers of its own time, and
        # everything that was written here is new.
        new = Q(epoch=seen.epoch) & ~_visible(seen) | Q(epoch__gt=seen.epoch)
        yield Q(at__gt=_before(seen.at)) & not_after & new & settled
        return
    new = ~_visible(seen)
    if seen.session != until.session:
        # The server may have crashed in between. Then the numbers of what it was about to abort are used again, and
        # look settled in a snapshot from before.
        new |= Q(at__gt=seen.at)
    recent = max(seen.last - _HANDED_OUT_AGAIN, 0)
    open_now = set(until.open)
    ended = {number: begin for number, begin in cursor.begins.items() if number not in open_now}
    if ended and (first := min(last for last, _at in ended.values())) < recent:
        earliest = min(at for _last, at in ended.values())
        late = Q(transaction__in=list(ended), id__gt=first, id__lte=recent, at__gt=_before(earliest))
        yield Q(epoch=until.epoch) & late & not_after & _visible(until)
    recently = Q(id__gt=recent, at__gt=_before(seen.at))
    yield Q(epoch=until.epoch) & recently & not_after & new & settled


def _before(at: datetime) -> datetime:
    return max(at, BEFORE_ALL + _MARGIN) - _MARGIN


def _visible(horizon: Horizon) -> Q:
    sql = "pg_visible_in_snapshot(auditlog_record.transaction::text::xid8, %s::pg_snapshot)"
    return Q(RawSQL(sql, [horizon.snapshot], output_field=BooleanField()))  # noqa: S611 - no value in it
