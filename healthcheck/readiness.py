"""Whether this process can serve: the database answers, and it has this code's migrations."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from time import monotonic

import structlog
from django.db.migrations.loader import MigrationLoader

from healthcheck.ping import NoAnswer, Ping

log = structlog.get_logger("healthcheck")

CHECK_SECONDS = 0.5
SHARED_SECONDS = 1.0


@dataclass(frozen=True)
class Reading:
    """`code` is ``ok``, ``database`` (no answer) or ``migrations`` (some not applied)."""

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
        self._reading: Reading | None = None

    def current(self) -> Reading:
        # Whoever waits here while another thread asks is handed that thread's fresh answer.
        with self._lock:
            reading = self._reading
            if reading is None or reading.age >= SHARED_SECONDS:
                self._reading = reading = self._take(previous=reading)
            return reading

    def close(self) -> None:
        """End the kept session; the next question begins a new one."""
        with self._lock:
            self._ping.close()

    def _take(self, previous: Reading | None) -> Reading:
        reading = Reading(self._code(), datetime.now(UTC), monotonic())
        if previous is None or previous.code != reading.code:
            log.info("readiness.changed", code=reading.code)
        return reading

    def _code(self) -> str:
        try:
            applied = self._ping.ask("SELECT app, name FROM django_migrations", CHECK_SECONDS)
        except NoAnswer as error:
            # A database that answers, but has no such table, has not been migrated at all.
            return "migrations" if str(error) == "UndefinedTable" else "database"
        return "ok" if _needed_migrations() <= set(applied) else "migrations"


@cache
def _needed_migrations() -> set[tuple[str, str]]:
    return set(MigrationLoader(None).graph.leaf_nodes())


readiness = Readiness()
