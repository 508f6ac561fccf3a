"""The state of the whole as this process finds it now, for commands."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from time import monotonic, sleep

from django.conf import settings

from healthcheck import registry
from healthcheck.overall import Finding, Report, needed
from healthcheck.readiness import readiness
from healthcheck.runner import Outcome, run_once

FIRST_PAUSE = 0.2  # seconds
LONGEST_PAUSE = 5.0


def look_now() -> Report:
    """Run every check in this process, side by side; each ends within its own time."""
    ready = readiness.current()
    findings = [*needed(ready), *(_finding(outcome) for outcome in run_once(registry.checks().values()))]
    return Report(ready, tuple(findings), known=True, time=datetime.now(UTC), taken=monotonic())


def _finding(outcome: Outcome) -> Finding:
    check, result = outcome.check, outcome.result
    return Finding(
        check.name,
        result.status,
        result.code,
        age=(datetime.now(UTC) - outcome.at).total_seconds(),
        host=settings.HEALTH_HOST if check.scope == "host" else "",
        value=result.value,
        unit=result.unit,
        milliseconds=outcome.milliseconds,
    )


def wait_until_ready(seconds: float) -> bool:
    """Wait until this process could serve, at most `seconds`; returns whether it could.

    It asks seldomer the longer it takes, and at odd times, so that many who wait do not ask together.
    """
    deadline, pause = monotonic() + seconds, FIRST_PAUSE
    while not readiness.current().passed:
        left = deadline - monotonic()
        if left <= 0:
            return False
        sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311 - spreads load, hides nothing
        pause = min(pause * 2, LONGEST_PAUSE)
    return True
