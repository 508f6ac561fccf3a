"""Whether a password is known from leaks, asked elsewhere without telling it (``PASSWORD_BREACH_CHECK=remote``).

Five of the forty hexadecimal digits of its SHA-1 go out, and all hashes that begin so come back (k-anonymity, the
range API of Have I Been Pwned). Whoever has no answer in time, or none that makes sense, is not kept waiting: the
password counts as unknown, and a line says so.
"""

from __future__ import annotations

import hashlib
import re
import time
from http.client import HTTPException
from queue import Empty, SimpleQueue
from threading import BoundedSemaphore, Thread
from typing import Any
from urllib.request import HTTPRedirectHandler, Request, build_opener

import structlog
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

log = structlog.get_logger("accounts.breaches")

BUDGET = 1.0  # seconds in all: name look-up, connection, answer
LONGEST_ANSWER = 1_000_000  # bytes; real ones have 40,000
MOST_AT_ONCE = 16  # questions of one process: a service that hangs must not gather threads
_LINE = re.compile(r"\s*([0-9A-Fa-f]{35})\s*:\s*([0-9]{1,18})\s*")
_asking = BoundedSemaphore(MOST_AT_ONCE)


class _NoRedirects(HTTPRedirectHandler):
    """What the service is, the settings say; an answer that names another one is a failure."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


_opener = build_opener(_NoRedirects)


class NoAnswer(Exception):
    """The service did not answer, or not in time; the message says which."""


def require_unknown(password: str) -> None:
    """Raise ValidationError (``password_breached``) when the service knows it. Never call it inside a transaction."""
    if settings.PASSWORD_BREACH_CHECK == "remote" and is_known(password):  # noqa: S105
        text = _("This password is known from a leak at another site. Please choose another one.")
        raise ValidationError(text, code="password_breached")


def is_known(password: str) -> bool:
    """Ask the service; no answer counts as no, and is noted."""
    # What the service sorts by, not a way to keep passwords.
    digest = hashlib.sha1(password.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest().upper()
    try:
        answer = _answer_in_time(digest[:5])
    except NoAnswer as failure:
        log.warning("breach_check.failed", error=str(failure))
        return False
    return digest[5:] in leaked_suffixes(answer)


def leaked_suffixes(answer: str) -> set[str]:
    """Read ``SUFFIX:COUNT`` lines; what is none is passed over, and so is padding, whose count is 0."""
    lines = (_LINE.fullmatch(line) for line in answer.splitlines())
    return {line[1].upper() for line in lines if line and int(line[2])}


def _answer_in_time(prefix: str) -> str:
    """Raise NoAnswer after `BUDGET` at the latest.

    In a thread of its own, because nothing else bounds the look-up of a name.
    """
    if not _asking.acquire(blocking=False):
        raise NoAnswer("too many questions are open")
    told: SimpleQueue[str | NoAnswer] = SimpleQueue()
    Thread(target=_ask, args=(prefix, time.monotonic() + BUDGET, told), daemon=True).start()
    try:
        answer = told.get(timeout=BUDGET)
    except Empty:
        raise NoAnswer("no answer in time") from None
    if isinstance(answer, NoAnswer):
        raise answer
    return answer


def _ask(prefix: str, until: float, told: SimpleQueue[str | NoAnswer]) -> None:
    try:
        told.put(_fetch(prefix, until))
    except (OSError, HTTPException, ValueError) as failure:
        told.put(NoAnswer(type(failure).__name__))
    except NoAnswer as failure:
        told.put(failure)
    finally:
        _asking.release()


def _fetch(prefix: str, until: float) -> str:
    # With padding an onlooker cannot tell by the length of the answer which prefix was asked for.
    headers = {"Add-Padding": "true", "User-Agent": "Gatehouse", "Accept": "text/plain"}
    request = Request(settings.PASSWORD_BREACH_URL + prefix, headers=headers)  # noqa: S310 - http(s), see settings
    body = b""
    with _opener.open(request, timeout=BUDGET) as response:
        while piece := response.read1(65_536):
            body += piece
            if len(body) > LONGEST_ANSWER or time.monotonic() > until:
                raise NoAnswer("an answer without end")
    return body.decode("utf-8", "replace")
