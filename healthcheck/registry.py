"""The checks that the worker runs. An app joins with one call of `register` in its `AppConfig.ready()`.

Each has an address of its own, ``/health/<name>``. None of them can make the site unready: what it finds bad is a
warning of the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from django.http import HttpRequest

from healthcheck.results import Result

# Answered by the probes themselves, or addresses of other pages.
_TAKEN = {"live", "ready", "metrics", "system", "jobs", "cleanup", "database", "migrations", "draining", "overall"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """`name` is a slug; `every` is in seconds; a check of scope ``host`` is run on each host, others on one of them.

    `run` may take up to `seconds`; what it raises is a failure with the code ``error``. `detail` adds to the answer
    of the check's own address, for whoever asks: it must look at ``request.user`` itself.
    """

    name: str
    label: Any  # str or lazy translation
    run: Callable[[], Result]
    every: float = 60.0
    seconds: float = 10.0
    scope: Literal["site", "host"] = "site"
    detail: Callable[[HttpRequest], dict[str, Any]] | None = None


_checks: dict[str, Check] = {}


def register(check: Check) -> None:
    """Add a check; raises ValueError when its name is taken by another."""
    if check.name in _TAKEN or check.name in _checks:
        raise ValueError(f"There is a check called {check.name!r} already.")
    _checks[check.name] = check


def checks() -> dict[str, Check]:
    """Return every registered check by its name, in the order of registration."""
    return dict(_checks)
