"""Whether the database answers, how fast, and who is connected to it: one bounded look, shared for a few seconds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from healthcheck.ping import NoAnswer, Ping
from healthcheck.readiness import CHECK_SECONDS
from healthcheck.shared import Shared
from healthcheck.statistics import VITALS, Activity, Connections, vitals

_SHARED_SECONDS = 5.0


@dataclass(frozen=True)
class Look:
    """`connected` and `answered` are milliseconds; what is None was never known. When it does not answer, the sessions
    are those seen last, at `time`."""

    answers: bool
    connected: float | None = None
    answered: float | None = None
    connections: Connections | None = None
    activity: Activity | None = None
    time: datetime | None = None

    def as_facts(self) -> dict[str, Any]:
        return {
            "answers": self.answers,
            "connect_milliseconds": self.connected,
            "milliseconds": self.answered,
            "sessions": asdict(self.connections) if self.connections else None,
            "activity": asdict(self.activity) if self.activity else None,
            "seen": self.time.isoformat() if self.time else None,
        }


def _take(before: Look | None) -> Look:
    ping, started = Ping(), monotonic()

    def asked(query: str) -> tuple[float, list[tuple[Any, ...]]]:
        asking = monotonic()
        rows = ping.ask(query, max(0.0, CHECK_SECONDS - (asking - started)))
        return round((monotonic() - asking) * 1000, 2), rows

    try:
        connected, _ = asked("SELECT 1")
        answered, _ = asked("SELECT 1")
        _, (row,) = asked(VITALS)
    except NoAnswer:
        return replace(before, answers=False) if before else Look(answers=False)
    finally:
        ping.close()
    return Look(True, connected, answered, *vitals(row), datetime.now(UTC))


look = Shared(_take, _SHARED_SECONDS)
