"""The history of statements: what each host made of each shape, by the hour. The worker of the host writes it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from time import time

from django.db import connection, transaction

from healthcheck.metrics.shapes import Shape
from healthcheck.metrics.slots import lock
from healthcheck.metrics.statements import HOUR, Counted, of_host
from healthcheck.metrics.tallies import Tallies, tallies
from healthcheck.models import Statement

Totals = tuple[float, float, float]  # count, seconds, errors
NOTHING: Totals = (0.0, 0.0, 0.0)
_UPSERT = """
INSERT INTO healthcheck_statementhour AS kept (statement_id, hour, host, count, milliseconds, slowest, errors)
VALUES {rows}
ON CONFLICT (hour, host, statement_id) DO UPDATE SET
    count = kept.count + excluded.count, milliseconds = kept.milliseconds + excluded.milliseconds,
    slowest = greatest(kept.slowest, excluded.slowest), errors = kept.errors + excluded.errors
"""


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
        known = _read(directory)
        now = {_key(each.shape): each for each in of_host(counted.of_host())}
        grown = {key: _growth(each, known.get(key, NOTHING)) for key, each in now.items()}
        grown = {key: each for key, each in grown.items() if each.count}
        if grown:
            _store(grown)
            _note(directory, {key: (each.count, each.seconds, each.errors) for key, each in now.items()})
        return len(grown)
    finally:
        os.close(held)


def _key(shape: Shape) -> str:
    text = "\n".join((shape.operation, shape.table, shape.text))
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _growth(now: Counted, last: Totals) -> Counted:
    """Return `now` without what was known before; all of it when a file was lost, and with it what it had counted."""
    count, seconds, errors = last if last[0] <= now.count else NOTHING
    return replace(
        now,
        count=now.count - int(count),
        seconds=max(0.0, now.seconds - seconds),
        errors=max(0, now.errors - int(errors)),
    )


def _store(grown: Mapping[str, Counted]) -> None:
    hour = datetime.fromtimestamp(time() // HOUR * HOUR, UTC)
    host = socket.gethostname()
    rows = ", ".join(["(%s, %s, %s, %s, %s, %s, %s)"] * len(grown))
    values = [
        (key, hour, host, each.count, each.seconds * 1000, each.slowest * 1000, each.errors)
        for key, each in sorted(grown.items())
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        statements = [Statement(key=key, **asdict(each.shape)) for key, each in grown.items()]
        Statement.objects.bulk_create(statements, ignore_conflicts=True)
        cursor.execute(_UPSERT.format(rows=rows), [value for row in values for value in row])


def _read(directory: Path) -> dict[str, Totals]:
    # Its name lets it go with the counts that it is about.
    try:
        return {key: tuple(totals) for key, totals in json.loads((directory / "written.db").read_text()).items()}
    except (OSError, ValueError):
        return {}


def _note(directory: Path, totals: dict[str, Totals]) -> None:
    new = directory / "written.new"
    new.write_text(json.dumps(totals))
    new.replace(directory / "written.db")
