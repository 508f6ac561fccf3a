"""Pages of lists that may be very long."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.utils.functional import cached_property


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
