"""Work that no page waits for; the worker runs and retries it.

A job is enqueued inside the transaction of its event, so it exists if and only if the event does. Its
arguments are readable in the database for a while: an id or an address, never a token or a link, which are
made when it runs.
"""

from __future__ import annotations

from django_tasks import task

from accounts import emails, identity
from accounts.models import Invitation, User


@task()
def send_mail_to_user(mail: str, user_id: str) -> None:
    """Send the mail named `mail` (see `emails.MAILS`) unless the account is gone by now."""
    user = User.objects.filter(pk=user_id, deleted_at=None).first()
    if user is not None:
        emails.send(mail, user)


@task()
def send_invitation(invitation_id: str) -> None:
    """Mail an invitation that is still open to its address, and note whether it could be delivered."""
    found = Invitation.objects.filter(pk=invitation_id)
    invitation = found.first()
    if invitation is None or invitation.state != Invitation.State.OPEN:
        return
    try:
        emails.send_invitation(invitation)
    except Exception:
        found.update(delivery=Invitation.Delivery.FAILED)
        raise  # the worker tries again, later and later
    found.update(delivery=Invitation.Delivery.DELIVERED)


@task()
def send_invitation_asked(invitation_id: str) -> None:
    """Tell whoever invited that a new invitation is wished for in place of an expired one."""
    invitation = Invitation.objects.select_related("invited_by").get(pk=invitation_id)
    if invitation.invited_by is not None:
        emails.send_invitation_asked(invitation, invitation.invited_by)


@task()
def send_mail_to_address(mail: str, email: str) -> None:
    """As `send_mail_to_user`, for whoever owns `email`, if anybody does.

    The look-up happens here, so that the page which asks costs the same for known and unknown addresses.
    """
    user = User.objects.filter(email_canonical=identity.canonical_email(email), deleted_at=None, is_active=True).first()
    if user is not None:
        emails.send(mail, user)
