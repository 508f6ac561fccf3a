"""The history of statements: what each host made of each shape, by the hour. The worker of the host writes it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from time import time

from django.db import connection, transaction

from healthcheck.models import Statement, StatementHour
from healthcheck.slots import lock
from healthcheck.statements import HOUR
from healthcheck.tallies import Tallies, tallies

KEPT_DAYS = 30
Totals = dict[str, list[float]]  # count, seconds, errors by the key of a statement
_UPSERT = """
INSERT INTO healthcheck_statementhour AS kept (statement_id, hour, host, count, milliseconds, slowest, errors)
VALUES {rows}
ON CONFLICT (hour, host, statement_id) DO UPDATE SET
    count = kept.count + excluded.count, milliseconds = kept.milliseconds + excluded.milliseconds,
    slowest = greatest(kept.slowest, excluded.slowest), errors = kept.errors + excluded.errors
"""


@dataclass(frozen=True)
class Grown:
    """By how much a statement's numbers have grown; `slowest` is of this hour. In seconds."""

    statement: Statement
    count: int
    seconds: float
    slowest: float
    errors: int


def remember(counted: Tallies = tallies) -> int:
    """Add what this host's processes have counted since the last call; returns how many statements that were.

    Nothing when this process keeps its counts to itself, or when another is writing. A process that dies between
    the two writes leaves a minute that is counted twice.
    """
    directory = counted.directory
    held = lock(directory / "written.lock") if directory else None
    if directory is None or held is None:
        return 0
    try:
        grown, totals = _grown(counted, _read(directory))
        if grown:
            _store(grown)
            _note(directory, totals)
        return len(grown)
    finally:
        os.close(held)


def _grown(counted: Tallies, before: Totals) -> tuple[list[Grown], Totals]:
    totals: Totals = {}
    slowest: dict[str, float] = {}
    statements: dict[str, Statement] = {}
    hour = time() // HOUR
    for (kind, *labels), pairs in counted.of_host().items():
        if kind not in ("statement", "slowest", "failure"):
            continue
        key = key_of_text("\n".join(labels))
        statements[key] = Statement(key=key, operation=labels[0], table=labels[1], text=labels[2])
        if kind == "slowest":
            slowest[key] = max([seconds for seconds, of_hour in pairs if of_hour == hour], default=0.0)
            continue
        sums = totals.setdefault(key, [0.0, 0.0, 0.0])
        if kind == "statement":
            sums[:2] = [sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)]
        else:
            sums[2] = sum(pair[0] for pair in pairs)
    grown = [
        Grown(statements[key], round(count), seconds, slowest.get(key, 0.0), round(errors))
        for key, (count, seconds, errors) in _differences(totals, before)
    ]
    return grown, totals


def _differences(totals: Totals, before: Totals) -> Iterator[tuple[str, list[float]]]:
    for key, now in totals.items():
        last = before.get(key, [0.0, 0.0, 0.0])
        if now[0] < last[0]:  # a file was lost, and with it what it had counted
            last = [0.0, 0.0, 0.0]
        if now[0] > last[0]:
            yield key, [max(0.0, new - old) for new, old in zip(now, last, strict=True)]


def _store(grown: Sequence[Grown]) -> None:
    hour = datetime.fromtimestamp(time() // HOUR * HOUR, UTC)
    host = socket.gethostname()
    values = [
        value
        for each in sorted(grown, key=lambda each: each.statement.key)
        for value in (
            each.statement.key, hour, host, each.count, each.seconds * 1000, each.slowest * 1000, each.errors
        )
    ]  # fmt: skip
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(grown))
    with transaction.atomic(), connection.cursor() as cursor:
        Statement.objects.bulk_create([each.statement for each in grown], ignore_conflicts=True)
        cursor.execute(_UPSERT.format(rows=rows), values)


def forget_before(moment: datetime) -> int:
    """Delete the hours before `moment`, and statements of which no hour is left; returns how many hours."""
    deleted, _models = StatementHour.objects.filter(hour__lt=moment).delete()
    Statement.objects.filter(statementhour=None).delete()
    return deleted


def key_of_text(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _read(directory: Path) -> Totals:
    # Its name lets it go with the counts that it is about.
    try:
        totals: Totals = json.loads((directory / "written.db").read_text())
        return totals
    except (OSError, ValueError):
        return {}


def _note(directory: Path, totals: Totals) -> None:
    new = directory / "written.new"
    new.write_text(json.dumps(totals))
    new.replace(directory / "written.db")
