"""Password hashers with a bound on how many hashes one process computes at once.

A hash costs a quarter of a second of one core by design; without a bound a burst of guesses starves every
other page (OWASP Password Storage Cheat Sheet, "work factors").
"""

from __future__ import annotations

from threading import BoundedSemaphore

from django.conf import settings
from django.contrib.auth import hashers

_slots = BoundedSemaphore(settings.PASSWORD_HASHES_AT_ONCE)


class BcryptHasher(hashers.BCryptSHA256PasswordHasher):
    """bcrypt over SHA-256, so that inputs over bcrypt's 72 bytes are neither cut nor refused."""

    rounds = settings.BCRYPT_ROUNDS

    def encode(self, password: str, salt: str | bytes) -> str:
        with _slots:
            return super().encode(password, salt)  # type: ignore[arg-type]


class Argon2idHasher(hashers.Argon2PasswordHasher):
    def encode(self, password: str, salt: str) -> str:
        with _slots:
            return super().encode(password, salt)

    def verify(self, password: str, encoded: str) -> bool:
        with _slots:
            return super().verify(password, encoded)


class ScryptHasher(hashers.ScryptPasswordHasher):
    def encode(
        self,
        password: str,
        salt: str,
        n: int | None = None,
        r: int | None = None,
        p: int | None = None,
    ) -> str:
        with _slots:
            return super().encode(password, salt, n, r, p)
