"""Sends `signals.recorded` for every record, whoever wrote it, once it is committed.

Not by the writer after its commit: that would cost a round trip on every write, and psql would send nothing. So it
is called in turns by a process in the background, which follows the trail with a cursor that the database keeps.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import structlog
from django.db import DatabaseError, OperationalError, connection, transaction
from django.dispatch import Signal

from auditlog import following
from auditlog.following import Cursor, NoCursor
from auditlog.models import Record
from auditlog.signals import batch_recorded, recorded

CURSOR = "recorded"
MOST = 100  # records between two moves of the cursor; listeners get these again when the process dies meanwhile
MOST_IN_A_TURN = 2000  # the process has other work
_KEPT_FRESH = timedelta(minutes=1)
log = structlog.get_logger("auditlog")


def deliver() -> int:
    """Tell the listeners of all that was committed since the last turn; returns how many records that was.

    The first turn ever only remembers where to begin. Any number of processes may take turns: while one delivers,
    the others find nothing to do. Not inside a transaction.
    """
    total = 0
    while total < MOST_IN_A_TURN and (delivered := _deliver_some()):
        total += delivered
    return total


def _deliver_some() -> int:
    with transaction.atomic(durable=True):  # the lock on the cursor ends with it
        state = _take()
        if state is None:
            return 0
        cursor = _cursor(state)
        if cursor is None:
            _move(following.from_now())
            return 0
        records, reached = following.read(cursor, MOST)
        if records:
            _tell(batch_recorded, records[-1].id, must=True, records=records)
        for record in records:
            _tell(recorded, record.id, record=record)
        # At least once: had we moved first, what a killed process had not told yet would never be told. A cursor
        # that stays where it is, is cheap to follow, but not for ever; one in the middle of a batch that turns out to
        # have ended there would find nothing new again and again.
        if records or cursor.until or reached.seen.at - cursor.seen.at > _KEPT_FRESH:
            _move(reached)
    return len(records)


def _cursor(state: str) -> Cursor | None:
    try:
        return Cursor.from_text(state) if state else None
    except NoCursor:
        log.exception("audit.cursor_unreadable", cursor=CURSOR)
        return None


def _tell(signal: Signal, last: int, *, must: bool = False, **about: Any) -> None:
    """Tell every listener, whether others fail or not; Django logs what they raise.

    With `must`, an OperationalError of theirs is raised, so that the next turn tells them again: a lock that was not
    had in time is no mistake of the listener's.
    """
    answers: list[tuple[Any, Any]] = []
    try:
        with transaction.atomic():  # a listener's failed statement must not take ours along
            answers = signal.send_robust(Record, **about)
    except Exception as error:
        if isinstance(error, DatabaseError) and not connection.is_usable():
            raise
        log.exception("audit.listener_failed", record=last)
    for _listener, answer in answers:
        if must and isinstance(answer, OperationalError):
            raise answer


def _take() -> str | None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM auditlog_take_cursor(%s)", [CURSOR])
        (state,) = cursor.fetchone()
    return None if state is None else str(state)


def _move(cursor: Cursor) -> None:
    with connection.cursor() as database:
        database.execute("SELECT * FROM auditlog_move_cursor(%s, %s)", [CURSOR, str(cursor)])
