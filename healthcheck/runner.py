"""Runs checks, each within its time, whatever the others do."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from time import monotonic, sleep

import structlog
from django.db import InterfaceError, OperationalError, connections

from healthcheck.ping import NoAnswer
from healthcheck.registry import Check
from healthcheck.results import Result, Status

log = structlog.get_logger("healthcheck")


@dataclass(frozen=True)
class Outcome:
    """What a run of a check came to, when it `began` (monotonic seconds) and was `at` the clock, how long it took."""

    check: Check
    result: Result
    began: float
    at: datetime
    milliseconds: float


@dataclass
class _Run:
    check: Check
    began: float  # monotonic seconds
    due: float  # again
    is_late: bool = False


class Runner:
    """Runs checks in threads. One that hangs holds its thread, and is not begun again before it has ended.

    To be used by one thread.
    """

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._under_way: set[str] = set()
        self._ended: SimpleQueue[tuple[_Run, Outcome]] = SimpleQueue()

    def begin(self, checks: Iterable[Check]) -> None:
        """Begin those of `checks` that are due."""
        now = monotonic()
        for check in checks:
            run = self._runs.get(check.name)
            if check.name not in self._under_way and (run is None or now >= run.due):
                self._start(_Run(check, began=now, due=now + check.every))

    def collect(self) -> list[Outcome]:
        """Return what has ended since the last call, and what has just run out of time, with the code ``timeout``."""
        found = []
        while True:
            try:
                run, outcome = self._ended.get_nowait()
            except Empty:
                break
            self._under_way.discard(run.check.name)
            if not run.is_late:
                found.append(outcome)
        return found + [_late(run) for run in self._runs.values() if self._is_out_of_time(run)]

    def be_due(self, check: Check) -> None:
        """Let `check` be due at once."""
        self._runs[check.name].due = 0.0

    @property
    def is_busy(self) -> bool:
        """Whether a check is under way that is not late yet."""
        return any(not self._runs[name].is_late for name in self._under_way)

    def _start(self, run: _Run) -> None:
        self._runs[run.check.name] = run
        self._under_way.add(run.check.name)
        name = f"check {run.check.name}"
        threading.Thread(target=self._run, args=[run], name=name, daemon=True).start()

    def _run(self, run: _Run) -> None:
        try:
            outcome = run_check(run.check)
        finally:
            connections.close_all()  # this thread's
        self._ended.put((run, outcome))

    def _is_out_of_time(self, run: _Run) -> bool:
        """Whether to tell that the check hangs: when its time is up, and whenever it would have been due again."""
        now = monotonic()
        if run.check.name not in self._under_way or now < (run.due if run.is_late else run.began + run.check.seconds):
            return False
        run.due = now + run.check.every
        run.is_late = True
        return True


def _late(run: _Run) -> Outcome:
    took = (monotonic() - run.began) * 1000
    return Outcome(run.check, Result(Status.FAIL, "timeout"), monotonic(), datetime.now(UTC), took)


def run_check(check: Check) -> Outcome:
    """Run it in this thread, however long it takes; what it raises is a failure, and goes to the log."""
    began, at = monotonic(), datetime.now(UTC)
    try:
        result = check.run()
    except (NoAnswer, OperationalError, InterfaceError) as error:
        log.warning("health.check_unanswered", check=check.name, error=type(error).__name__)
        result = Result(Status.FAIL, "no_answer")
    except Exception:
        log.exception("health.check_failed", check=check.name)
        result = Result(Status.FAIL, "error")
    return Outcome(check, result, began, at, (monotonic() - began) * 1000)


def run_once(checks: Iterable[Check]) -> list[Outcome]:
    """Run all of them side by side; takes as long as the slowest, and no longer than its time."""
    runner, found = Runner(), []
    wanted = list(checks)
    runner.begin(wanted)
    while runner.is_busy:
        sleep(0.01)
        found += runner.collect()
    found += runner.collect()
    order = [check.name for check in wanted]
    return sorted(found, key=lambda outcome: order.index(outcome.check.name))
