"""Writes records out as CSV or JSON Lines, a batch at a time, however many there are.

An export holds what the pages show: what is masked there is masked here.
"""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TextIO

from django.core.exceptions import ValidationError
from django.http import StreamingHttpResponse
from django.utils import timezone

from auditlog import context, describing, events, reading
from auditlog.filters import FilterForm
from auditlog.models import Record
from auditlog.reading import Query

BATCH = 1000
COLUMNS = (
    "id", "at", "actor_kind", "actor_id", "actor", "on_behalf_of_id", "on_behalf_of", "action", "origin", "resource",
    "object_id", "object", "old", "new", "reason", "address", "browser", "request", "transaction",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def rows(query: Query) -> Iterator[dict[str, Any]]:
    """The records of `query`, the newest first, as plain values by the names of `COLUMNS`."""
    for records in reading.batches(query, BATCH):
        browsers = describing.browsers(records)
        for record in records:
            yield _row(record, browsers.get(record.agent or 0))


def _row(record: Record, browser: str | None) -> dict[str, Any]:
    values = (
        record.id, record.at.isoformat().replace("+00:00", "Z"), record.actor_kind, record.actor_id, record.actor_label,
        record.on_behalf_id, record.on_behalf_label, record.action, record.origin, record.resource,
        record.object_id, record.object_label, record.before or None, record.after or None, record.reason,
        record.address, browser, str(record.request) if record.request else None,
        f"{record.epoch}.{record.transaction}",
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def csv_line(cells: Iterable[Any]) -> str:
    """One line of CSV, no cell of which is one that a spreadsheet would take for a formula (OWASP, CSV injection)."""
    return _line([_cell(value) for value in cells])


def as_csv(found: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Lines with a header."""
    yield _line(COLUMNS)
    for row in found:
        yield csv_line(row.values())


def _line(cells: Any) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(cells)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    text = "" if value is None else exact_json(value) if isinstance(value, dict) else str(value)
    text = "".join(describing.spelt(letter) if ord(letter) < 32 or ord(letter) == 127 else letter for letter in text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_json_lines(found: Iterator[dict[str, Any]]) -> Iterator[str]:
    for row in found:
        yield exact_json(row) + "\n"


def exact_json(value: Any, *, ensure_ascii: bool = False) -> str:
    """JSON with decimals as the numbers that they are; `ensure_ascii` for a terminal, which others could steer."""
    exact = partial(exact_json, ensure_ascii=ensure_ascii)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {exact(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(exact, value)) + "]"
    if value is None or isinstance(value, str | bool | int):
        return json.dumps(value, ensure_ascii=ensure_ascii)
    return str(value)  # a decimal


Format = Callable[[Iterator[dict[str, Any]]], Iterator[str]]
FORMATS: dict[str, tuple[str, str, Format]] = {
    "csv": ("CSV", "text/csv; charset=utf-8", as_csv),
    "jsonl": ("JSON Lines", "application/jsonl; charset=utf-8", as_json_lines),
}


def lines(query: Query, kind: str, *, asked: Mapping[str, str]) -> Generator[str]:
    """The export as text. Its beginning is recorded before the first line, its end with how many records it held."""
    _name, _type, write = FORMATS[kind]
    said = {"page": "export", "format": kind, **asked}
    events.record("export", "auditlog.record", label=kind, new=said)
    # The lines are written when the view is over, and with it the context that says who asked.
    return _counted(write, query, said, context.current())


def _counted(write: Format, query: Query, said: Mapping[str, str], told: context.Context) -> Generator[str]:
    count = 0

    def counted() -> Iterator[dict[str, Any]]:
        nonlocal count
        for row in rows(query):
            count += 1
            yield row

    whole = False
    try:
        yield from write(counted())
        whole = True
    finally:
        with context.in_context(told):
            result = {**said, "records": count, "complete": whole}
            events.record("exported", "auditlog.record", label=said["format"], new=result)


def response(query: Query, kind: str, *, asked: Mapping[str, str]) -> StreamingHttpResponse:
    """Answer with the export as a file."""
    answer = StreamingHttpResponse(lines(query, kind, asked=asked), content_type=FORMATS[kind][1])
    stamp = timezone.now().strftime("%Y%m%d-%H%M%S")
    answer["Content-Disposition"] = f'attachment; filename="audit-{stamp}.{kind}"'
    return answer


def save(asked: Mapping[str, str], kind: str, output: str, *, progress: Callable[[int], None]) -> None:
    """Write the export that these filters ask for to the file `output` (mode 0600), or to standard output for ``-``.

    `progress` is called with the number of lines so far. Raises ValidationError for a filter that makes no sense, and
    OSError.
    """
    form = FilterForm(asked)
    if not form.is_valid():
        raise ValidationError([f"--{name}: {' '.join(map(str, found))}" for name, found in form.errors.items()])
    with _opened(output) as file:
        for number, line in enumerate(lines(form.query(), kind, asked=form.asked), start=1):
            file.write(line)
            if number % BATCH == 0:
                progress(number)


@contextmanager
def _opened(output: str) -> Iterator[TextIO]:
    if output == "-":
        yield sys.stdout
        return
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(descriptor, "w", encoding="utf-8", newline="") as file:
        os.fchmod(descriptor, 0o600)  # also a file that was there before
        yield file
