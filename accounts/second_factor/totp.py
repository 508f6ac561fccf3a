"""One-time codes as authenticator apps compute them (RFC 6238: SHA-1, six digits, 30 seconds)."""

from __future__ import annotations

import time

import pyotp
import segno
from django.utils.safestring import SafeString, mark_safe

ISSUER = "Gatehouse"
SECONDS = 30
DRIFT = 1  # steps that a phone's clock may be off, either way


def new_secret() -> str:
    """Return 160 random bits in base32, of the system's secure source."""
    return pyotp.random_base32()


def uri(secret: str, account: str) -> str:
    """Return the address that an app reads from the QR code."""
    return pyotp.TOTP(secret).provisioning_uri(name=account, issuer_name=ISSUER)


def qr_code(text: str, label: str) -> SafeString:
    """Return `text` as an inline SVG without styles, dark on white whatever the page is, called `label`."""
    svg = segno.make(text, micro=False).svg_inline(omitsize=True, dark="#000", light="#fff", title=label)
    return mark_safe(svg)  # noqa: S308 - of the library, which escapes the title


def matching_steps(secret: str, code: str) -> list[int]:
    """Return the steps around now whose code is `code`, the earliest first; more than one by chance only."""
    now = int(time.time()) // SECONDS
    app = pyotp.HOTP(secret)
    return [step for step in range(now - DRIFT, now + DRIFT + 1) if app.verify(code, step)]
