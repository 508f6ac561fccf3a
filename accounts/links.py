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
from django.utils.crypto import salted_hmac
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from accounts.models import AddressChange, Invitation, User

_VERIFY_SALT = "accounts.verify-email"
_CANCEL_SALT = "accounts.cancel-erasure"
_CONFIRM_ADDRESS_SALT = "accounts.confirm-address"
_UNDO_ADDRESS_SALT = "accounts.undo-address"
_INVITATION_SALT = "accounts.invitation"
_RECOVERY_SALT = "accounts.second-factor-recovery"
RECOVERY_HOURS = 24


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


def confirm_address_url(change: AddressChange) -> str:
    """Return the link that confirms the new address of `change`; it dies with the password and the address of now."""
    content = [str(change.pk), fingerprint(change.user)]
    return absolute(reverse("confirm_address_link", args=[signing.dumps(content, salt=_CONFIRM_ADDRESS_SALT)]))


def read_confirm_address_token(token: str) -> tuple[UUID, str] | None:
    """Return (id of the change, fingerprint of the account when it was asked for) of a token that we signed, else None.

    Whether the change still waits is not asked here.
    """
    try:
        change_id, was = signing.loads(token, salt=_CONFIRM_ADDRESS_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        return None
    return UUID(change_id), was


def fingerprint(user: User) -> str:
    """Return what differs once the account has another password or address."""
    content = f"{user.pk} {user.password} {user.email_canonical}"
    return salted_hmac("accounts.links.fingerprint", content, algorithm="sha256").hexdigest()


def undo_address_url(change: AddressChange) -> str:
    """Return the link that restores the old address of `change`; how long it works, the row says."""
    return absolute(reverse("undo_address_link", args=[signing.dumps(str(change.pk), salt=_UNDO_ADDRESS_SALT)]))


def read_undo_address_token(token: str) -> UUID | None:
    """Return the id of the change that a token of ours undoes, else None."""
    try:
        return UUID(signing.loads(token, salt=_UNDO_ADDRESS_SALT))
    except (signing.BadSignature, ValueError):
        return None


def recovery_url(user: User, nonce: UUID) -> str:
    """Return the link by which `user` may begin anew without a second factor, made of the nonce in the database."""
    token = signing.dumps(_recovery_claim(user, nonce), salt=_RECOVERY_SALT)
    return absolute(reverse("login_recovery_link", args=[token]))


def is_recovery_token(token: str, user: User | None = None, nonce: UUID | None = None) -> bool:
    """Whether we signed `token` and it has not expired; with a user and a nonce, also whether it is made of these now.

    So it dies with another nonce, with another address, and with the password: also with its hash, when an older kind
    is replaced.
    """
    try:
        claim = signing.loads(token, salt=_RECOVERY_SALT, max_age=3600 * RECOVERY_HOURS)
    except (signing.BadSignature, ValueError):
        return False
    return user is None or nonce is None or claim == _recovery_claim(user, nonce)


def _recovery_claim(user: User, nonce: UUID) -> list[str]:
    return [str(user.pk), nonce.hex, user.get_session_auth_hash()[:32], user.email_canonical]


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
