"""Whether this process can serve: the database answers, it has this code's migrations, and the host is not drained."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from time import monotonic

import structlog
from django.db.migrations.loader import MigrationLoader

from healthcheck.draining import is_draining
from healthcheck.ping import NoAnswer, Ping

log = structlog.get_logger("healthcheck")

CHECK_SECONDS = 0.5
SHARED_SECONDS = 1.0  # from one question to the next
# While a question is open the last reading is served up to this age. An outage is then seen 1.5 seconds after it
# began, and a synchronous worker is not held up by every probe of an outage.
SERVED_SECONDS = 1.3
GLANCE_SECONDS = 0.02  # enough for a healthy server
_NEVER = float("-inf")


@dataclass(frozen=True)
class Reading:
    """`code` is ``ok``, ``database`` (no answer), ``migrations`` (some not applied) or ``draining``."""

    code: str
    time: datetime
    taken: float  # monotonic seconds

    @property
    def passed(self) -> bool:
        return self.code == "ok"

    @property
    def age(self) -> float:
        return monotonic() - self.taken


class Readiness:
    """The reading that all probes of this process share: at most one question a second, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ping = Ping()
        self._reading = Reading("database", datetime.now(UTC), taken=_NEVER)
        self._asked = self._listened = _NEVER  # monotonic seconds
        self._is_open = False
        self._last_code = "ok"  # a process that finds all well has nothing to tell

    def current(self) -> Reading:
        """Return the verdict within about CHECK_SECONDS; a drained host's is seen at once."""
        return self._judge(self.of_database())

    def known(self) -> Reading | None:
        """Return the verdict without asking or waiting for anybody; None when it is time to ask, or somebody does."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            if self._is_open or monotonic() - self._asked >= SHARED_SECONDS:
                return None
            reading = self._reading
        finally:
            self._lock.release()
        return self._judge(reading)

    def of_database(self) -> Reading:
        """Return the shared reading, as if the host were not drained."""
        # Whoever waits here while another thread asks is handed that thread's fresh answer.
        with self._lock:
            patience = self._ask() if self._is_time_to_ask() else 0
            if self._is_open:
                self._hear(patience if self._reading.age < SERVED_SECONDS else CHECK_SECONDS)
            return self._reading

    def close(self) -> None:
        """Give the connection back; the next probe opens another."""
        with self._lock:
            self._ping.close()
            self._is_open, self._asked = False, _NEVER

    def _judge(self, reading: Reading) -> Reading:
        if is_draining():
            reading = replace(reading, code="draining", time=datetime.now(UTC), taken=monotonic())
        if reading.code != self._last_code:
            self._last_code = reading.code
            log.info("readiness.changed", code=reading.code)
        return reading

    def _is_time_to_ask(self) -> bool:
        # That nobody was there to hear an answer says nothing about the database; a bad reading stays bad meanwhile.
        is_unheard = self._is_open and self._reading.passed and self._listened < self._asked + CHECK_SECONDS / 2
        return monotonic() - self._asked >= (CHECK_SECONDS if is_unheard else SHARED_SECONDS)

    def _ask(self) -> float:
        """Ask the question; returns how long to wait for its answer while the last reading is good enough."""
        if self._is_open:
            # Nobody came for that answer: it is too old, but its connection may be well.
            with contextlib.suppress(NoAnswer):
                self._ping.answer(0)
        self._asked, self._is_open = monotonic(), True
        self._ping.begin("SELECT app, name FROM django_migrations", CHECK_SECONDS)
        return GLANCE_SECONDS

    def _hear(self, patience: float) -> None:
        try:
            applied = self._ping.answer(patience)
            self._listened = monotonic()
            if applied is None:
                return
            code = "ok" if _needed_migrations() <= set(applied) else "migrations"
        except NoAnswer as error:
            # A database that answers, but has no such table, has not been migrated at all.
            code = "migrations" if str(error) == "UndefinedTable" else "database"
        self._is_open = False
        self._reading = Reading(code, datetime.now(UTC), monotonic())


@cache
def _needed_migrations() -> set[tuple[str, str]]:
    return set(MigrationLoader(None).graph.leaf_nodes())


readiness = Readiness()
