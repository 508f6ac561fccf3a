"""Codes on paper for the day when every device is lost."""

from __future__ import annotations

import hashlib
import secrets
from uuid import UUID

COUNT = 10
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32: no letter looks like a digit
_CHARACTERS, _GROUP = 24, 4
_READ_AS = str.maketrans({"O": "0", "I": "1", "L": "1", " ": "", "-": ""})


def new_codes() -> list[str]:
    """Return codes of 120 random bits each, like ``7F3K-9D2M-…``."""
    return [_new_code() for _code in range(COUNT)]


def _new_code() -> str:
    code = "".join(secrets.choice(_ALPHABET) for _character in range(_CHARACTERS))
    return "-".join(code[start : start + _GROUP] for start in range(0, _CHARACTERS, _GROUP))


def normalised(typed: str) -> str:
    """Return what was typed, without blanks, hyphens and mistaken letters."""
    return typed.upper().translate(_READ_AS)


def is_shaped(code: str) -> bool:
    """Whether a normalised text could be one of ours."""
    return len(code) == _CHARACTERS and set(code) <= set(_ALPHABET)


def digest(code: str, user_id: UUID) -> str:
    """Return what is stored of a code.

    A plain SHA-256: nobody guesses 120 random bits, so a slow hash would protect nothing (ASVS 6.5.2 draws the line at
    112), and no key means that exchanging keys makes nobody's paper worthless.
    """
    return hashlib.sha256(f"gatehouse recovery code 1\n{user_id}\n{normalised(code)}".encode()).hexdigest()
