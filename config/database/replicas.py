"""Which standby may answer a question: one that lives, and has come far enough.

Each process knows by itself, from what it asks anyway. A standby that does not answer is left out, and tried again by
one request after a pause that doubles; nothing has to be started again.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from functools import cache
from time import monotonic

import structlog
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections

from config.database import positions
from config.database.deadline import Budget, DeadlineExceeded, charged_to
from config.database.positions import BEYOND, NOWHERE, NoStandby, Position

QUESTION_SECONDS = 0.25  # that a standby has to tell how far it is, or the primary where its log ends
CONNECTING_SECONDS = 0.5  # that a standby has for it with a new connection
KNOWN_SECONDS = 1.0  # for so long no server is asked again: it may be gone by then, late, or promoted
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0

NO_ANSWER, NO_STANDBY, BEHIND = "no_answer", "no_standby", "behind"
_FAULTS = (DatabaseError, InterfaceError)
log = structlog.get_logger("gatehouse.replicas")


class _Known(threading.local):
    """What this thread knows of the server at the other end of its own connection: an address may have several."""

    replayed = NOWHERE
    answered_at = float("-inf")


@dataclass(eq=False)
class Replica:
    """One standby, as the threads of this process see it together. `why_out` is empty while it is in use."""

    alias: str
    why_out: str = ""
    _pause: float = 0.0
    _out_until: float = float("-inf")
    _known: _Known = field(default_factory=_Known)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def shows(self, needed: Position, *, late: Position) -> bool:
        """Whether this thread may read there what has to be as new as `needed`; asks the standby if that is unknown.

        One that has not reached `late` is left out for a moment.
        """
        is_out = bool(self.why_out)
        if is_out and not self._may_be_tried():
            return False
        if is_out or self._known.replayed < needed or not self._is_trusted():
            try:
                self._ask()
            except NoStandby:
                self.leave_out(NO_STANDBY, again=is_out)
            except _FAULTS:
                self.leave_out(NO_ANSWER, again=is_out)
            else:
                self._judge(late)
        return not self.why_out and self._known.replayed >= needed

    def leave_out(self, why: str, *, again: bool = False) -> None:
        """Let nobody ask it for a pause; when it was just tried `again`, for a longer one."""
        with self._lock:
            is_news, self.why_out = self.why_out != why, why
            if is_news or why == BEHIND:
                self._pause = FIRST_PAUSE
            elif again:
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            self._out_until = monotonic() + self._pause
        if why != BEHIND:
            self.drop_connection()
        if is_news:
            log.warning("replica.left_out", replica=self.alias, why=why)

    def drop_connection(self) -> None:
        """End this thread's connection; the next use begins with a question."""
        connections[self.alias].close()
        self._known.answered_at = float("-inf")

    def _may_be_tried(self) -> bool:
        """Whether its pause is over, and this request is the one that tries it again."""
        with self._lock:
            if monotonic() < self._out_until:
                return False
            self._out_until = monotonic() + FIRST_PAUSE  # the others go past it until this one knows more
            return True

    def _is_trusted(self) -> bool:
        return connections[self.alias].connection is not None and (
            monotonic() - self._known.answered_at < KNOWN_SECONDS
        )

    def _ask(self) -> None:
        if connections[self.alias].connection is None:
            self._ask_within(CONNECTING_SECONDS)
            return
        try:
            self._ask_within(QUESTION_SECONDS)
        except _FAULTS as error:
            if isinstance(error.__cause__, DeadlineExceeded):
                raise
            self.drop_connection()  # perhaps that alone is gone, since a restart for example
            self._ask_within(CONNECTING_SECONDS)

    def _ask_within(self, seconds: float) -> None:
        with charged_to(Budget(seconds, apart=True)):
            self._known.replayed = positions.of_standby(connections[self.alias])
        self._known.answered_at = monotonic()

    def _judge(self, late: Position) -> None:
        if self._known.replayed < late:
            self.leave_out(BEHIND)
        elif self.why_out:
            self.why_out = ""
            log.info("replica.taken_back", replica=self.alias)


class Primary:
    """Where the log of the primary ended, and when: by that a standby's lag is known without comparing clocks."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, Position]] = deque()
        self._asked_at = float("-inf")
        self._lock = threading.Lock()

    def bounds(self, seconds: float) -> tuple[Position, Position] | None:
        """Return two positions, or None when nobody knows.

        Who has not reached the first is more than `seconds` behind for certain, and who has reached the second is not.
        They are a second apart, more after a time without traffic. While the primary is away it writes nothing, so the
        last that was known stays right.
        """
        self._look()
        with self._lock:
            since = monotonic() - seconds
            while len(self._marks) > 1 and self._marks[1][0] < since:
                self._marks.popleft()
            if not self._marks:
                return None
            (at, first), (_at, second) = self._marks[0], self._marks[min(1, len(self._marks) - 1)]
            return (first, second) if at < since else (NOWHERE, first)

    def _look(self) -> None:
        with self._lock:
            now = monotonic()
            if now - self._asked_at < KNOWN_SECONDS:
                return
            self._asked_at = now  # before the answer: nobody else asks meanwhile
        position = current_position()
        if position is not None:
            with self._lock:
                self._marks.append((now, position))


def current_position() -> Position | None:
    """Ask the primary where its log ends, over this thread's connection; None when it does not tell in time."""
    connection = connections[DEFAULT_DB_ALIAS]
    try:
        # Too little to call the primary away for it (`deadline.DOUBT_SECONDS`).
        with charged_to(Budget(QUESTION_SECONDS)):
            return positions.of_primary(connection)
    except _FAULTS:
        log.warning("primary.no_position", exc_info=True)
        if not connection.in_atomic_block:
            connection.close()  # or its next user would meet what is left of this question
        return None


class Replicas:
    """Those of the settings, taken in turn."""

    def __init__(self, aliases: list[str]) -> None:
        self._turn = [Replica(alias) for alias in aliases]
        self.primary = Primary()

    def choose(self, written: Position | None) -> Replica | None:
        """Return one that shows what was committed up to `written` and is not too far behind, or None."""
        if written == BEYOND or (bounds := self.primary.bounds(settings.DATABASE_REPLICA_LAG)) is None:
            return None
        late, bound = bounds
        needed = max(bound, written or bound)
        first, *others = self._turn  # read once: another thread may turn it meanwhile
        self._turn = [*others, first]
        return next((replica for replica in self._turn if replica.shows(needed, late=late)), None)


@cache
def of_settings() -> Replicas:
    """Those of this process."""
    return Replicas(settings.DATABASE_REPLICAS)
