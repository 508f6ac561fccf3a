"""Encrypts what must be readable again: the secrets that apps share with us. AES-256-GCM under a key that can rotate.

A copy of the database holds nothing that computes a code. Each text is bound to its place (`about`), so that whoever
can write rows cannot put the secret of their own app into another person's row.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import lru_cache

import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings

log = structlog.get_logger("accounts.second_factor")
_NONCE_BYTES = 12


@dataclass(frozen=True)
class Key:
    """`id` tells which key it is and nothing about it."""

    id: str
    cipher: AESGCM


def encrypt(text: str, *, about: str) -> str:
    """Return `text` encrypted under the newest key; it opens with the same `about` only."""
    key, nonce = _keys()[0], os.urandom(_NONCE_BYTES)
    sealed = key.cipher.encrypt(nonce, text.encode(), about.encode())
    return f"{key.id}.{urlsafe_b64encode(nonce + sealed).decode()}"


def decrypt(encrypted: str, *, about: str) -> str | None:
    """Return what was encrypted, or None (and a line in the log) when none of our keys opens it here."""
    key_id, _dot, packed = encrypted.partition(".")
    for key in _keys():
        if key.id == key_id:
            try:
                sealed = urlsafe_b64decode(packed)
                return key.cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], about.encode()).decode()
            except (InvalidTag, ValueError):
                break
    log.error("second_factor.undecryptable", key=key_id[:16], about=about)
    return None


def is_stale(encrypted: str) -> bool:
    """Whether a newer key has come since."""
    return encrypted.partition(".")[0] != _keys()[0].id


def _keys() -> list[Key]:
    """The newest first. Without a key of their own, second factors have what follows from SECRET_KEY."""
    if settings.SECOND_FACTOR_KEY:
        return [_derived(text) for text in (settings.SECOND_FACTOR_KEY, *settings.SECOND_FACTOR_KEY_FALLBACKS)]
    fallbacks = (*settings.SECRET_KEY_FALLBACKS, *settings.SECOND_FACTOR_KEY_FALLBACKS)
    return [_derived(text) for text in (settings.SECRET_KEY, *fallbacks)]


@lru_cache(maxsize=32)
def _derived(text: str) -> Key:
    # The label keeps it apart from whatever else is derived from the same text.
    derived = HKDF(SHA256(), length=40, salt=None, info=b"gatehouse second factor 1").derive(text.encode())
    return Key(derived[32:].hex(), AESGCM(derived[:32]))
