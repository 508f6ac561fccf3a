"""Taking a host out: a file on it, so that all of its processes know, also those that start later."""

from __future__ import annotations

import os
from pathlib import Path

from django.conf import settings


def is_draining() -> bool:
    return os.path.exists(settings.HEALTH_DRAIN_FILE)


def drain() -> None:
    """From its next probe on, no process of this host is ready. Raises OSError when the file cannot be made."""
    Path(settings.HEALTH_DRAIN_FILE).touch()


def end_drain() -> None:
    """Let this host be ready again. Raises OSError when the file cannot be removed."""
    Path(settings.HEALTH_DRAIN_FILE).unlink(missing_ok=True)
