"""Runs a whole transaction again when it met a fault that passes: a lost connection, a deadlock, a busy lock.

Only the whole can be repeated, because all of it was rolled back. One thing cannot be known: whether a commit took
place whose answer was lost with the connection. So every caller says whether its work may be done twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, OperationalError, connections
from psycopg2 import errorcodes

from config.database import deadline
from config.database.deadline import DeadlineExceeded

Result = TypeVar("Result")
log = structlog.get_logger("gatehouse.database")

LOST = "connection"
CONNECTING = 0.5  # seconds; a budget that runs out over a new connection would pass for a server that is away
# SQLSTATE (PostgreSQL manual, appendix A) -> its name in logs and metrics. The server has rolled back, for certain.
_ROLLED_BACK = {
    errorcodes.SERIALIZATION_FAILURE: "serialization",
    errorcodes.DEADLOCK_DETECTED: "deadlock",
    errorcodes.LOCK_NOT_AVAILABLE: "lock",
}
_LOST = {errorcodes.ADMIN_SHUTDOWN, errorcodes.CRASH_SHUTDOWN}
_CLASS_OF_CONNECTION_FAULTS = "08"


@dataclass(frozen=True)
class Patience:
    """At most so many `attempts`; before each repetition a pause at random up to a bound that doubles.

    The first bound is `first_pause` seconds, the last `longest_pause`.
    """

    attempts: int
    first_pause: float
    longest_pause: float

    def pause_after(self, attempt: int) -> float:
        """Seconds at random from the whole range: who failed together must not come back together."""
        return random.uniform(0, min(self.longest_pause, self.first_pause * 2.0 ** (attempt - 1)))  # noqa: S311


PAGE = Patience(attempts=6, first_pause=0.05, longest_pause=0.4)
# A restart of the database, about three seconds as a rule: for whoever has no page to answer.
BACKGROUND = Patience(attempts=9, first_pause=0.05, longest_pause=2.0)

# Called with the name of the fault before each repetition; for counters.
on_retry: list[Callable[[str], None]] = []


def run(
    work: Callable[[], Result],
    *,
    idempotent: bool,
    patience: Patience = PAGE,
    using: str = DEFAULT_DB_ALIAS,
) -> Result:
    """Do `work`, a whole transaction or several, and from its beginning again when it met a fault that passes.

    Work that is not `idempotent` is repeated only if the server said that it rolled back, not after a lost
    connection. Never waits beyond the budget of the current request. Raises RuntimeError inside a transaction, whose
    beginning could not be repeated, and in the end what the last attempt raised.
    """
    _require_no_transaction(using)
    for attempt in range(1, patience.attempts):
        try:
            return work()
        except (DatabaseError, InterfaceError) as error:
            fault = fault_of(error)
            if fault is None or (fault == LOST and not idempotent):
                raise
            if not _paused(seconds := patience.pause_after(attempt)):
                raise
            if fault == LOST:
                connections[using].close()  # outside a transaction Django would go on using it until the next request
            _tell(fault, attempt, seconds)
    return work()


def fault_of(error: BaseException) -> str | None:
    """The name of the fault if it is one that passes, else None. Servers that cannot be reached count as lost."""
    cause = error.__cause__
    if isinstance(cause, DeadlineExceeded) or not isinstance(error, OperationalError | InterfaceError):
        return None
    code = getattr(cause, "pgcode", None)
    if code is None or code in _LOST or code.startswith(_CLASS_OF_CONNECTION_FAULTS):
        return LOST
    return _ROLLED_BACK.get(code)


def _require_no_transaction(using: str) -> None:
    blocks = connections[using].atomic_blocks
    if blocks and not blocks[-1]._from_testcase:  # type: ignore[attr-defined]  # noqa: SLF001 - as Django's durable blocks
        raise RuntimeError("Only a whole transaction can be run again, not a part of one that is open.")


def _paused(seconds: float) -> bool:
    """Sleep at the expense of the request's budget; False, at once, if too little would be left."""
    left = deadline.remaining_seconds()
    if left is not None and seconds + CONNECTING > left:
        return False
    try:
        with deadline.charged():
            time.sleep(seconds)
    except DeadlineExceeded:  # another request has found that the server is away
        return False
    return True


def _tell(fault: str, attempt: int, seconds: float) -> None:
    log.warning("database.retried", fault=fault, attempt=attempt, paused_ms=round(seconds * 1000, 1))
    for listener in on_retry:
        listener(fault)
