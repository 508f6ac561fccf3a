"""Who may try a password now: every try is reserved in the database before it is hashed.

Counting failures afterwards would let all guesses through that are sent at the same moment. The reservation is
committed first, under locks, and only if no limit is reached; a success forgives it. django-axes is the frame:
its backend and middleware ask `ReservingHandler` and show `locked_out`. ``docs/operations.md`` has the rules.
"""

from __future__ import annotations

import hashlib
from functools import reduce
from http import HTTPStatus
from math import ceil
from operator import and_, or_
from typing import Any, NamedTuple

from axes.handlers.base import AxesHandler
from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth.signals import user_login_failed
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.expressions import RawSQL
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac

import auditlog
from accounts import devices, identity
from accounts.lockout_sql import BURST, locked_until_sql, locking_sql
from accounts.models import LoginAttempt, User
from accounts.second_factor import factors
from config.client_address import client_address, client_network, network_of
from config.database.locks import hold_until_commit
from config.errors import error_page

_LONGEST_COUNTED = 200
# Reasons in the trail of a failure that was no wrong password at a door.
ASKED_AGAIN = "wrong password when asked again"
NOT_CONFIRMED = "right password, address not confirmed"
NOT_OPEN = "right password, account shut"
NOT_STAFF = "right password, not staff"
_NAME = "name:"  # stands before a name that is nobody's: an id has the shape of a username


def counted_name(name: str) -> str:
    """Return the canonical form of a name or address that was tried, or a digest of a very long one."""
    canonical = identity.canonical_email(name) if "@" in name else identity.canonical_username(name)
    if len(canonical) <= _LONGEST_COUNTED:
        return canonical
    return "sha256:" + hashlib.sha256(canonical.encode("utf-8", "replace")).hexdigest()


def account_of(name: str) -> str:
    """Return what tries with this name or address count for: the id of its user, else the counted name."""
    return _account_of(User.objects.by_login_name(name), name)


def _account_of(user: User | None, name: str) -> str:
    return str(user.pk) if user else name_of_nobody(name)


def name_of_nobody(name: str) -> str:
    """Return what tries with this name count for when no user has it."""
    return f"{_NAME}{counted_name(name)}"


def recorded_name(account: str) -> str:
    """Return what records call the name of nobody that tries count for.

    It may be a password in the wrong field, and records are kept for long: so it is a fingerprint, by which equal
    ones are recognised.
    """
    digest = salted_hmac("accounts.lockout.recorded_name", shown_name(account), algorithm="sha256").hexdigest()
    return f"unknown name {digest[:12]}"


def is_nobodys(account: str) -> bool:
    """Whether `account_of` found no user of that name."""
    return account.startswith(_NAME)


def shown_name(account: str) -> str:
    """Return the name that was tried, for what `account_of` made of it."""
    return account.removeprefix(_NAME)


# Deciding


class Tried(NamedTuple):
    """A try that was reserved, for whoever learns how it ended."""

    account: str
    user: User | None
    is_last: bool
    attempt: int = 0  # the id of its row
    reason: str = ""


def reserve(request: HttpRequest, account: str, user: User | None) -> int:
    """Reserve one try of `account`'s password; returns 0, or how many seconds no further try is taken.

    What `failed` has to know is noted on the request: whose account, and whether this try is the last before a lock.
    Must not be called inside a transaction: a reservation that others cannot see yet reserves nothing.
    """
    attempt = _attempt(request, account)
    values = {"account": attempt.account, "network": attempt.network, "device": attempt.device}
    with transaction.atomic(durable=True), connection.cursor() as cursor:
        # Every caller takes the account's lock first, so two can never wait for each other.
        hold_until_commit(f"login account {attempt.account}", f"login network {attempt.network}")
        cursor.execute(_reserve_sql(), values)
        seconds, attempt_id = cursor.fetchone()
        if not seconds:
            cursor.execute(f"SELECT {_until()}", values)
            (until,) = cursor.fetchone()
            request.tried = Tried(account, user, until is not None, attempt_id)  # type: ignore[attr-defined]
    return ceil(seconds or 0)


def _attempt(request: HttpRequest, account: str) -> LoginAttempt:
    device = devices.known_device(request, account)
    return LoginAttempt(account=account, network=client_network(request), device=device)


def _until() -> str:
    return locked_until_sql("%(account)s", "%(network)s", "%(device)s")


def _reserve_sql() -> str:
    return f"""
        WITH lock AS (SELECT {_until()} AS until), reserved AS (
            INSERT INTO accounts_loginattempt (account, network, device)
            SELECT %(account)s, %(network)s, %(device)s FROM lock WHERE until IS NULL
            RETURNING id
        )
        SELECT extract(epoch FROM until - statement_timestamp()), (SELECT id FROM reserved) FROM lock
    """  # noqa: S608 - placeholders and our own numbers only


def fails_because(request: HttpRequest | None, reason: str) -> None:
    """Note why the try that was just reserved fails, for `failed`; costs no statement, so that nobody can tell."""
    tried: Tried | None = getattr(request, "tried", None)
    if request and tried:
        request.tried = tried._replace(reason=reason)  # type: ignore[attr-defined]


def failed(request: HttpRequest | None, name: str) -> None:
    """Record that what was tried for `name` failed, and on which page, and once for each lock that it began.

    Not what is refused during a lock: a stranger could let the trail grow without end.
    """
    tried: Tried | None = getattr(request, "tried", None)
    if request is None and name:  # `reserve` had one of its own
        user = User.objects.by_login_name(name)
        tried = Tried(_account_of(user, name), user, is_last=False)
    if tried is None:  # nothing was evaluated
        return
    subject, label = tried.user or "login", "" if tried.user else recorded_name(tried.account)
    match = request.resolver_match if request else None
    page = {"page": match.view_name} if match else None
    auditlog.record("login_failed", subject, label=label, new=page, reason=tried.reason)
    if tried.is_last and _has_begun_a_lock(tried):
        minutes = int(settings.LOGIN_COOLOFF.total_seconds() // 60)
        auditlog.record("locked_out", subject, label=label, new={"minutes": minutes})


def _has_begun_a_lock(tried: Tried) -> bool:
    """Whether the limit that `tried` reached locks for the cool-off.

    What ends within a burst's time comes of tries that were forgiven, before this one was reserved or since: a moment's
    wait, which an owner who types fast may meet. It is not recorded, not even with its seconds: the trail, the counters
    and the alarms on them take each record for a lock that somebody's failures began.
    """
    row: QuerySet[Any] = with_lock(LoginAttempt.objects.filter(pk=tried.attempt))
    return row.filter(locked_until__gt=Now() + BURST).exists()


def refuse(request: HttpRequest, name: str, seconds: int, *, reset_helps: bool = True) -> None:
    """Let the answer to this request be the page of a lock that stands for `seconds`, and tell who listens.

    `reset_helps` is False when whoever asks has shown that they know of a second factor: a new password lifts no lock
    of such an account. At the first step it must not depend on the account.
    """
    request.axes_locked_out = True  # type: ignore[attr-defined]  # read by AxesMiddleware
    request.locked_for = seconds  # type: ignore[attr-defined]
    request.reset_helps = reset_helps  # type: ignore[attr-defined]
    user_locked_out.send(sender=__name__, request=request, username=name, ip_address=client_address(request))


def locked_out(
    request: HttpRequest, original_response: HttpResponse, credentials: dict[str, Any] | None = None
) -> HttpResponse:
    """Answer a refused try (`AXES_LOCKOUT_CALLABLE`): at the first step the same for every account and name."""
    template = "" if getattr(request, "reset_helps", True) else "429_second_factor.html"
    seconds = getattr(request, "locked_for", None)
    return error_page(request, HTTPStatus.TOO_MANY_REQUESTS, template=template, retry_after=seconds)


class ReservingHandler(AxesHandler):  # type: ignore[misc]  # axes has no types
    """What django-axes asks before each login (`AXES_HANDLER`)."""

    def is_allowed(self, request: HttpRequest, credentials: dict[str, Any] | None = None) -> bool:
        name, password = (credentials or {}).get("username"), (credentials or {}).get("password")
        if not name or password is None:  # `IdentityBackend` tries nothing then
            return True
        user = User.objects.by_login_name(name)
        if seconds := reserve(request, _account_of(user, name), user):
            refuse(request, counted_name(name), seconds)
        return not seconds

    def reset_attempts(
        self, *, ip_address: str | None = None, username: str | None = None, ip_or_username: bool = False
    ) -> int:
        """For ``manage.py axes_reset`` and its kin."""
        conditions = [Q(network=network_of(ip_address))] if ip_address else []
        conditions += [Q(account=account_of(username))] if username else []
        whose = reduce(or_ if ip_or_username else and_, conditions, Q())
        return forget(LoginAttempt.objects.filter(whose))


def checked_password(request: HttpRequest, user: User, password: str) -> bool:
    """Whether `password` is that of the signed-in `user`, who is asked for it again; counts as a login does.

    When the account is locked, nothing is hashed, and whatever the view answers becomes the page of the lock.
    """
    if seconds := reserve(request, str(user.pk), user):
        refuse(request, user.username_canonical, seconds, reset_helps=not factors.is_on(user))
        return False
    if user.check_password(password):
        password_was_right(request, user)
        return True
    fails_because(request, ASKED_AGAIN)
    user_login_failed.send(sender=__name__, credentials={"username": user.username}, request=request)
    return False


# Forgetting


def password_was_right(request: HttpRequest, user: User) -> None:
    """Let a right password that opens nothing by itself forgive what a password alone may forgive."""
    release(request) if factors.is_on(user) else forgive(request, user)


def release(request: HttpRequest) -> None:
    """Let the try that was just reserved count no more, and those before it go on counting.

    For the right password of an account with a second factor: if it forgave the failures before it, whoever knows it
    could guess codes without end, a password after every few.
    """
    tried: Tried | None = getattr(request, "tried", None)
    if tried is not None:
        LoginAttempt.objects.filter(pk=tried.attempt, forgiven_at=None).update(forgiven_at=Now())


def forgive(request: HttpRequest, user: User) -> None:
    """Let what was tried on `user`'s account from this network, or this known browser, count no more."""
    attempt = _attempt(request, str(user.pk))
    rows = LoginAttempt.objects.filter(account=attempt.account, device=attempt.device, forgiven_at=None)
    if not attempt.device:
        rows = rows.filter(network=attempt.network)
    rows.update(forgiven_at=Now())


def forget(attempts: QuerySet[LoginAttempt]) -> int:
    """Delete them, so that they lock nobody; returns how many."""
    deleted, _models = attempts.delete()
    return deleted


# Showing


def with_lock(attempts: QuerySet[LoginAttempt]) -> QuerySet[LoginAttempt]:
    """Add `locked_until`: when a try like this one will be taken again, or None. For a page of rows."""
    columns = [f"accounts_loginattempt.{column}" for column in ("account", "network", "device")]
    return attempts.annotate(locked_until=RawSQL(locked_until_sql(*columns), []))  # noqa: S611 - no value in it


def locking(attempts: QuerySet[LoginAttempt]) -> QuerySet[LoginAttempt]:
    """Keep those that reached a limit, which stands: one row for every lock."""
    return attempts.filter(pk__in=RawSQL(locking_sql(), []))  # noqa: S611 - no value in it
