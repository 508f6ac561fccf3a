"""Work that no page waits for; the worker runs and retries it.

A job is enqueued inside the transaction of its event, so it exists if and only if the event does. Its
arguments are readable in the database for a while: an id or an address, never a token or a link, which are
made when it runs.
"""

from __future__ import annotations

from django_tasks import task

from accounts import emails, identity
from accounts.models import User


@task()
def send_mail_to_user(mail: str, user_id: str) -> None:
    """Send the mail named `mail` (see `emails.MAILS`) unless the account is gone by now."""
    user = User.objects.filter(pk=user_id, deleted_at=None).first()
    if user is not None:
        emails.send(mail, user)


@task()
def send_mail_to_address(mail: str, email: str) -> None:
    """As `send_mail_to_user`, for whoever owns `email`, if anybody does.

    The look-up happens here, so that the page which asks costs the same for known and unknown addresses.
    """
    user = User.objects.filter(email_canonical=identity.canonical_email(email), deleted_at=None, is_active=True).first()
    if user is not None:
        emails.send(mail, user)
