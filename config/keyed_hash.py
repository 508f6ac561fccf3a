"""Keyed digests: what knows a text again without keeping it, and tells nobody without the key what it was.

HMAC-SHA-256 (RFC 2104, FIPS 198-1) with a key of each purpose's own, which Django derives from SECRET_KEY
(`django.utils.crypto.salted_hmac`). What it knows it again by stays good for as long as the key stands among
SECRET_KEY_FALLBACKS. Not for passwords, which need a slow hash.
"""

from __future__ import annotations

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

_SALT = "config.keyed_hash"


def digest(purpose: str, text: str) -> str:
    """Return the digest of `text` for `purpose`, 64 hexadecimal digits; the same text has another for each purpose."""
    return _digest(purpose, text, settings.SECRET_KEY)


def digests(purpose: str, text: str) -> list[str]:
    """Return every digest that `text` may be stored under, the newest key's first: to look rows up by."""
    return [_digest(purpose, text, key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]


def matches(purpose: str, text: str, digest: str) -> bool:
    """Whether `digest` was made of `text` for `purpose`, under the key of now or a former one; in constant time."""
    given = digest.encode("utf-8", "surrogatepass")
    return sum(constant_time_compare(given, known) for known in digests(purpose, text)) > 0


def _digest(purpose: str, text: str, key: str) -> str:
    # Lone surrogates too, which a JSON body may hold: no text of a stranger is an error here.
    content = text.encode("utf-8", "surrogatepass")
    return salted_hmac(f"{_SALT} {purpose}", content, secret=key, algorithm="sha256").hexdigest()
