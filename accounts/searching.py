"""Finds people by how something about them begins, at a price that does not grow with their number.

Every way to find somebody is a range of one index, read in that index's order and only so far: a common beginning costs
what a rare one costs. ``docs/decisions.md`` says why it is no full-text index.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import F, Func, Q, QuerySet, Value
from django.db.models.expressions import OrderBy
from django.db.models.functions import Lower

from accounts import identity
from accounts.models import FAMILY_NAME, FOLDED_NAME, User

MOST = 500  # people found in each of the ways below


@dataclass(frozen=True)
class Found:
    """The ids of who was found; `more` when the beginning is that of others as well."""

    ids: list[UUID]
    more: bool


class InPatternOrder(OrderBy):
    """The order of an index with ``text_pattern_ops``, which the default order is not."""

    template = "%(expression)s USING ~<~ /* ASC */"  # Django looks for one of its own two orders in the statement


def find(people: QuerySet[User], term: str) -> Found:
    """Find among `people` by a whole id, or by the beginning of a username, address, full name or family name."""
    term = " ".join(term.split())
    if not term or not identity.is_storable(term):
        return Found([], more=False)
    with suppress(ValueError):
        return Found(list(people.filter(pk=UUID(term)).values_list("pk", flat=True)), more=False)
    first, *others = [_range(people, *way) for way in _ways(term)]
    found = list(first.union(*others, all=True))
    return Found(list(dict.fromkeys(pk for pk, _way in found)), more=_is_cut(found))


def _ways(term: str) -> list[tuple[str, Any, Any]]:
    address = identity.canonical_email(term) if "@" in term else identity.canonical_username(term)
    return [
        ("username", F("username_canonical"), identity.canonical_username(term)),
        ("email", F("email_canonical"), address),
        ("full name", FOLDED_NAME, Lower(Value(term))),
        ("family name", FAMILY_NAME, Lower(Value(term))),
    ]


def _range(people: QuerySet[User], way: str, column: Any, beginning: Any) -> QuerySet[User, Any]:
    if isinstance(column, Func):
        people = people.filter(~Q(full_name=""))  # as the index says
    beginning_so = people.alias(found_by=column).filter(found_by__startswith=beginning)
    in_order = beginning_so.order_by(InPatternOrder(column))
    return in_order.values_list("pk", Value(way))[: MOST + 1]


def _is_cut(found: list[tuple[UUID, str]]) -> bool:
    ways = [way for _pk, way in found]
    return any(ways.count(way) > MOST for way in set(ways))
