"""The site's own configuration of gunicorn, less what it does at the start for the site's apps."""

from __future__ import annotations

from typing import Any

from config.gunicorn import *  # noqa: F403


def on_starting(server: Any) -> None:  # type: ignore[no-redef]  # that is the point
    """Nothing is installed that could be looked after."""
