"""Which tries count, and when they lock, as SQL: decided where the rows are, by the clock of the database."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings

# A success forgives the failures before it, but they go on counting for this long. Otherwise the right guess in
# a burst of parallel ones would hand the rest of the burst, which is still waiting, a fresh budget.
BURST = timedelta(seconds=5)
# Forgiven later than that was under a clock that was ahead and has been put back. It must not count until then.
CLOCKS_DIFFER = timedelta(minutes=1)
_MOST_JUDGED = 50_000  # for a list: under attack an administrator wants an answer, not all of it


def locked_until_sql(account: str, network: str, device: str) -> str:
    """Return SQL for the time until which tries are refused, or NULL; the arguments are SQL, too.

    A known browser is judged by its own failures alone: neither a stranger nor whoever shares its network can
    lock it out.
    """
    known = f"attempt.account = {account} AND attempt.device = {device}"
    every_network = f"attempt.account = {account} AND attempt.device = ''"
    every_account = f"attempt.network = {network} AND attempt.device = ''"
    return f"""(
        CASE WHEN {device} <> '' THEN {_until_sql(known, settings.LOGIN_FAILURE_LIMIT)}
        ELSE GREATEST(
            {_until_sql(f"{every_network} AND attempt.network = {network}", settings.LOGIN_FAILURE_LIMIT)},
            {_until_sql(every_network, settings.LOGIN_FAILURES_PER_ACCOUNT)},
            {_until_sql(every_account, settings.LOGIN_FAILURES_PER_NETWORK)}
        ) END
    )"""


def _until_sql(condition: str, limit: int) -> str:
    """As `locked_until_sql`, for `limit` tries under one condition.

    They lock when the latest of them lie within the cool-off of each other, for the cool-off after the last; or
    shorter, when a forgiven one among them ceases to count before that.
    """
    return f"""(
        SELECT LEAST(max(reserved_at) + {_cooloff()}, min(forgiven_at) + {_seconds(BURST)})
        FROM (
            SELECT reserved_at, forgiven_at FROM accounts_loginattempt attempt
            WHERE {condition} AND {_counting_sql()}
            ORDER BY reserved_at DESC LIMIT {limit}
        ) latest
        HAVING count(*) = {limit}
            AND max(reserved_at) - min(reserved_at) <= {_cooloff()}
            AND max(reserved_at) > statement_timestamp() - {_cooloff()}
    )"""  # noqa: S608 - placeholders and our own numbers only


def _counting_sql() -> str:
    # What is older than two cool-offs can be no part of a lock that still stands.
    return (
        f"reserved_at > statement_timestamp() - 2 * {_cooloff()}"
        f" AND (forgiven_at IS NULL OR forgiven_at > statement_timestamp() - {_seconds(BURST)}"
        f" AND forgiven_at < statement_timestamp() + {_seconds(CLOCKS_DIFFER)})"
    )


def _cooloff() -> str:
    return _seconds(settings.LOGIN_COOLOFF)


def _seconds(duration: timedelta) -> str:
    return f"interval '{duration.total_seconds()} seconds'"


def locking_sql() -> str:
    """Return SQL for the ids of the tries that reached a limit which stands, among the latest `_MOST_JUDGED`."""

    def full(partition: str, limit: int) -> str:
        window = f"PARTITION BY {partition} ORDER BY reserved_at RANGE {_cooloff()} PRECEDING"
        return f"count(*) OVER ({window}) >= {limit}"

    return f"""(
        SELECT id FROM (
            SELECT id, reserved_at,
                {full("account, device, CASE device WHEN '' THEN network END", settings.LOGIN_FAILURE_LIMIT)}
                OR device = '' AND {full("account, device", settings.LOGIN_FAILURES_PER_ACCOUNT)}
                OR device = '' AND {full("network, device = ''", settings.LOGIN_FAILURES_PER_NETWORK)} AS locks
            FROM (
                SELECT * FROM accounts_loginattempt WHERE {_counting_sql()} ORDER BY id DESC LIMIT {_MOST_JUDGED}
            ) latest
        ) judged
        WHERE locks AND reserved_at > statement_timestamp() - {_cooloff()}
    )"""  # noqa: S608 - our own numbers only
