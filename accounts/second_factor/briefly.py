"""Keeps a secret in the session of whoever is signed in: encrypted, and for ten minutes.

For what has to survive a reload, and would be lost or used up if the page that shows it kept it to itself.
"""

from __future__ import annotations

import time

from django.http import HttpRequest

from accounts.second_factor import encryption

LASTS = 10 * 60  # seconds


def keep(request: HttpRequest, name: str, text: str) -> None:
    """Keep `text` under `name`, in place of what was there."""
    request.session[name] = [encryption.encrypt(text, about=_place(request, name)), int(time.time())]


def kept(request: HttpRequest, name: str) -> str | None:
    """Return what is kept under `name`, or None when there is nothing any more."""
    encrypted, at = request.session.get(name, ("", 0))
    if not 0 <= time.time() - at < LASTS:
        return None
    return encryption.decrypt(encrypted, about=_place(request, name))


def forget(request: HttpRequest, name: str) -> None:
    request.session.pop(name, None)


def _place(request: HttpRequest, name: str) -> str:
    return f"session {name} {request.user.pk}"
