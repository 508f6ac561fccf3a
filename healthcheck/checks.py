"""The checks that every site has. Each is a function that finds a `Result`; the worker runs them."""

from __future__ import annotations

import os
import smtplib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core import mail as mails
from django.core.cache import caches
from django.core.cache.backends.dummy import DummyCache
from django.core.mail.backends.smtp import EmailBackend
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from healthcheck import replicas as standings
from healthcheck.ping import Ping
from healthcheck.readiness import CHECK_SECONDS
from healthcheck.registry import Check, register
from healthcheck.results import Limits, Result, Status, judged


def limits(name: str) -> Limits:
    """Return the limits that the settings give this name."""
    return Limits(*settings.HEALTH_LIMITS[name])


def worse(results: list[Result]) -> Result:
    """Return the first of the worst of `results`; when there are none, there is nothing that could be bad."""
    statuses = list(Status)
    return max(results, key=lambda result: statuses.index(result.status), default=Result(Status.PASS, "none"))


# The database

# What is not of one's own role shows neither its state nor of which kind it is, unless one may read all statistics.
_SESSIONS = """
SELECT count(*) FILTER (WHERE state = 'active'),
    count(*) FILTER (WHERE state IS DISTINCT FROM 'active' AND state NOT LIKE 'idle in transaction%' IS NOT FALSE),
    count(*) FILTER (WHERE state LIKE 'idle in transaction%'),
    count(*) FILTER (WHERE wait_event_type = 'Lock'),
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0),
    count(*) FILTER (WHERE usename = current_user),
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
    count(*) FILTER (WHERE datname = current_database()),
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database())
FROM pg_stat_activity
WHERE backend_type = 'client backend' OR backend_type IS NULL AND usename IS NOT NULL AND datname IS NOT NULL
"""


@dataclass(frozen=True)
class Sessions:
    """The sessions of the database server; `most` is how many the application can have in all.

    Of other roles' sessions the state is not visible to everybody; those count as idle. `share` is the highest one of
    what the server, the role and the database may have, in per cent.
    """

    active: int
    idle: int
    idle_in_transaction: int
    waiting: int
    most: int
    share: float


def sessions() -> Sessions:
    """Ask how many sessions there are; raises NoAnswer."""
    ping = Ping()
    try:
        (row,) = ping.ask(_SESSIONS, CHECK_SECONDS)
    finally:
        ping.close()
    active, idle, idle_in_transaction, waiting, most, *limited = row
    pairs = [(active + idle + idle_in_transaction, most), limited[:2], limited[2:]]
    # -1 is no limit.
    share = max(100 * used / limit if limit else 100.0 for used, limit in pairs if limit >= 0)
    return Sessions(active, idle, idle_in_transaction, waiting, most, share)


def connections() -> Result:
    """How near the sessions are to what the server, the role or the database may have."""
    return judged(round(sessions().share, 1), "%", limits("connections"), "near_limit")


def response() -> Result:
    """How long the database takes to answer on an open connection."""
    ping = Ping()
    try:
        ping.ask("SELECT 1", CHECK_SECONDS)
        began = monotonic()
        ping.ask("SELECT 1", CHECK_SECONDS)
        return judged(round((monotonic() - began) * 1000, 2), "ms", limits("response"), "slow")
    finally:
        ping.close()


_LAG_OF_ALL = """
SELECT count(*), count(*) FILTER (WHERE state IS NULL), max(extract(epoch FROM replay_lag))::float8
FROM pg_stat_replication
"""


def replicas() -> Result:
    """How far the replicas are behind: those of HEALTH_REPLICAS by themselves, else all as the primary sees them."""
    if settings.HEALTH_REPLICAS:
        return worse([standings.judge(alias, limits("replicas")) for alias in settings.HEALTH_REPLICAS])
    ping = Ping()
    try:
        ((count, hidden, lag),) = ping.ask(_LAG_OF_ALL, CHECK_SECONDS)
    finally:
        ping.close()
    if count == hidden:
        return Result(Status.PASS, "not_visible" if hidden else "none")
    return judged(round(lag or 0.0, 1), "s", limits("replicas"), "behind")


# The rest


def cache() -> Result:
    """Whether every configured cache keeps a value and forgets it again, and how long that takes."""
    return worse([_cache(alias) for alias in settings.CACHES if not isinstance(caches[alias], DummyCache)])


def _cache(alias: str) -> Result:
    key, value, store = f"healthcheck-{uuid4()}", uuid4().hex, caches[alias]
    began = monotonic()
    store.set(key, value, 60)
    kept = store.get(key)
    store.delete(key)
    if kept != value:
        return Result(Status.FAIL, "lost_value")
    if store.get(key) is not None:
        return Result(Status.FAIL, "kept_deleted")
    return judged(round((monotonic() - began) * 1000, 2), "ms", limits("cache"), "slow")


# The first that fits; a fault of TLS and of names is one of the system, too.
_MAIL_FAULTS: dict[type[Exception], str] = {
    smtplib.SMTPAuthenticationError: "login_refused",
    smtplib.SMTPException: "refused_to_talk",
    ssl.SSLError: "tls_failed",
    socket.gaierror: "unknown_host",
    TimeoutError: "timeout",
    ConnectionRefusedError: "refused",
    OSError: "unreachable",
}


def mail() -> Result:
    """Whether mail could be sent: the server greets, encrypts and lets us in; no mail is sent.

    Of a back end that writes files: whether it may.
    """
    backend: Any = mails.get_connection()
    if isinstance(backend, EmailBackend):
        return _mail_server(backend)
    if path := getattr(backend, "file_path", None):
        return Result(Status.PASS) if _is_writable(path) else Result(Status.FAIL, "not_writable")
    return Result(Status.PASS, "no_server")


def _mail_server(backend: EmailBackend) -> Result:
    allowed = limits("mail")
    backend.timeout = int(allowed.fail) or 1
    began = monotonic()
    try:
        backend.open()
        if isinstance(backend.connection, smtplib.SMTP):
            backend.connection.ehlo_or_helo_if_needed()
    except tuple(_MAIL_FAULTS) as error:
        return Result(Status.FAIL, _code_of(error))
    finally:
        backend.close()
    return judged(round(monotonic() - began, 2), "s", allowed, "slow")


def _code_of(error: Exception) -> str:
    # What smtplib calls a lost connection may be a server that kept silent.
    if isinstance(error, smtplib.SMTPServerDisconnected) and isinstance(error.__context__, OSError):
        error = error.__context__
    return next(code for kind, code in _MAIL_FAULTS.items() if isinstance(error, kind))


def _is_writable(path: str | os.PathLike[str]) -> bool:
    """Whether files can be made in `path`, or the directories that lead to it."""
    place = os.path.abspath(path)
    while not os.path.exists(place):
        place = os.path.dirname(place)
    return os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)


def disk() -> Result:
    """How full the fullest of the disks is, by bytes or by the number of files."""
    found = [result for path in settings.HEALTH_DISK_PATHS for result in _disk(path)]
    return worse(sorted(found, key=lambda result: result.value or 0.0, reverse=True))


def _disk(path: str) -> Iterator[Result]:
    try:
        found = os.statvfs(path)
    except OSError:
        yield Result(Status.FAIL, "missing")
        return
    # Some file systems count neither.
    if found.f_blocks:
        yield _used(found.f_blocks - found.f_bfree, found.f_bavail, "filling")
    if found.f_files:
        yield _used(found.f_files - found.f_ffree, found.f_favail, "many_files")


def _used(used: int, available: int, code: str) -> Result:
    """What is reserved for the administrator is not available, as `df` has it."""
    share = 100 * used / (used + available) if used + available else 100.0
    return judged(round(share, 1), "%", limits("disk"), code)


def register_all() -> None:
    """Register every check of this module."""
    register(Check(name="response", label=_("Response time"), run=response))
    register(Check(name="connections", label=_("Connections"), run=connections))
    register(Check(name="replicas", label=_("Replicas"), run=replicas, detail=standings.facts))
    for alias in settings.HEALTH_REPLICAS:
        label = format_lazy(_("Replica “{name}”"), name=alias)
        register(Check(name=alias, label=label, run=partial(standings.judge, alias, limits("replicas"))))
    register(Check(name="cache", label=_("Cache"), run=cache))
    register(Check(name="mail", label=_("Mail"), run=mail, every=300, seconds=30))
    register(Check(name="disk", label=_("Disk"), run=disk, scope="host"))
