"""Tokens that work once: for a link or a code that an app hands out and takes back.

The database knows a token by a keyed digest only. Made and redeemed in the caller's transaction, they stand or fall
with whatever else it does.
"""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from typing import Any

from django.db import router
from django.db.models.functions import Now

from config import keyed_hash
from config.models import OneUseToken

LONGEST_PAYLOAD = 4096  # bytes of JSON
LONGEST = 128  # characters of what is looked up at all; a token has 43
_BYTES = 32  # of chance


class Invalid(Exception):
    """The token does not work; `code` is ``unknown`` (also: of another purpose), ``used`` or ``expired``."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"The token is {code}.")


def make(purpose: str, payload: Any, *, lasts: timedelta) -> str:
    """Return a new token of 256 random bits, in characters that need no quoting in an address.

    `payload` is what `redeem` gives back, JSON of at most 4 KB: best an id, since the database keeps it in clear.
    Raises ValueError when it is longer or holds what the database cannot, TypeError when it is no JSON, and ValueError
    when the token would not last.
    """
    if lasts <= timedelta():
        raise ValueError("A token has to last for a while.")
    content = json.dumps(payload, allow_nan=False, ensure_ascii=False).encode()  # lone surrogates have no code
    if len(content) > LONGEST_PAYLOAD or b"\\u0000" in content:
        raise ValueError(f"The payload of a token has at most {LONGEST_PAYLOAD} bytes, and no NUL.")
    token = secrets.token_urlsafe(_BYTES)
    OneUseToken.objects.create(
        purpose=purpose, digest=keyed_hash.digest(_purpose(purpose), token), payload=payload, expires_at=Now() + lasts
    )
    return token


def redeem(purpose: str, text: Any) -> Any:
    """Return the payload of the token `text`, which works no more once the current transaction is committed.

    Of many who redeem it at once, one gets it; the others wait for that one's commit. Raises Invalid, also for whatever
    is no text at all.
    """
    if not isinstance(text, str) or not 0 < len(text) <= LONGEST:
        raise Invalid("unknown")
    rows = OneUseToken.objects.using(router.db_for_write(OneUseToken))  # a replica may not know of its end yet
    tokens = rows.filter(purpose=purpose, digest__in=keyed_hash.digests(_purpose(purpose), text))
    redeemed = tokens.filter(used_at=None, expires_at__gt=Now()).update(used_at=Now())
    found = tokens.values("payload", "used_at").first()
    if redeemed and found:
        return found["payload"]
    if found is None:
        raise Invalid("unknown")
    raise Invalid("used" if found["used_at"] else "expired")


def _purpose(purpose: str) -> str:
    return f"one-use token {purpose}"
