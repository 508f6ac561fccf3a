"""One-use links in mails: signed, purpose-bound, expiring, and built on the configured base address."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core import signing
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from accounts.models import Invitation, User

_VERIFY_SALT = "accounts.verify-email"
_CANCEL_SALT = "accounts.cancel-erasure"
_INVITATION_SALT = "accounts.invitation"


def absolute(path: str) -> str:
    """Return `path` on `BASE_URL`; a request's Host header is a stranger's word and is never used."""
    return f"{settings.BASE_URL}{path}"


def verify_email_url(user: User) -> str:
    return absolute(reverse("verify_email_link", args=[verification_token(user)]))


def verification_token(user: User) -> str:
    """Return a token for this account and this address; a changed or verified address ends it."""
    return signing.dumps([str(user.pk), user.email_canonical], salt=_VERIFY_SALT)


def read_verification_token(token: str) -> tuple[str, str] | None:
    """Return (user id, canonical address) of a token that we signed and that has not expired, else None."""
    try:
        user_id, email_canonical = signing.loads(
            token, salt=_VERIFY_SALT, max_age=3600 * settings.EMAIL_VERIFICATION_HOURS
        )
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return user_id, email_canonical


def cancel_erasure_url(user: User) -> str:
    """Return the link that keeps the account of `user`, who is to be erased; another time of erasure ends it."""
    assert user.erase_at is not None, "who is not to be erased has nothing to cancel"  # noqa: S101
    return absolute(reverse("cancel_erasure_link", args=[cancel_erasure_token(user)]))


def cancel_erasure_token(user: User) -> str:
    planned = user.erase_at.isoformat() if user.erase_at else ""
    return signing.Signer(salt=_CANCEL_SALT).sign_object([str(user.pk), planned])


def read_cancel_erasure_token(token: str) -> tuple[str, datetime] | None:
    """Return (user id, time of the erasure) of a token that we signed, else None. It is good until that time."""
    try:
        user_id, planned = signing.Signer(salt=_CANCEL_SALT).unsign_object(token)
        return user_id, datetime.fromisoformat(planned)
    except (signing.BadSignature, ValueError, TypeError):
        return None


def set_password_url(user: User) -> str:
    """Return the link that lets `user` choose a password once (it dies with the password it replaces)."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    token = default_token_generator.make_token(user)
    return absolute(reverse("password_reset_confirm", args=[uid, token]))


@dataclass(frozen=True)
class InvitationToken:
    """What an invitation's link says; `mailed` tells that it was made for a mail and shown to nobody else."""

    invitation_id: UUID
    nonce: UUID
    mailed: bool


def invitation_url(invitation: Invitation, *, mailed: bool) -> str:
    """Return the link of `invitation`; the same one each time, until its nonce is replaced."""
    packed = invitation.id.bytes + invitation.nonce.bytes + bytes([mailed])
    token = _invitation_signer().sign(urlsafe_b64encode(packed).decode())
    return absolute(reverse("invitation_link", args=[token]))


def read_invitation_token(token: str) -> InvitationToken | None:
    """Return what a token that we signed says, else None. Whether its invitation still stands is not asked here."""
    try:
        packed = urlsafe_b64decode(_invitation_signer().unsign(token))
    except signing.BadSignature:
        return None
    return InvitationToken(UUID(bytes=packed[:16]), UUID(bytes=packed[16:32]), bool(packed[32]))


def _invitation_signer() -> signing.Signer:
    """HMAC-SHA-256 with a key of its own, which Django derives from SECRET_KEY and the salt."""
    return signing.Signer(salt=_INVITATION_SALT, sep=".", algorithm="sha256")
