"""One-use links in mails: signed, purpose-bound, expiring, and built on the configured base address."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core import signing
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from accounts.models import User

_VERIFY_SALT = "accounts.verify-email"


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


def set_password_url(user: User) -> str:
    """Return the link that lets `user` choose a password once (it dies with the password it replaces)."""
    uid = urlsafe_base64_encode(force_bytes(user.pk))
    token = default_token_generator.make_token(user)
    return absolute(reverse("password_reset_confirm", args=[uid, token]))
