"""The state of the whole: what the probes ask, and the last reading of everything else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from healthcheck import registry
from healthcheck.ping import LIMITS, NoAnswer, Ping
from healthcheck.readiness import CHECK_SECONDS, SHARED_SECONDS, readiness
from healthcheck.readiness import Reading as Ready
from healthcheck.results import Status, worst
from healthcheck.shared import Shared

# A check that has not been run for so many of its intervals is not known to pass. On a host, nobody misses it then.
STALE_INTERVALS = 3
NEEDED = ("database", "migrations", "draining")  # what being ready needs, by the codes of readiness
READINGS = """
SELECT check_name, host, status, code, value, unit, milliseconds, extract(epoch FROM clock_timestamp() - at)::float8
FROM healthcheck_reading ORDER BY check_name, host LIMIT 1000
"""


@dataclass(frozen=True)
class Finding:
    """The last reading of one check, with its age in seconds when the report was made; None: never run."""

    name: str
    status: Status
    code: str
    age: float | None
    host: str = ""
    value: float | None = None
    unit: str = ""
    milliseconds: float | None = None

    @property
    def label(self) -> Any:
        check = registry.checks().get(self.name)
        return check.label if check else self.name

    def as_facts(self) -> dict[str, Any]:
        """Return it for programs; what is not known is left out."""
        facts = {
            "check": self.name,
            "host": self.host or None,
            "status": self.status.value,
            "code": self.code,
            "value": self.value,
            "unit": self.unit or None,
            "milliseconds": self.milliseconds,
            "age": None if self.age is None else round(self.age, 1),
        }
        return {name: value for name, value in facts.items() if value is not None}


@dataclass(frozen=True)
class Report:
    """`taken` is of the monotonic clock; `known` whether the other checks' readings could be read."""

    ready: Ready
    findings: tuple[Finding, ...]
    known: bool
    time: datetime
    taken: float

    @property
    def status(self) -> Status:
        """FAIL when the site is not ready; whatever else is wrong is a warning."""
        if not self.ready.passed:
            return Status.FAIL
        return Status.PASS if worst(finding.status for finding in self.findings) is Status.PASS else Status.WARN

    @property
    def age(self) -> float:
        return monotonic() - self.taken

    def of(self, name: str) -> tuple[Finding, ...]:
        """Return the findings of one check, on each host that it is about."""
        return tuple(finding for finding in self.findings if finding.name == name)


def _take(before: Report | None) -> Report:
    started = monotonic()
    ready = readiness.current()
    last = before.findings if before else ()
    aged = before.age if before else 0.0
    # Whoever has just waited for readiness has less time left for the rest.
    rows = None if ready.code == "database" else _rows(CHECK_SECONDS - (monotonic() - started))
    if rows is None:
        ready = readiness.current()  # a reading from before the outage may just have been served for the last time
    others = _grown_old(last, aged) if rows is None else judged(rows)
    findings = (*needed(ready), *others)
    return Report(ready, findings, rows is not None, datetime.now(UTC), monotonic())


def _rows(seconds: float) -> list[tuple[Any, ...]] | None:
    ping = Ping()
    try:
        return ping.ask(LIMITS + READINGS, seconds)
    except NoAnswer:
        return None
    finally:
        ping.close()  # asked seldom: a session kept for it would be one more for each process


def needed(ready: Ready) -> Iterator[Finding]:
    for name in NEEDED:
        missed = ready.code == name
        if name == "migrations" and ready.code == "database":
            yield Finding(name, Status.WARN, "unknown", ready.age)  # nobody could ask
            continue
        yield Finding(name, Status.FAIL if missed else Status.PASS, CODES[name] if missed else "ok", ready.age)


CODES = {"database": "no_answer", "migrations": "not_applied", "draining": "draining"}


def judged(rows: Iterable[tuple[Any, ...]]) -> Iterator[Finding]:
    """Yield the last reading of each registered check; a stale one as a warning, one of a lost host not at all."""
    found: dict[str, list[Finding]] = {}
    for name, host, status, code, value, unit, milliseconds, age in rows:
        found.setdefault(name, []).append(Finding(name, Status(status), code, age, host, value, unit, milliseconds))
    for check in registry.checks().values():
        fresh = [each for each in found.get(check.name, []) if not _is_stale(each, check)]
        if fresh:
            yield from fresh
        else:
            age = min((each.age or 0.0 for each in found.get(check.name, [])), default=None)
            yield Finding(check.name, Status.WARN, "not_run", age)


def _is_stale(finding: Finding, check: registry.Check) -> bool:
    return (finding.age or 0.0) > max(check.every * STALE_INTERVALS, timedelta(minutes=2).total_seconds())


def _grown_old(findings: Iterable[Finding], seconds: float) -> Iterator[Finding]:
    """Yield the readings known before, older by `seconds`: what cannot be read again is shown with its age."""
    for finding in findings:
        if finding.name not in NEEDED:
            yield replace(finding, age=None if finding.age is None else finding.age + seconds)


overall = Shared(_take, SHARED_SECONDS)
