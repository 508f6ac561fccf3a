"""What a check finds: a status, a code that says why, and the number it looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """In the words of the IETF draft for ``application/health+json``."""

    PASS = "pass"  # noqa: S105 - a verdict
    WARN = "warn"
    FAIL = "fail"


_WORSE = list(Status)


def worst(statuses: Iterable[Status]) -> Status:
    """Return the worst of `statuses`, PASS when there are none."""
    return max(statuses, key=_WORSE.index, default=Status.PASS)


@dataclass(frozen=True)
class Limits:
    """From where on a number warns, and from where on it fails; smaller numbers are worse when `warn` > `fail`."""

    warn: float
    fail: float

    def status(self, value: float) -> Status:
        warn, fail = self.warn, self.fail
        if warn > fail:
            value, warn, fail = -value, -warn, -fail
        if value >= fail:
            return Status.FAIL
        return Status.WARN if value >= warn else Status.PASS


@dataclass(frozen=True)
class Result:
    """What one run of a check found. The code goes to pages and programs, so it must not hold a secret."""

    status: Status
    code: str = "ok"
    value: float | None = None
    unit: str = ""


def judged(value: float, unit: str, limits: Limits, code: str) -> Result:
    """Return `value` as a result: within `limits` it is ``ok``, beyond them `code` says what is wrong."""
    status = limits.status(value)
    return Result(status, "ok" if status is Status.PASS else code, value, unit)
