"""Changing one's own e-mail address: asked for with the password, confirmed from the new address, undone from the old.

``docs/accounts.md`` has the whole way. Lock order: the user, then the changes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.crypto import constant_time_compare

import auditlog
from accounts import identity, jobs, links, sessions
from accounts.errors import AccountError
from accounts.models import AddressChange, User
from accounts.refusals import refusals
from accounts.second_factor import events

MOST_REQUESTS = 5  # of one account within the time below; each writes to an address that may be a stranger's
REQUESTS_FOR = timedelta(days=1)
State = AddressChange.State


@auditlog.acting_as(reason="change of own e-mail address asked for")
def request_change(user: User, email: str) -> None:
    """Ask the new address to confirm, and tell the old one. The caller has checked the password.

    An address that is somebody else's is answered alike; its owner is told. Takes the place of what waited before.
    Raises AccountError (``address_same``, ``address_changes_limit``) and ValidationError (domain).
    """
    identity.validate_email_domain(email)
    with transaction.atomic():
        current = User.objects.select_for_update().get(pk=user.pk)
        if identity.canonical_email(email) == current.email_canonical:
            raise AccountError("address_same", "email")
        if current.address_changes.filter(requested_at__gt=Now() - REQUESTS_FOR).count() >= MOST_REQUESTS:
            raise AccountError("address_changes_limit")
        _give_up(current.address_changes.filter(state=State.WAITING))
        change = AddressChange.objects.create(user=current, old_email=current.email, new_email=email)
        jobs.send_address_confirmation.enqueue(str(change.pk))
        jobs.send_mail_to_user.enqueue("address_asked", str(current.pk))


@auditlog.acting_as(reason="change of own e-mail address given up")
def give_up_change(user: User) -> bool:
    """Forget the change that waits for confirmation; returns whether there was one."""
    return bool(_give_up(user.address_changes.filter(state=State.WAITING)))


def _give_up(changes: QuerySet[AddressChange]) -> int:
    return changes.update(state=State.DROPPED, undo_until=None)


def waiting(user: User) -> AddressChange | None:
    """Return the change of `user` that waits for confirmation and still can be."""
    return user.address_changes.filter(_in_time(), state=State.WAITING).first()


def _in_time() -> Q:
    return Q(requested_at__gt=Now() - timedelta(hours=settings.EMAIL_VERIFICATION_HOURS))


def confirmable(token: str, user: User) -> AddressChange | None:
    """Return the change that this token would confirm for `user` now, else None."""
    change_id, was = links.read_confirm_address_token(token) or (None, "")
    change = waiting(user)
    if change is None or change.pk != change_id or not constant_time_compare(was, links.fingerprint(user)):
        return None
    return change


@auditlog.acting_as(reason="own e-mail address changed")
def confirm_change(token: str, user: User) -> None:
    """Let the address that the token was mailed to be `user`'s. The old one is told, and reserved while it may return.

    Once: a second click changes nothing. Raises AccountError: ``link_invalid`` when the token is used, expired, forged,
    another account's, or when password or address changed since; ``email_taken`` when somebody was faster.
    """
    try:
        with refusals(), transaction.atomic():
            _confirm(token, User.objects.select_for_update().get(pk=user.pk))
    except AccountError as refusal:
        if refusal.code == "email_taken":
            give_up_change(user)
        raise


def _confirm(token: str, user: User) -> None:
    change = confirmable(token, user)
    if change is None:
        if _is_confirmed(token, user):
            return
        raise AccountError("link_invalid")
    user.address_changes.filter(pk=change.pk).update(
        state=State.CONFIRMED,
        confirmed_at=Now(),
        old_verified_at=user.email_verified_at,
        undo_until=Now() + timedelta(days=settings.EMAIL_UNDO_DAYS),
    )
    user.email, user.email_verified_at = change.new_email, timezone.now()
    user.save(update_fields=["email", "email_verified_at"])
    jobs.send_address_changed.enqueue(str(change.pk))


def _is_confirmed(token: str, user: User) -> bool:
    """Whether this token was the one that gave `user` the present address."""
    change_id, _was = links.read_confirm_address_token(token) or (None, "")
    last = _last_confirmed(user)
    return last is not None and last.pk == change_id and last.new_email_canonical == user.email_canonical


def _last_confirmed(user: User) -> AddressChange | None:
    return user.address_changes.filter(state=State.CONFIRMED).order_by("-confirmed_at").first()


def undoable(token: str) -> AddressChange | None:
    """Return the change that this token would undo now, else None.

    Not when the address was changed since by other ways than these, by an administrator for one. A new password does
    not end it: that is the first thing a thief would choose.
    """
    change_id = links.read_undo_address_token(token)
    if change_id is None:
        return None
    changes = AddressChange.objects.select_related("user").filter(user__deleted_at=None)
    change = changes.filter(pk=change_id, state=State.CONFIRMED, undo_until__gt=Now()).first()
    if change is None:
        return None
    last = _last_confirmed(change.user)
    return change if last and last.new_email_canonical == change.user.email_canonical else None


@auditlog.acting_as(reason="change of e-mail address undone by a mailed link")
def undo_change(token: str) -> None:
    """Restore the old address as it was, end all sessions and the password, and mail a link to choose a new one.

    Ends what was asked for or changed since, with its links, and what else a thief may have left: second factors that
    were added since, and an erasure that is planned. Once: a second click changes nothing. Raises AccountError
    (``link_invalid``).
    """
    with refusals(), transaction.atomic():
        owner = _locked_owner(token)
        change = undoable(token)
        if owner is None or (change is None and not _is_undone(token, owner)):
            raise AccountError("link_invalid")
        if change is not None:
            _undo(change, owner)


def _locked_owner(token: str) -> User | None:
    change_id = links.read_undo_address_token(token)
    if change_id is None:
        return None
    owners = User.objects.filter(deleted_at=None, address_changes__pk=change_id)
    return owners.select_for_update(of=("self",)).first()


def _undo(change: AddressChange, user: User) -> None:
    user.email = change.old_email
    user.email_verified_at = change.old_verified_at
    user.erase_at = None  # nobody who is to be erased changes an address, so it was planned since
    _end_sessions(user)
    user.save(update_fields=["email", "email_verified_at", "erase_at", "password"])
    events.drop_since(change.requested_at, user)
    later = Q(state=State.WAITING) | Q(state=State.CONFIRMED, confirmed_at__gt=change.confirmed_at)
    _give_up(user.address_changes.filter(later))
    user.address_changes.filter(pk=change.pk).update(state=State.UNDONE, undo_until=None)
    jobs.send_mail_to_user.enqueue("address_restored", str(user.pk))


def _end_sessions(user: User) -> None:
    """End them all, and what opens new ones: the password, which whoever changed the address knew."""
    sessions.end_all(user)
    user.set_unusable_password()


def _is_undone(token: str, user: User) -> bool:
    undone = user.address_changes.filter(state=State.UNDONE, old_email_canonical=user.email_canonical)
    return links.read_undo_address_token(token) in undone.values_list("pk", flat=True)


def moved_by_staff(user: User, *, old: User) -> None:
    """Tell the address of `old` that staff have put another one in its place; in the caller's transaction.

    Nothing that was asked for or changed so far can be confirmed or undone any more: a link that only waited for the
    address to fit again would restore one of long ago.
    """
    _give_up(user.address_changes.filter(state__in=[State.WAITING, State.CONFIRMED]))
    if old.email_verified_at is None:  # perhaps a slip of the pen, and so a stranger's
        return
    change = AddressChange.objects.create(
        user=user,
        old_email=old.email,
        old_verified_at=old.email_verified_at,
        new_email=user.email,
        state=State.DROPPED,
    )
    jobs.send_address_moved.enqueue(str(change.pk))


# Keeping


def kept_for() -> timedelta:
    """How long a change is kept at least, from when it was asked for."""
    to_confirm = timedelta(hours=settings.EMAIL_VERIFICATION_HOURS)
    return max(to_confirm + timedelta(days=settings.EMAIL_UNDO_DAYS), REQUESTS_FOR)


def over_since(before: datetime) -> QuerySet[Any]:
    """Return those asked for before then that can neither be confirmed nor undone."""
    return AddressChange.objects.filter(Q(undo_until=None) | Q(undo_until__lt=Now()), requested_at__lt=before)
