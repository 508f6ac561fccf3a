"""Work that no page waits for; the worker runs and retries it.

A job is enqueued inside the transaction of its event, so it exists if and only if the event does. Its
arguments are readable in the database for a while: an id or an address, never a token or a link, which are
made when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django_tasks import task
from django_tasks.base import Task, TaskResultStatus
from django_tasks_db.models import DBTaskResult

from accounts import emails, identity
from accounts.models import AddressChange, Invitation, RequestedMail, User
from config.database.locks import hold_until_commit
from config.schedule import SLOW_QUEUE

log = structlog.get_logger("accounts.jobs")

MOST_REQUESTED_MAILS = 5  # to one address within the time below
REQUESTED_MAILS_FOR = timedelta(minutes=30)


@task()
def send_mail_to_user(mail: str, user_id: str) -> None:
    """Send the mail named `mail` (see `emails.MAILS`) unless the account is erased by now."""
    user = User.objects.filter(pk=user_id, deleted_at=None).first()
    if user is not None:
        emails.send(mail, user)


@task()
def send_new_device(user_id: str, device: str, address: str, at: str) -> None:
    """Tell the owner of an account that it was signed in to with a browser that had not been used before."""
    user = User.objects.filter(pk=user_id, deleted_at=None).first()
    if user is not None:
        emails.send_new_device(user, device, address, datetime.fromisoformat(at))


@task()
def send_invitation(invitation_id: str, language: str = settings.LANGUAGE_CODE) -> None:
    """Mail an invitation that is still open to its address, and note whether it could be delivered."""
    found = Invitation.objects.filter(pk=invitation_id)
    invitation = found.get()
    delivery = Invitation.Delivery.FAILED  # unless it goes out, also when the mail server refuses
    send = partial(emails.send_invitation, invitation, language)
    try:
        if invitation.state == Invitation.State.OPEN and _mail_within_limits(
            "invitation", invitation.email_canonical, send, invitation=invitation_id
        ):
            delivery = Invitation.Delivery.DELIVERED
    finally:
        found.update(delivery=delivery)


@task()
def send_invitation_asked(invitation_id: str) -> None:
    """Tell whoever invited that a new invitation is wished for in place of an expired one."""
    invitation = Invitation.objects.select_related("invited_by").get(pk=invitation_id)
    if invitation.invited_by is not None:
        emails.send_invitation_asked(invitation, invitation.invited_by)


@task()
def send_address_confirmation(change_id: str) -> None:
    """Ask the new address of a change that still waits; if it is somebody else's, tell them instead.

    The look-up happens here, so that the page which asks costs the same and says the same.
    """
    waiting = AddressChange.objects.filter(state=AddressChange.State.WAITING)
    change = waiting.select_related("user").filter(pk=change_id).first()
    if change is None:
        return
    others = User.objects.filter(email_canonical=change.new_email_canonical).exclude(pk=change.user_id)
    if (owner := others.first()) is None:
        mail, send = "address_confirm", partial(emails.send_address_confirmation, change)
    elif owner.is_active and owner.deleted_at is None:
        mail, send = "address_in_use", partial(emails.send, "address_in_use", owner)
    else:
        return
    _mail_within_limits(mail, change.new_email_canonical, send, user=str(change.user_id))


@task()
def send_address_changed(change_id: str) -> None:
    """Tell the old address of a change how to undo it, while it can be."""
    undoable = AddressChange.objects.filter(state=AddressChange.State.CONFIRMED, undo_until__gt=Now())
    change = undoable.select_related("user").filter(pk=change_id).first()
    if change is not None:
        emails.send_address_changed(change)


@task()
def send_address_moved(change_id: str) -> None:
    """Tell the old address of a change that staff made it."""
    change = AddressChange.objects.select_related("user").filter(pk=change_id, user__deleted_at=None).first()
    if change is not None:
        emails.send_address_moved(change)


@task()
def send_mail_to_address(mail: str, email: str) -> None:
    """As `send_mail_to_user`, for whoever owns `email`, if anybody does and has not had too many of them lately.

    The look-up happens here, so that the page which asks costs the same for known and unknown addresses.
    """
    user = User.objects.filter(email_canonical=identity.canonical_email(email), deleted_at=None, is_active=True).first()
    if user is None:
        return
    _mail_within_limits(mail, user.email_canonical, partial(emails.send, mail, user), user=str(user.pk))


@task(queue_name=SLOW_QUEUE)
def erase_due_accounts() -> None:
    """Erase whoever is to be erased by now. Names nobody: a job's row outlives the person by two weeks."""
    from accounts import life_cycle  # which enqueues the jobs above

    life_cycle.erase_due()


def is_waiting(job: Task[..., Any]) -> bool:
    """Whether a job of this kind waits for a worker, perhaps for another try."""
    ready = DBTaskResult.objects.filter(status=TaskResultStatus.READY)
    return ready.filter(task_path=job.module_path).exists()


def is_on_its_way(mail: str, user: User, at_most: timedelta) -> bool:
    """Whether a `mail` to `user` was asked for, not longer ago than this, and has not gone out."""
    asked = DBTaskResult.objects.filter(
        task_path=send_mail_to_user.module_path,
        args_kwargs={"args": [mail, str(user.pk)], "kwargs": {}},
        enqueued_at__gt=Now() - at_most,
    )
    # Whatever else it is: between two tries it is FAILED for a moment.
    return asked.exclude(status=TaskResultStatus.SUCCESSFUL).exists()


def _mail_within_limits(mail: str, email_canonical: str, send: Callable[[], bool], **about: str) -> bool:
    """Whether `send` has sent a mail, which it is asked to unless the address has had too many lately."""
    reserved = _reserve_mail(mail, email_canonical)
    if reserved is None:
        log.warning("mail.withheld", mail=mail, **about)
        return False
    sent = False
    try:
        sent = send()
    finally:
        if not sent:  # a mail server that is away must not use the budget up
            reserved.delete()
    return sent


def _reserve_mail(mail: str, email_canonical: str) -> RequestedMail | None:
    # The last one is kept for a reset: else a stranger could keep the owner of an address from choosing a new
    # password by asking for mails that do not help with it.
    most = MOST_REQUESTED_MAILS if mail == "password_reset" else MOST_REQUESTED_MAILS - 1
    with transaction.atomic():
        hold_until_commit(f"mail {email_canonical}")  # several workers may run
        recent = RequestedMail.objects.filter(email_canonical=email_canonical, sent_at__gt=Now() - REQUESTED_MAILS_FOR)
        return RequestedMail.objects.create(email_canonical=email_canonical) if recent.count() < most else None
