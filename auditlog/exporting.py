"""Writes records out as CSV or JSON Lines, a batch at a time, however many there are.

An export holds what the pages show: what is masked there is masked here.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone

from auditlog import context, describing, events, reading
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


def as_csv(found: Iterator[dict[str, Any]]) -> Iterator[str]:
    """Lines with a header; no cell is one that a spreadsheet would take for a formula (OWASP, CSV injection)."""
    yield _line(COLUMNS)
    for row in found:
        yield _line([_cell(value) for value in row.values()])


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


def exact_json(value: Any) -> str:
    """JSON with decimals as the numbers that they are."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(str(key))}: {exact_json(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(exact_json(item) for item in value) + "]"
    if value is None or isinstance(value, str | bool | int):
        return json.dumps(value, ensure_ascii=False)
    return str(value)  # a decimal


Format = Callable[[Iterator[dict[str, Any]]], Iterator[str]]
FORMATS: dict[str, tuple[str, str, Format]] = {
    "csv": ("CSV", "text/csv; charset=utf-8", as_csv),
    "jsonl": ("JSON Lines", "application/jsonl; charset=utf-8", as_json_lines),
}


def lines(query: Query, kind: str, *, asked: Mapping[str, str]) -> Iterator[str]:
    """The export as text. Its beginning is recorded before the first line, its end with how many records it held."""
    _name, _type, write = FORMATS[kind]
    said = {"page": "export", "format": kind, **asked}
    events.record("export", "auditlog.record", label=kind, new=said)
    # The lines are written after the view is over, and by then the request is nobody's.
    return _counted(write, query, said, context.current())


def _counted(write: Format, query: Query, said: Mapping[str, str], told: context.Context) -> Iterator[str]:
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
