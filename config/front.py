"""Probes answered by gunicorn's own loop, before a thread is taken for them.

Of a health probe's cost nearly all is the server's: the way to a thread and back, and parsing what is always the same.
And whoever may kill this process for not answering should hear that it lives also while every thread is busy.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from healthcheck import probes

# Whole, alone and without a body: everything else is for gunicorn to read.
_PROBE = re.compile(rb"GET (/health/(?:live|ready)/?) HTTP/1\.1\r\n((?:[!-9;-~]+:[\t -~]*\r\n)*)\r\n")
_NOT_FOR_US = {"HTTP_CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING", "HTTP_EXPECT", "HTTP_UPGRADE"}


def answer(head: bytes, paths: Collection[str]) -> tuple[bytes, bool] | None:
    """Return the answer to the request `head` and whether the connection stays open.

    None when it is no probe at one of `paths`, or one that has to ask the database first.
    """
    asked = _PROBE.fullmatch(head)
    path = asked[1].decode() if asked else ""
    if asked is None or path not in paths:
        return None
    meta = {}
    for line in asked[2].decode("ascii").splitlines():
        name, _, value = line.partition(":")
        meta[f"HTTP_{name.upper().replace('-', '_')}"] = value.strip()
    found = probes.known_answer(path, "http", meta)
    if found is None or _NOT_FOR_US & meta.keys():
        return None
    stays = "close" not in meta.get("HTTP_CONNECTION", "").lower()
    return found.as_bytes("keep-alive" if stays else "close"), stays
