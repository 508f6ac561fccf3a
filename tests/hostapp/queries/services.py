"""What happens to queries: they are remembered, looked at for a while, and forgotten."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from accounts.exporting import MOST_ROWS
from accounts.models import User
from config import bulk
from tests.hostapp.queries.models import Query

KEPT_DAYS = 90
COUNTED_EVERY = 15  # minutes


def remember(owner: User, text: str, *, kind: str, status: str, milliseconds: int) -> Query:
    query: Query = Query.objects.create(owner=owner, text=text, kind=kind, status=status, milliseconds=milliseconds)
    return query


def remember_many(queries: Iterable[Query]) -> int:
    """Write what was collected somewhere else; returns how many there were."""
    return bulk.create(queries)


def facts_about(person: User) -> Sequence[Mapping[str, Any]]:
    """For the copy of all that is kept about `person`."""
    queries = Query.objects.of(person).order_by("-at", "-pk")[:MOST_ROWS]
    return list(queries.values("text", "kind", "status", "milliseconds", "at"))


def forget(person: User) -> list[Query]:
    """Delete what an erased person asked; the trail forgets the words too."""
    theirs = list(Query.objects.of(person))
    Query.objects.of(person).delete()
    return theirs
