"""Looks after the checks and writes the history: a thread of the worker.

Every worker looks at the state of the whole and runs the checks that are about its host. One worker of all hosts, the
one whose session holds the lock, runs the others and writes samples and incidents, over that very session: whoever
has lost the lock cannot write. While the database is away everybody keeps what they see, and whoever gets the lock
afterwards fills in what is newer than what was written last.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any

import structlog
from django.conf import settings
from psycopg2.extras import Json

from healthcheck import registry
from healthcheck.checks import sessions
from healthcheck.draining import is_draining
from healthcheck.overall import CODES, READINGS, Finding, judged
from healthcheck.ping import NoAnswer, Ping
from healthcheck.readiness import CHECK_SECONDS, readiness
from healthcheck.results import Status
from healthcheck.runner import Outcome, Runner
from healthcheck.session import Session

log = structlog.get_logger("healthcheck")

LOOK_EVERY = 2.0  # seconds
MINUTE = 60.0
ANSWER_SECONDS = 1.0  # of looking
WRITE_SECONDS = 3.0
STOP_SECONDS = 1.0
LOCK = 0x6865_616C_7468  # any constant of our own: "health"
OVERALL = "overall"  # what incidents of the whole are about
_KEPT = 5000  # observations in memory: two days of them, with some changes
_FILLED_IN_AT_ONCE = 100
_LOOKS_MISSED = 5  # after which the server ends the session, so that another worker can have the lock
_DOWN = ("database", "migrations")  # without these no host can serve; draining takes only one host out

_WRITE_READING = """
INSERT INTO healthcheck_reading (check_name, host, status, code, value, unit, milliseconds, at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (check_name, host) DO UPDATE SET status = excluded.status, code = excluded.code, value = excluded.value,
    unit = excluded.unit, milliseconds = excluded.milliseconds, at = excluded.at
"""
# The reading of the whole is no check's: it says when the last observation was made that is written down.
_WRITTEN_UNTIL = "SELECT max(at) FROM healthcheck_reading WHERE check_name = 'overall'"
_WRITE_OBSERVATION = """
INSERT INTO healthcheck_sample AS before (at, status, milliseconds, codes)
VALUES (%(minute)s, %(status)s, %(milliseconds)s, %(codes)s)
ON CONFLICT (at) DO UPDATE SET status = excluded.status, codes = before.codes || excluded.codes,
    milliseconds = coalesce(before.milliseconds, excluded.milliseconds)
WHERE strpos('pass warn fail', excluded.status) >= strpos('pass warn fail', before.status);

INSERT INTO healthcheck_incident AS before (check_name, host, status, code, began_at)
SELECT bad.check_name, bad.host, bad.status, bad.code, %(at)s
FROM jsonb_to_recordset(%(incidents)s) AS bad (check_name text, host text, status text, code text)
ON CONFLICT (check_name, host) WHERE ended_at IS NULL DO UPDATE SET status = excluded.status, code = excluded.code
WHERE strpos('pass warn fail', excluded.status) > strpos('pass warn fail', before.status);

UPDATE healthcheck_incident SET ended_at = greatest(began_at, %(at)s)
WHERE %(known)s AND ended_at IS NULL AND (check_name, host) NOT IN (
    SELECT bad.check_name, bad.host FROM jsonb_to_recordset(%(incidents)s) AS bad (check_name text, host text)
);

INSERT INTO healthcheck_reading (check_name, host, status, code, unit, milliseconds, at)
VALUES ('overall', '', %(status)s, %(code)s, '', coalesce(%(milliseconds)s, 0), %(at)s)
ON CONFLICT (check_name, host) DO UPDATE SET status = excluded.status, code = excluded.code,
    milliseconds = excluded.milliseconds, at = excluded.at;
"""
_WRITE_SESSIONS = """
INSERT INTO healthcheck_connectionsample (at, active, idle, idle_in_transaction, waiting, most)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (at) DO NOTHING
"""

Bad = dict[tuple[str, str], tuple[Status, str]]  # by check and host


@dataclass(frozen=True)
class Observation:
    """The state of the whole at one moment: what is bad, by check and host.

    `known`: everything could be looked at, so that whatever is not bad passes.
    """

    at: datetime
    minute: datetime
    bad: Bad
    known: bool
    milliseconds: float | None

    @property
    def status(self) -> Status:
        """FAIL when no host can serve; whatever else is bad is a warning."""
        if any(name in _DOWN for name, _host in self.bad):
            return Status.FAIL
        return Status.WARN if self.bad else Status.PASS

    @property
    def codes(self) -> dict[str, str]:
        return {name: code for (name, _host), (_status, code) in self.bad.items()}

    @property
    def incidents(self) -> list[dict[str, str]]:
        """What is bad, and the whole, with the first of it as the code: the worst, since readiness comes first."""
        found = [
            {"check_name": name, "host": host, "status": status.value, "code": code}
            for (name, host), (status, code) in self.bad.items()
        ]
        if found:
            code = found[0]["check_name"]
            found.append({"check_name": OVERALL, "host": "", "status": self.status.value, "code": code})
        return found

    def as_parameters(self) -> dict[str, Any]:
        return {
            "at": self.at,
            "minute": self.minute,
            "status": self.status.value,
            "code": "bad" if self.bad else "ok",
            "milliseconds": self.milliseconds,
            "codes": Json(self.codes),
            "incidents": Json(self.incidents),
            "known": self.known,
        }


class Sampler:
    """One in a worker. `look_every` and `minute` are seconds; a minute of another length is for tests."""

    def __init__(self, *, look_every: float = LOOK_EVERY, minute: float = MINUTE) -> None:
        self._look_every = look_every
        self._minute = minute
        self._session = Session("direct", "gatehouse-sampler", idle_seconds=look_every * _LOOKS_MISSED)
        self._runner = Runner()
        self._holds = False
        self._observed: deque[Observation] = deque(maxlen=_KEPT)
        self._last: Observation | None = None
        self._told: Bad = {}
        self._lost = float("-inf")  # monotonic seconds: a clock that was put back must not make it last
        self._fault = ""
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self.run, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; does not wait long for a server that does not answer."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)

    def run(self) -> None:
        """Look until stopped."""
        while not self._stopped.is_set():
            try:
                self.look()
                self._fault = ""
            except Exception as error:  # the worker's jobs are worth more than its history
                self._complain(error)
            self._stopped.wait(self._pause())
        self._session.close()

    def _pause(self) -> float:
        """Until the next look, of which one falls on the beginning of each minute."""
        return min(self._look_every, self._minute - time() % self._minute)

    def _complain(self, error: Exception) -> None:
        """Once, until it has worked again."""
        if self._fault != str(error):
            is_fault = not isinstance(error, NoAnswer)
            log.error("sampler.failed", error=type(error).__name__ if is_fault else str(error), exc_info=is_fault)
        self._fault = str(error)

    def look(self) -> None:
        """Look once: run what is due, observe, write. Raises NoAnswer when its session fails, but others would not."""
        at = datetime.now(UTC)  # a question that is not answered, however long it is waited for, was asked now
        code = readiness.of_database().code
        if code == "database":
            self._be_away(at)
            return
        try:
            self._take_lock()
            self._run_checks()
            began = monotonic()
            rows = self._session.ask(READINGS, seconds=ANSWER_SECONDS)
            self._note(at, _bad(code, judged(rows)), milliseconds=(monotonic() - began) * 1000)
            if self._holds:
                self._write()
        except NoAnswer:
            self._lose()
            if _answers():
                raise
            self._be_away(at)

    def _be_away(self, at: datetime) -> None:
        self._lose()
        self._note(at, _bad("database", ()), known=False)

    def _lose(self) -> None:
        """What the session held is lost with it, and what checks find meanwhile is about the outage."""
        self._session.close()
        self._holds = False
        self._lost = monotonic()

    def _note(self, at: datetime, bad: Bad, *, known: bool = True, milliseconds: float | None = None) -> None:
        """Keep what is new: a minute, or another state."""
        minute = datetime.fromtimestamp(at.timestamp() // self._minute * self._minute, UTC)
        last = self._last
        if last is None or (last.minute, last.bad, last.known) != (minute, bad, known):
            self._last = Observation(at, minute, bad, known, milliseconds)
            self._observed.append(self._last)

    # The database

    def _take_lock(self) -> None:
        if self._holds:
            return
        ((self._holds,),) = self._session.ask("SELECT pg_try_advisory_lock(%s)", [LOCK], seconds=ANSWER_SECONDS)
        if self._holds:
            ((written_until,),) = self._session.ask(_WRITTEN_UNTIL, seconds=ANSWER_SECONDS)
            while written_until and self._observed and self._observed[0].at <= written_until:
                self._observed.popleft()

    def _run_checks(self) -> None:
        self._runner.begin(check for check in registry.checks().values() if self._holds or check.scope == "host")
        for outcome in self._runner.collect():
            if outcome.began <= self._lost:
                self._runner.be_due(outcome.check)
                continue
            host = settings.HEALTH_HOST if outcome.check.scope == "host" else ""
            self._session.ask(_WRITE_READING, _row(outcome, host), seconds=WRITE_SECONDS)

    def _write(self) -> None:
        """Write what was observed, the oldest first; what cannot be written now is kept."""
        for _turn in range(min(len(self._observed), _FILLED_IN_AT_ONCE)):
            seen = self._observed[0]
            self._session.ask(_WRITE_OBSERVATION, seen.as_parameters(), seconds=WRITE_SECONDS)
            self._observed.popleft()
            self._tell(seen)
            if seen is self._last:
                self._write_sessions(seen.minute)

    def _write_sessions(self, minute: datetime) -> None:
        found = sessions()
        row = (minute, found.active, found.idle, found.idle_in_transaction, found.waiting, found.most)
        self._session.ask(_WRITE_SESSIONS, row, seconds=WRITE_SECONDS)

    def _tell(self, seen: Observation) -> None:
        """Log each change of the state, once on all hosts; of an outage afterwards, with the time of each."""
        if seen.bad != self._told:
            write = log.info if seen.status is Status.PASS else log.warning
            write("health.changed", status=seen.status.value, codes=seen.codes, at=seen.at.isoformat())
        self._told = seen.bad


def _answers() -> bool:
    """Whether the database answers at all; what the process knows of it may be older than the fault."""
    ping = Ping()
    try:
        ping.ask("SELECT 1", CHECK_SECONDS)
    except NoAnswer:
        return False
    finally:
        ping.close()
    return True


def _bad(code: str, findings: Iterable[Finding]) -> Bad:
    """Return what does not pass, with readiness as `code`. That nobody runs a check is no finding: it is run here."""
    found: Bad = {}
    if code != "ok":
        found[code, ""] = Status.FAIL, CODES[code]
    if is_draining():
        found["draining", settings.HEALTH_HOST] = Status.WARN, CODES["draining"]
    for finding in findings:
        if finding.status is not Status.PASS and finding.code != "not_run":
            found[finding.name, finding.host] = finding.status, finding.code
    return found


def _row(outcome: Outcome, host: str) -> tuple[Any, ...]:
    result = outcome.result
    return (
        outcome.check.name,
        host,
        result.status.value,
        result.code[:64],  # what its column takes: one check's long words must not cost the others their readings
        result.value,
        result.unit[:16],
        outcome.milliseconds,
        outcome.at,
    )
