"""Finds records: pages of them, the newest first, and what an object was at a moment.

Nothing here counts, sorts or scans the whole trail. A question is put to one weekly partition after the other and
stops when the page is full: the planner then knows the one table that it is about, and a person who was busy last
spring costs nothing to find. Within a week the order is that of the ids.
"""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth import get_user_model
from django.db import connections, router
from django.db.models import Q, QuerySet

from auditlog import registry
from auditlog.models import Record

PAGE = 50
_FEW = 1000  # records of a week that are sorted by hand; of more than these, a page is soon found by walking the ids
_MOST_READ = 5000  # records on either side of a moment that are looked through for what an object was
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BIGGEST = 2**63 - 1
# Bounds of the partitions, and whether they hold anything.
_PARTITIONS = r"""
SELECT bounds[1]::timestamptz, bounds[2]::timestamptz, filled FROM (
    SELECT regexp_match(pg_get_expr(c.relpartbound, c.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') AS bounds,
        pg_relation_size(c.oid) > 0 AS filled
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'public.auditlog_record'::regclass
) p ORDER BY 1
"""
Window = tuple[datetime | None, datetime | None]


@dataclass(frozen=True)
class Query:
    """Which records: all for which `where` holds, from `since` on and before `until`."""

    where: Q = field(default_factory=Q)
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Cursor:
    """A place in the trail: that of the record with this id and time."""

    id: int
    at: datetime

    @classmethod
    def of(cls, record: Record) -> Cursor:
        return cls(record.id, record.at)

    @classmethod
    def parse(cls, text: str) -> Cursor | None:
        """Return the place that `str()` wrote, or None for anything else."""
        number, _, microseconds = text.partition("-")
        with suppress(ValueError, OverflowError):
            cursor = cls(int(number), _EPOCH + timedelta(microseconds=int(microseconds)))
            return cursor if 0 <= cursor.id <= _BIGGEST else None
        return None

    def __str__(self) -> str:
        return f"{self.id}-{(self.at - _EPOCH) // timedelta(microseconds=1)}"


@dataclass(frozen=True)
class Page:
    """Records, the newest first, and the places where the next pages begin, if there are any."""

    records: list[Record]
    newer: Cursor | None = None
    older: Cursor | None = None


# Which records


def of_object(resource: str, object_id: str) -> Query:
    """All about one object, its many-to-many changes included."""
    return Query(Q(resource=resource, object_id=object_id))


def by_actor(actor_id: str) -> Query:
    """All that a user (or token, or command) did."""
    return Query(Q(actor_id=actor_id))


def of_request(request: uuid.UUID) -> Query:
    return Query(Q(request=request))


def of_transaction(epoch: int, transaction: int) -> Query:
    return Query(Q(epoch=epoch, transaction=transaction))


def matching(term: str) -> Q:
    """What a word in a search box means: an id, an address, a transaction, or the name of somebody with an account.

    Every meaning has an index; a part of a name has none, and finds nothing.
    """
    term = term.strip()
    with suppress(ValueError):
        return Q(address=str(ipaddress.ip_address(term)))
    resources = [audited.resource for audited in registry.registered()]
    meanings = Q(resource__in=resources, object_id=term) | Q(actor_id=term)
    with suppress(ValueError):
        meanings |= Q(request=uuid.UUID(term))
    if term.isascii() and term.isdigit() and int(term) <= _BIGGEST:
        meanings |= Q(id=int(term)) | Q(transaction=int(term))
    if user_id := id_of_user(term):
        meanings |= Q(resource=get_user_model()._meta.label_lower, object_id=user_id) | Q(actor_id=user_id)
    return meanings


def id_of_user(name: str) -> str | None:
    """Return the id of whoever has this login name now, as records hold it."""
    with suppress(get_user_model().DoesNotExist, ValueError):
        return str(get_user_model()._meta.default_manager.get_by_natural_key(name).pk)  # type: ignore[union-attr]
    return None


# Pages of them


def newest(query: Query, size: int = PAGE, *, using: str | None = None) -> Page:
    return older(query, None, size, using=using)


def older(query: Query, than: Cursor | None, size: int = PAGE, *, using: str | None = None) -> Page:
    found = list(_walk(query, than, size + 1, using=using, backwards=True))
    records = found[:size]
    return Page(
        records,
        newer=Cursor.of(records[0]) if than and records else None,
        older=Cursor.of(records[-1]) if len(found) > size else None,
    )


def newer(query: Query, than: Cursor | None, size: int = PAGE, *, using: str | None = None) -> Page:
    """The page before; the newest one when there is less than a page. Without `than`, the oldest page."""
    found = list(_walk(query, than, size + 1, using=using, backwards=False))
    if len(found) <= size and than:
        return newest(query, size, using=using)
    records = found[:size][::-1]
    return Page(
        records,
        newer=Cursor.of(records[0]) if len(found) > size else None,
        older=Cursor.of(records[-1]) if than else None,
    )


def page_at(query: Query, asked: Mapping[str, str], *, using: str | None = None) -> Page:
    """The page that a query string asks for by ``older``, ``newer`` or ``oldest``; the newest for any other."""
    if "oldest" in asked:
        return newer(query, None, using=using)
    if place := Cursor.parse(asked.get("newer", "")):
        return newer(query, place, using=using)
    return older(query, Cursor.parse(asked.get("older", "")), using=using)


def batches(query: Query, size: int, *, using: str | None = None) -> Iterator[list[Record]]:
    """All of them, the newest first, a list at a time, without holding a transaction or a cursor."""
    page = newest(query, size, using=using)
    while page.records:
        yield page.records
        if page.older is None:
            return
        page = older(query, page.older, size, using=using)


def _walk(query: Query, start: Cursor | None, wanted: int, *, using: str | None, backwards: bool) -> Iterator[Record]:
    for window in _windows(query, start, using, backwards=backwards):
        for record in _of_window(query, window, start, wanted, using=using, backwards=backwards):
            yield record
            wanted -= 1
        if wanted <= 0:
            return


def _of_window(
    query: Query, window: Window, start: Cursor | None, wanted: int, *, using: str | None, backwards: bool
) -> Iterable[Record]:
    inside = _between(Record.objects.using(using), *window)
    rows = _between(inside.filter(query.where), query.since, query.until)
    # The ids of other weeks say nothing: two records that met at midnight may be swapped.
    if start and _is_in(start.at, window):
        rows = rows.filter(id__lt=start.id) if backwards else rows.filter(id__gt=start.id)
    if query.where:
        # Asked for a page in order the planner would bet that it comes soon, and walk the whole week when it does not.
        ids = list(rows.order_by().values_list("id", flat=True)[: _FEW + 1])
        if not ids:
            return []
        if len(ids) <= _FEW:
            rows = inside.filter(id__in=sorted(ids, reverse=backwards)[:wanted])
    return rows.order_by("-id" if backwards else "id")[:wanted]


def _between(rows: QuerySet[Record], opens: datetime | None, closes: datetime | None) -> QuerySet[Record]:
    rows = rows.filter(at__gte=opens) if opens else rows
    return rows.filter(at__lt=closes) if closes else rows


def _is_in(moment: datetime, window: Window) -> bool:
    opens, closes = window
    return (opens is None or opens <= moment) and (closes is None or moment < closes)


def _windows(query: Query, start: Cursor | None, using: str | None, *, backwards: bool) -> list[Window]:
    """The weeks that can hold a record of `query` on this side of `start`, in the order of reading."""
    since, until = query.since, query.until
    found = []
    for opens, closes in _weeks(using):
        after_start = start and opens and opens > start.at
        before_start = start and closes and closes <= start.at
        beside = (until and opens and opens >= until) or (since and closes and closes <= since)
        if not beside and not (after_start if backwards else before_start):
            found.append((opens, closes))
    return found[::-1] if backwards else found


def _weeks(using: str | None) -> list[Window]:
    """The times of the partitions that hold anything, and those outside all of them if the default one does."""
    with connections[using or router.db_for_read(Record)].cursor() as cursor:
        cursor.execute(_PARTITIONS)
        rows = cursor.fetchall()
    weeks = [(opens, closes, filled) for opens, closes, filled in rows if opens]
    rest = any(filled for opens, _closes, filled in rows if not opens)
    found: list[Window] = []
    last: datetime | None = None
    for opens, closes, filled in weeks:
        if rest and opens != last:
            found.append((last, opens))
        if filled:
            found.append((opens, closes))
        last = closes
    return [*found, (last, None)] if rest else found


def last_labels(resource: str, object_ids: set[str], *, using: str | None = None) -> dict[str, str]:
    """Return what the trail last called these objects, where it has a name for them."""
    found: dict[str, str] = {}
    for window in _windows(Query(), None, using, backwards=True) if object_ids else ():
        named = _between(Record.objects.using(using), *window).filter(
            resource=resource, object_id__in=object_ids - found.keys(), object_label__isnull=False
        )
        last = named.order_by("object_id", "-id").distinct("object_id").values_list("object_id", "object_label")
        found |= {str(object_id): str(label) for object_id, label in last}
        if len(found) == len(object_ids):
            break
    return found


# What an object was


@dataclass
class State:
    """What the trail knows of an object at a moment.

    `values` are by column, as records hold them, None for NULL; `related` are the targets of many-to-many fields.
    `exists` is None when no record tells. `complete`: not when the trail is too long, or begins too late.
    """

    exists: bool | None = None
    complete: bool = False
    values: dict[str, Any] = field(default_factory=dict)
    related: dict[str, list[Any]] = field(default_factory=dict)


def state_at(resource: str, object_id: str, moment: datetime, *, using: str | None = None) -> State:
    """Rebuild an object from its records: a value is what its last change before made it, or the next one found."""
    emptied = Q(resource=resource, object_id=None, action=Record.Action.TRUNCATE)
    about = of_object(resource, object_id).where | emptied
    rebuilt = _Rebuilt()
    before = _walk(Query(about, until=moment), None, _MOST_READ, using=using, backwards=True)
    if not rebuilt.look_back(before):
        after = _walk(Query(about, since=moment), None, _MOST_READ, using=using, backwards=False)
        rebuilt.look_ahead(after)
    return rebuilt.state()


class _Rebuilt:
    def __init__(self) -> None:
        self.exists: bool | None = None
        self.complete = False
        self.values: dict[str, Any] = {}
        self.links: dict[tuple[str, str], Any] = {}  # (field, id of the row between) -> target, None: not there
        self.emptied: set[str] = set()  # fields whose every link went at once

    def look_back(self, records: Iterable[Record]) -> bool:
        """Learn from what came before, the latest first; True when nothing more can be learnt."""
        for record in records:
            emptied = set(record.before) if record.action == Record.Action.TRUNCATE else set()
            if record.action == Record.Action.DELETE or emptied == {"rows"}:
                # Nothing but the end of its links came since: an object begins with a record of its own.
                self.exists, self.complete = False, True
                return True
            self.emptied |= emptied
            self._learn(record, record.after)
            if record.action == Record.Action.CREATE:
                self.complete = True
                return True
        return False

    def look_ahead(self, records: Iterable[Record]) -> None:
        for record in records:
            if record.action == Record.Action.CREATE:
                self.exists, self.complete = bool(self.exists), True
                return
            self._learn(record, record.before)
            if record.action == Record.Action.DELETE:
                self.complete = True
                return

    def _learn(self, record: Record, values: dict[str, Any]) -> None:
        if record.action in (Record.Action.ADD, Record.Action.REMOVE):
            self.exists = True
            for name, rows in (record.before or record.after).items():
                there = bool(values) and name not in self.emptied
                for row, target in rows.items():
                    self.links.setdefault((name, row), target if there else None)
        elif record.action in (Record.Action.CREATE, Record.Action.UPDATE, Record.Action.DELETE):
            self.exists = True
            for name in {**record.before, **record.after}:
                self.values.setdefault(name, values.get(name))

    def state(self) -> State:
        if not self.exists:
            return State(self.exists, self.complete)
        related: dict[str, list[Any]] = {}
        for (name, _row), target in self.links.items():
            related.setdefault(name, []).extend([] if target is None else [target])
        return State(self.exists, self.complete, self.values, related)
