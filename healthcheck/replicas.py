"""How far the replicas in `HEALTH_REPLICAS` are behind, and whether the site still reads from them.

Reading stops by one rule for all processes: beyond `HEALTH_REPLICA_LAG` seconds, and where there is no standby of this
primary at all. So it is judged here from the outside, and no process has to be asked.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import monotonic, sleep
from typing import Any

from django.conf import settings
from django.http import HttpRequest

from healthcheck.ping import NoAnswer, Ping
from healthcheck.readiness import CHECK_SECONDS
from healthcheck.results import Limits, Result, Status, judged
from healthcheck.session import Session

CATCHING_UP_SECONDS = 1.0  # that a replica has to show what the primary had written when it was asked
_POSITION = """
SELECT pg_current_wal_flush_lsn()::text, ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::bigint
"""
# Without the primary's position: nothing to replay is no delay, as long as somebody would bring it.
_STANDING = """
SELECT pg_is_in_recovery(), control.min_recovery_end_timeline,
    greatest(0, pg_wal_lsn_diff(%(position)s::pg_lsn, pg_last_wal_replay_lsn()))::bigint,
    CASE WHEN pg_last_wal_replay_lsn() >= coalesce(%(position)s::pg_lsn, pg_last_wal_receive_lsn())
        AND (%(position)s IS NOT NULL OR EXISTS (SELECT FROM pg_stat_wal_receiver)) THEN 0
    ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END
FROM pg_control_recovery() AS control
"""


@dataclass(frozen=True)
class Standing:
    """`seconds` and `bytes` behind the primary; None where nobody knows. `is_read`: whether pages come from there."""

    name: str
    is_read: bool
    seconds: float | None = None
    bytes: int | None = None
    code: str = "ok"


def standing(alias: str) -> Standing:
    """Ask the primary and then the replica; raises NoAnswer when the replica gives none."""
    position, timeline = _position()
    session, began = Session(alias, "gatehouse-health"), monotonic()
    try:
        while True:
            ((is_standby, own_timeline, behind, lag),) = session.ask(
                _STANDING, {"position": position}, seconds=CHECK_SECONDS
            )
            waited = monotonic() - began
            # Behind by bytes for a moment is everybody. By the clock the first commit after a quiet hour is an hour.
            if not is_standby or not behind or waited > CATCHING_UP_SECONDS:
                break
            sleep(CATCHING_UP_SECONDS / 10)
    finally:
        session.close()
    if not is_standby:
        return Standing(alias, is_read=False, code="no_replica")
    if timeline is not None and own_timeline < timeline:
        return Standing(alias, is_read=False, bytes=behind, code="other_timeline")
    if lag is None:
        return Standing(alias, is_read=False, bytes=behind, code="unknown_lag")
    is_late = lag > settings.HEALTH_REPLICA_LAG
    return Standing(alias, not is_late, round(lag, 1), behind, "left_out" if is_late else "ok")


def judge(alias: str, limits: Limits) -> Result:
    """Return what `standing` found, by the seconds; raises NoAnswer."""
    found = standing(alias)
    if found.seconds is None:
        return Result(Status.WARN, found.code)
    result = judged(found.seconds, "s", limits, "behind")
    if found.is_read:
        return result
    return Result(max(result.status, Status.WARN, key=list(Status).index), found.code, found.seconds, "s")


def facts(request: HttpRequest) -> dict[str, Any]:
    """Return where each replica stands now, for a health page."""
    return {"replicas": [_fact(alias) for alias in settings.HEALTH_REPLICAS]}


def _fact(alias: str) -> dict[str, Any]:
    try:
        return asdict(standing(alias))
    except NoAnswer:
        return asdict(Standing(alias, is_read=False, code="no_answer"))


def _position() -> tuple[str | None, int | None]:
    ping = Ping()
    try:
        ((position, timeline),) = ping.ask(_POSITION, CHECK_SECONDS)
    except NoAnswer:
        return None, None
    finally:
        ping.close()
    return position, timeline
