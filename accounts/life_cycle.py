"""How an account ends: deactivated (and back), to be erased at a time (and cancelled), erased for good.

As in `services`: one function per event, one transaction per function, the row locked and read again. `acting_user`
None stands for whoever runs a command, holds a mailed link, or works through what is due. The database itself sees to
it that a superuser is left (`accounts_user_last_superuser`), and that sessions end with the account (see `sessions`).
``docs/accounts.md`` has the states in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, models, transaction
from django.db.models.functions import Now
from django.utils import timezone

import auditlog
from accounts import forgetting, identity, jobs, rules
from accounts.errors import AccountError
from accounts.models import AddressChange, ErasedName, ReservedUsername, User
from accounts.refusals import refusals
from auditlog import erasing
from config import schedule

log = structlog.get_logger("accounts.life_cycle")

AT_ONCE = timedelta()
_MOST_AT_ONCE = 100  # people that one job erases; the next one goes on
_FOR_THE_MAIL = timedelta(hours=1)  # an erasure waits for the mail that tells of it, should the mail server be away
# An erasure reads the whole trail, which may take longer than a page may.
_PATIENCE = "SET LOCAL statement_timeout = '1h'; SET LOCAL lock_timeout = '10min'"

_PLANNED = "erasure_scheduled"  # the mail

# A function that takes what an app holds of a person out of the database, inside the transaction that erases them, and
# returns the objects that are about the person: what the audit trail says of those goes too. It may run again after a
# rolled back transaction. The row of the user is locked and still as it was.
Eraser = Callable[[User], Iterable[models.Model]]
_erasers: dict[Eraser, None] = {}  # a set that keeps the order


def on_erasure(eraser: Eraser) -> Eraser:
    """Let `eraser` be asked whenever a person is erased. In `AppConfig.ready`."""
    _erasers[eraser] = None
    return eraser


def grace() -> timedelta:
    """How long owners have to think better of it."""
    return timedelta(days=settings.ACCOUNT_DELETION_GRACE_DAYS)


def own_grace(user: User) -> timedelta:
    """How long `user` has after deleting the own account: at least until no change of its address can be undone.

    Whoever stole it has changed the address, and would otherwise erase what the owner can still take back.
    """
    left = [change.undo_until - timezone.now() for change in _undoable_changes(user) if change.undo_until]
    return max([grace(), *left])


def _undoable_changes(user: User) -> models.QuerySet[AddressChange]:
    return user.address_changes.filter(state=AddressChange.State.CONFIRMED, undo_until__gt=Now())


# Deactivated and back


def deactivate(user: User, *, acting_user: User | None, reason: str = "") -> bool:
    """Shut `user` out until somebody restores the account; returns whether that changed anything.

    Raises AccountError: ``own_account``, ``last_superuser``, ``account_erased``; PermissionDenied.
    """
    with auditlog.acting_as(reason=reason or "deactivated"), refusals(), transaction.atomic():
        locked = _locked(user)
        _require_right(locked, acting_user, "shut_out")
        if locked.is_active:
            _change(user, is_active=False)
    return locked.is_active


@auditlog.acting_as(reason="restored")
def restore(user: User, *, acting_user: User | None) -> bool:
    """Let a deactivated `user` in again; returns whether that changed anything. Raises as `deactivate` does."""
    with transaction.atomic():
        locked = _locked(user)
        _require_right(locked, acting_user, "shut_out")
        if not locked.is_active:
            _change(user, is_active=True)
    return not locked.is_active


# To be erased, and cancelled


def schedule_erasure(user: User, *, after: timedelta, acting_user: User | None, reason: str = "") -> datetime:
    """Erase `user` in `after`; until then nobody can sign in to the account, and it can be cancelled.

    The owner gets a mail with the date and a link to cancel. Planned again, the new time counts. Returns the time.
    Raises AccountError: ``own_account`` (of an administrator who means somebody else: one's own account is deleted by
    `delete_own_account`), ``last_superuser``, ``account_erased``; PermissionDenied.
    """
    with auditlog.acting_as(reason=reason or "erasure planned"), refusals(), transaction.atomic():
        _require_right(_locked(user), acting_user, "erase_user")
        return _plan(user, after)


@auditlog.acting_as(reason="own account deleted")
def delete_own_account(user: User) -> datetime:
    """Do as `schedule_erasure` at the owner's own wish, who has proved who it is; returns the time of the erasure.

    Addresses that the account had until lately are told, too, with the link that restores them (see `own_grace`).
    Raises AccountError: ``last_superuser``, ``account_erased``.
    """
    with refusals(), transaction.atomic():
        _locked(user)
        for change in _undoable_changes(user):
            jobs.send_address_changed.enqueue(str(change.pk))
        return _plan(user, own_grace(user))


def _plan(user: User, after: timedelta) -> datetime:
    _change(user, erase_at=Now() + after)
    planned = User.objects.get(pk=user.pk).erase_at
    assert planned is not None, "it was planned a moment ago, and the row is locked"  # noqa: S101
    jobs.send_mail_to_user.enqueue(_PLANNED, str(user.pk))
    if not after:
        jobs.erase_due_accounts.enqueue()
    return planned


@auditlog.acting_as(reason="erasure cancelled")
def cancel_erasure(user: User, *, acting_user: User | None, planned: datetime | None = None) -> None:
    """Keep an account that was to be erased; its owner gets a mail, and signs in as before.

    `planned` is the time that a mailed link was made for: another one since has made that link void. Raises
    AccountError: ``not_scheduled``, ``account_erased``, ``link_invalid``; PermissionDenied.
    """
    with transaction.atomic():
        locked = _locked(user)
        rules.require(acting_user, "cancel_erasure", locked)
        if locked.erase_at is None:
            raise AccountError("not_scheduled")
        # Whom an administrator has shut out does not let themselves in again.
        if planned is not None and (planned != locked.erase_at or not locked.is_active):
            raise AccountError("link_invalid")
        _change(user, erase_at=None)
        jobs.send_mail_to_user.enqueue("erasure_cancelled", str(user.pk))


# Erased


@auditlog.acting_as(reason="erased")
def erase(user: User, *, acting_user: User | None, only_if_due: bool = False) -> bool:
    """Erase `user` for good, now; returns False when somebody else has done it or is about to.

    With `only_if_due` also when the time has not come: who was listed as due may have been kept since.

    The row stays as a tombstone with the same id, without rights, a way in or anything personal; the name is reserved
    for ever as a keyed digest; what apps hold of the person goes by their `Eraser`; last the trail forgets the person,
    its seals intact. Reads the whole trail, so it is work for a job: pages call `schedule_erasure`. May be done again
    after whatever interrupted it. Raises AccountError: ``own_account``, ``last_superuser``; PermissionDenied.
    """
    with refusals(), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(_PATIENCE)
        wanted = User.objects.filter(pk=user.pk, deleted_at=None)
        if only_if_due:
            wanted = wanted.filter(erase_at__lte=Now())
        locked = wanted.select_for_update(skip_locked=True).first()
        if locked is None:
            return False
        _require_right(locked, acting_user, "erase_user")
        _erase(locked)
    log.info("user.erased", id=str(user.pk))
    return True


def _erase(user: User) -> None:
    known = forgetting.Known.of(user)
    about = [thing for eraser in _erasers for thing in eraser(user)]
    about += forgetting.forget(known)
    forgetting.forget_links(user)
    _reserve_names(known)
    _bury(user)
    erasing.erase(user, objects=about, labels=known.labels)  # the last: it takes what all this has recorded, too


def _reserve_names(known: forgetting.Known) -> None:
    """Keep the person's name, and former ones that are not free yet, from everybody for ever."""
    key, *_former = identity.name_keys()
    given_up = ReservedUsername.objects.filter(holder=known.user)
    names = {known.user.username_canonical, *given_up.values_list("username_canonical", flat=True)}
    ErasedName.objects.bulk_create(
        [ErasedName(digest=key.digest(name), hash_key=key.id) for name in sorted(names)], ignore_conflicts=True
    )
    given_up.delete()


# What a tombstone keeps of its row; every other column, also of apps and parts to come, becomes what it is by default.
_KEPT = {"id", "created_at", "updated_at", "version", "username", "email"}


def _bury(user: User) -> None:
    user.groups.clear()
    user.user_permissions.clear()
    for field in user._meta.concrete_fields:
        if field.name not in _KEPT:
            setattr(user, field.attname, field.get_default())
    # No form takes a colon in either, so nobody can be in the way of it, and no mail can be sent to it.
    user.username = user.email = f"erased:{user.pk.hex}"
    user.is_active, user.deleted_at = False, timezone.now()
    user.set_password(None)
    user.save()


def due() -> models.QuerySet[User]:
    """Return those whose time has come, by an index over the few that have one, the longest overdue first."""
    return User.objects.filter(erase_at__lte=Now()).order_by("erase_at")


@schedule.every_minute
def enqueue_what_is_due() -> None:
    """Have a job erase whose time has come. A job that waits already will find them."""
    if due().exists() and not jobs.is_waiting(jobs.erase_due_accounts):
        jobs.erase_due_accounts.enqueue()


def erase_due() -> int:
    """Erase everybody whose time has come, each in a transaction of its own; returns how many.

    Several at once share the work: who is locked is somebody else's. One who cannot be erased keeps no other waiting.
    Each may take minutes, in which another is cancelled or planned anew: that counts. Whose mail about it has not gone
    out is left to the next job: mails have a lane of their own, and none is sent to who is erased.
    Raises what went wrong, the last, when all others are done.
    """
    erased, fault = 0, None
    for user in list(due()[:_MOST_AT_ONCE]):
        if jobs.is_on_its_way(_PLANNED, user, _FOR_THE_MAIL):
            continue
        try:
            erased += erase(user, acting_user=None, only_if_due=True)
        except Exception as error:
            log.exception("user.not_erased", id=str(user.pk))
            fault = error
    if fault is not None:
        raise fault
    return erased


# What they share


def _locked(user: User) -> User:
    locked = User.objects.select_for_update().get(pk=user.pk)
    if locked.deleted_at is not None:
        raise AccountError("account_erased")
    return locked


def _require_right(user: User, acting_user: User | None, action: str) -> None:
    """Nobody shuts themselves out, or in, by the way of an administrator; for others `rules` decide."""
    if user == acting_user:
        raise AccountError("own_account")
    rules.require(acting_user, action, user)


def _change(user: User, **columns: Any) -> None:
    User.objects.filter(pk=user.pk).update(**columns)
