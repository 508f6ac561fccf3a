"""Where people are signed in, and how that ends. In the transaction of whoever calls; the rows are the truth.

What else ends sessions, by triggers and so for every writer: an account that is shut out, marked as deleted or deleted,
and one that becomes, or stops being, staff or superuser. ``docs/accounts.md`` has the rules.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import translation
from django.utils.crypto import constant_time_compare

import auditlog
from accounts.models import Session, User
from accounts.session_engine import SessionStore, digest_of
from accounts.user_agents import readable

MOST_SHOWN = 50
_MOST_NAMED = 20  # devices in one record


def begin(request: HttpRequest) -> None:
    """See to it that whoever just signed in does not go on with a key that was there before."""
    key = request.session.session_key
    if key and key == request.COOKIES.get(settings.SESSION_COOKIE_NAME):
        request.session.cycle_key()  # Django leaves it when the same person signs in again


def of(user: User) -> list[Session]:
    """Return the sessions that `user` could go on with now, the latest seen first; at most `MOST_SHOWN`."""
    rows = Session.objects.alive().filter(user_id=user.pk).order_by("-last_seen_at", "-pk")[:MOST_SHOWN]
    # Another password ends them by this hash, whoever wrote it; such a row is only not cleaned up yet.
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return [row for row in rows if _is_one_of(SessionStore().decode(row.data).get(HASH_SESSION_KEY, ""), hashes)]


def _is_one_of(given: str, hashes: Collection[str]) -> bool:
    return any(constant_time_compare(given, each) for each in hashes)


def end(user: User, session_id: UUID) -> bool:
    """End one session of `user`; False when there is none of this id (any more)."""
    with transaction.atomic():
        return bool(_end(user, Session.objects.filter(user_id=user.pk, pk=session_id)))


def end_all(user: User, *, but: str = "") -> int:
    """End all sessions of `user` but the one with the key `but`; returns how many."""
    rows = Session.objects.filter(user_id=user.pk)
    with transaction.atomic():
        return _end(user, rows.exclude(key_digest=digest_of(but)) if but else rows)


def _end(user: User, rows: QuerySet[Session]) -> int:
    # In one order, so that two who end the same sessions never wait for each other.
    ended = list(rows.order_by("pk").select_for_update())
    if ended:
        Session.objects.filter(pk__in=[row.pk for row in ended]).delete()
        with translation.override(settings.LANGUAGE_CODE):  # the trail is read by others
            devices = [readable(row.agent) for row in ended[:_MOST_NAMED]]
        addresses = sorted({row.address for row in ended if row.address})[:_MOST_NAMED]
        auditlog.record(
            "session_ended",
            user,
            new={"count": len(ended), "devices": devices},
            personal={"addresses": addresses} if addresses else None,
        )
    return len(ended)
