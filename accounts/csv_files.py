"""Reads CSV files of any size that anybody may have made, a row at a time.

A file is looked through as a whole before anything is done with it (`survey`), so that a fault on its last line changes
nothing. Faults of single rows are no matter of this module.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import BinaryIO

from accounts.errors import AccountError

LONGEST_LINE = 16 * 1024  # bytes; the longest row that makes sense has a few thousand
LONGEST_ROW = 16 * 1024  # characters, on several lines; also what a quotation mark that nobody closed may swallow
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Row:
    """One row below the header: its `number` from 1 on, the `line` it begins on, and its cells by column.

    `cells` is None when there are `found` of them instead of the `wanted` that the header has; `loose` is then what
    stands in the place of each column, which tells people what row it is and is good for nothing else.
    """

    number: int
    line: int
    cells: dict[str, str] | None
    found: int = 0
    wanted: int = 0
    loose: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Survey:
    """What the whole of a file is: its columns in their order, how many rows, and the SHA-256 of its bytes."""

    columns: list[str]
    rows: int
    sha256: str


def survey(file: BinaryIO, *, required: Collection[str], optional: Collection[str], most: int | None = None) -> Survey:
    """Look through `file` from its beginning. Raises AccountError (``file_*``), with the line where there is one."""
    file.seek(0)
    digest = hashlib.sha256()
    for block in iter(lambda: file.read(1 << 20), b""):
        digest.update(block)
    file.seek(0)
    lines = _Lines(file)
    columns = _columns(lines, required, optional)
    count = 0
    for count, _row in enumerate(_records(lines), start=1):
        if most is not None and count > most:
            raise AccountError("file_too_many_rows", most=most)
    if not count:
        raise AccountError("file_nobody")
    return Survey(columns, count, digest.hexdigest())


def rows(file: BinaryIO, *, after: int = 0) -> Iterator[Row]:
    """Yield the rows of a file that was surveyed, those behind the first `after`."""
    file.seek(0)
    lines = _Lines(file)
    columns = [_name(cell) for cell in next(_records(lines))[1]]
    for number, (line, cells) in enumerate(_records(lines), start=1):
        if number > after:
            named = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
            fits = len(cells) == len(columns)
            yield Row(number, line, named if fits else None, len(cells), len(columns), {} if fits else named)


def cells(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Yield each cell of a file that was surveyed, after its column, which is "" in rows that do not fit the header."""
    file.seek(0)
    lines = _Lines(file)
    columns = [_name(cell) for cell in next(_records(lines))[1]]
    for _line, record in _records(lines):
        fits = len(record) == len(columns)
        yield from zip(columns if fits else [""] * len(record), record, strict=True)


class _Lines:
    """The lines of a file as text, and how many were read; memory holds one of them."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.count = file, 0
        self.begins, self.length = 1, 0  # of the row that is being read: its first line, its characters so far
        self.delimiter = ","

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self.file.readline(LONGEST_LINE + 1)
        if not line:
            raise StopIteration
        self.count += 1
        if len(line) > LONGEST_LINE:
            raise AccountError("file_line_too_long", line=self.count, most=LONGEST_LINE)
        if b"\0" in line:
            raise AccountError("file_nul", line=self.count)
        if self.count == 1:
            line = line.removeprefix(_BOM)
            self.delimiter = ";" if line.count(b";") > line.count(b",") else ","
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise AccountError("file_not_utf8", line=self.count) from error
        self.length += len(text)
        if self.length > LONGEST_ROW:
            raise AccountError("file_malformed", line=self.begins)
        return text

    def row_ends(self) -> int:
        """Return the line on which the row began that was read."""
        begins, self.begins, self.length = self.begins, self.count + 1, 0
        return begins


def _records(lines: _Lines) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which a record begins, and its cells; lines without any are left out."""
    first = next(lines, None)
    if first is None:
        return
    reader = csv.reader(chain([first], lines), delimiter=lines.delimiter, strict=True)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise AccountError("file_malformed", line=lines.begins) from error
        begins = lines.row_ends()
        if any(cell.strip() for cell in cells):
            yield begins, cells


def _name(cell: str) -> str:
    return cell.strip().lower()


def _columns(lines: _Lines, required: Collection[str], optional: Collection[str]) -> list[str]:
    record = next(_records(lines), None)
    if record is None:
        raise AccountError("file_empty")
    columns, known = [_name(cell) for cell in record[1]], [*required, *optional]
    shown = {"known": ", ".join(known)}
    if unknown := [name for name in columns if name not in known]:
        raise AccountError("file_columns_unknown", columns=_cut(unknown), **shown)
    if missing := [name for name in required if name not in columns]:
        raise AccountError("file_columns_missing", columns=", ".join(missing), **shown)
    if len(set(columns)) < len(columns):
        raise AccountError("file_columns_twice")
    return columns


def _cut(names: list[str]) -> str:
    text = ", ".join(f"“{name}”" for name in names)
    return text if len(text) <= 100 else f"{text[:100]}…"
