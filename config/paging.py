"""Pages of lists that may be very long."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import connection
from django.db.models import DateTimeField, Model, QuerySet
from django.utils.functional import cached_property
from django.utils.http import urlsafe_base64_decode, urlsafe_base64_encode
from django.utils.timezone import is_naive

Row = TypeVar("Row", bound=Model)


class AtLeast(int):
    """A count that stopped counting, and says so."""

    def __str__(self) -> str:
        return f"{int(self):,}+"


class CappedPaginator(Paginator[Any]):
    """Counts at most `COUNT_CAP` rows: a list of ten million costs what a list of ten thousand costs."""

    COUNT_CAP = 10_000

    @cached_property
    def count(self) -> int:
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]  # the admin gives no other kind
        # The inner LIMIT ends the scan; the order would only make it slower.
        found = rows.order_by().values("pk")[: self.COUNT_CAP].count()
        return found if found < self.COUNT_CAP else AtLeast(found)


@dataclass(frozen=True)
class Page(Generic[Row]):
    """Rows, the greatest first, and the places where the next pages begin, if there are any.

    ``parts/trail_pager.html`` links to them.
    """

    rows: list[Row]
    newer: str = ""
    older: str = ""


def page_of(rows: QuerySet[Row], asked: Mapping[str, str], *, by: str, size: int = 50) -> Page[Row]:
    """Return the page of `rows` that a query string asks for by ``older``, ``newer`` or ``oldest``, else the first.

    In the order of the field `by`, which must not be NULL, and the key, both descending: with an index on these two a
    page costs the same wherever it is, and a row that comes or goes shifts no other between two pages.
    """
    newer, older = (_place(rows.model, by, asked.get(name, "")) for name in ("newer", "older"))
    if newer or "oldest" in asked:
        found = list(_behind(rows, by, newer, ascending=True)[: size + 1])
        if len(found) > size or not newer:
            shown = found[:size][::-1]
            return Page(
                shown,
                newer=_text(shown[0], by) if len(found) > size else "",
                older=_text(shown[-1], by) if newer else "",
            )
        older = None  # less than a page is left before it, so that is the first one
    found = list(_behind(rows, by, older, ascending=False)[: size + 1])
    shown = found[:size]
    return Page(
        shown,
        newer=_text(shown[0], by) if older and shown else "",
        older=_text(shown[-1], by) if len(found) > size else "",
    )


_Place = tuple[Any, Any]  # the values of `by` and of the key


def _behind(rows: QuerySet[Row], by: str, place: _Place | None, *, ascending: bool) -> QuerySet[Row]:
    if place:
        value, key = place
        # So, and not as one OR, it is a range of the index.
        if ascending:
            rows = rows.filter(**{f"{by}__gte": value}).exclude(**{by: value, "pk__lte": key})
        else:
            rows = rows.filter(**{f"{by}__lte": value}).exclude(**{by: value, "pk__gte": key})
    return rows.order_by(by, "pk") if ascending else rows.order_by(f"-{by}", "-pk")


def _text(row: Model, by: str) -> str:
    value, key = (field.value_to_string(row) for field in _fields(type(row), by))
    return urlsafe_base64_encode(f"{key}\0{value}".encode())  # the one character that no column holds


def _place(model: type[Model], by: str, text: str) -> _Place | None:
    """Return the place that `_text` wrote, or None for anything else."""
    with suppress(ValueError, ArithmeticError, ValidationError):
        key, value = urlsafe_base64_decode(text).decode().split("\0")
        field, key_field = _fields(model, by)
        return _held(field, value), _held(key_field, key)
    return None


def _held(field: Any, text: str) -> Any:
    """Return the value that `value_to_string` made `text` of. Raises ValueError and the like if no column holds it."""
    value = field.to_python(text)
    if isinstance(field, DateTimeField) and is_naive(value):
        raise ValueError(text)
    field.get_db_prep_value(value, connection)
    return value


def _fields(model: type[Model], by: str) -> tuple[Any, Any]:
    return model._meta.get_field(by), model._meta.pk
