"""Shares of a table: exact while it is small, and of a sample of its pages, with the error, when it is not.

A sample of pages costs the same on any table (`TABLESAMPLE SYSTEM`). Rows of one page were written at about the same
time and are alike, so the error is reckoned between pages, not between rows (a ratio estimator for clusters; Cochran,
Sampling Techniques, chapter 6).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from typing import Any

from config.database import routing

WHOLE_UP_TO = 20_000  # rows; a larger table is sampled
PAGES = 400  # of a sample
_95_PERCENT = 1.96  # standard errors
# As the planner reckons: rows to a page when it was last analysed, times the pages that there are now.
_SIZE = """
SELECT
    pg_relation_size(oid) / current_setting('block_size')::int,
    CASE WHEN relpages > 0 THEN reltuples / relpages * (pg_relation_size(oid) / current_setting('block_size')::int) END
FROM pg_class WHERE oid = %s::regclass
"""


@dataclass(frozen=True)
class Share:
    """A part of the whole, from 0 to 1; `margin` is how far the truth may be away, in 95 of 100 samples."""

    value: float
    margin: float


@dataclass(frozen=True)
class Sample:
    """What was found on each page: counts of the rows that have the same values in the columns asked for.

    `rows` is how many the table has, `whole` whether all of them were read, and so whether all that is told is exact.
    """

    rows: int
    whole: bool
    pages: Sequence[dict[tuple[Any, ...], int]]

    def values(self) -> set[tuple[Any, ...]]:
        """Return every combination of values that was found."""
        return {values for page in self.pages for values in page}

    def share(self, of: Callable[..., bool]) -> Share:
        """Return the share of rows of whose values `of` is true."""
        sizes = self._sizes
        found = [sum(count for values, count in page.items() if of(*values)) for page in self.pages]
        if not (read := sum(sizes)):
            return Share(0.0, 0.0)
        part = sum(found) / read
        if self.whole or len(sizes) < 2:
            return Share(part, 0.0)
        squares = sum((one - part * size) ** 2 for one, size in zip(found, sizes, strict=True))
        error = sqrt(squares * len(sizes) / (len(sizes) - 1)) / read
        # What no sampled row has, some may have all the same: three in the sample would hardly be missed by chance.
        return Share(part, max(_95_PERCENT * error, 3 / read) if 0 < part < 1 else 3 / len(sizes))

    @cached_property
    def _sizes(self) -> list[int]:
        return [sum(page.values()) for page in self.pages]


def sample(table: str, columns: Sequence[str]) -> Sample:
    """Read `columns` (SQL expressions of few values) of all rows of `table`, or of a sample of its pages."""
    with routing.connection_for_reading().cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM (SELECT FROM {table} LIMIT {WHOLE_UP_TO + 1}) AS first")  # noqa: S608
        (rows,) = cursor.fetchone()
        whole, clause, part, estimate = rows <= WHOLE_UP_TO, "", 1.0, None
        if not whole:
            cursor.execute(_SIZE, [table])
            pages, estimate = cursor.fetchone()
            part = min(1.0, PAGES / max(1, pages))
            clause = f"TABLESAMPLE SYSTEM ({100 * part:.9f})"
        page = "0" if whole else "(ctid::text::point)[0]::bigint"
        cursor.execute(
            f"SELECT {page} AS page, {', '.join(columns)}, count(*)"  # noqa: S608 - our own names only
            f" FROM {table} {clause} GROUP BY {', '.join(str(1 + place) for place in range(len(columns) + 1))}"
        )
        found = list(_by_page(cursor.fetchall()))
    read = sum(sum(page.values()) for page in found)
    return Sample(read if whole else max(rows, round(estimate or read / part)), whole, found)


def _by_page(found: Sequence[tuple[Any, ...]]) -> Iterator[dict[tuple[Any, ...], int]]:
    pages: dict[int, dict[tuple[Any, ...], int]] = defaultdict(dict)
    for page, *values, count in found:
        pages[page][tuple(values)] = count
    yield from pages.values()
