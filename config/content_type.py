"""Which Content-Type headers are safe to hand to Django."""

from __future__ import annotations

import re

MALFORMED = "malformed/malformed"
_NAME = r"[A-Za-z0-9!#$&^_.+-]+"
_VALUE = r"(?:[A-Za-z0-9!#$&^_.+'()/:=?,-]+|\"[^\"\\\x00-\x1f]*\")"
_PLAIN = re.compile(rf"{_NAME}/{_NAME}(?:[ \t]*;[ \t]*[A-Za-z0-9_-]+={_VALUE})*[ \t]*;?[ \t]*")

_OTHER_CHARSET = re.compile(r';[ \t]*charset=(?!"?utf-8"?[ \t]*(?:;|$))', re.IGNORECASE)


def tamed(header: str) -> str:
    """Return `header`, or `MALFORMED` unless it is ``type/subtype`` with plain parameters (RFC 9110, 8.3.1), in UTF-8.

    Django parses the header while it builds the request. An extended parameter (``charset*=hex''x``, RFC 2231), or
    a charset beside a query string, makes it decode with a codec of the caller's choice: an exception before any
    middleware.
    """
    plain = len(header) <= 256 and _PLAIN.fullmatch(header) and not _OTHER_CHARSET.search(header)
    return header if plain or not header else MALFORMED
