"""A database of one's own for tests of storage: nobody else's transaction holds back what can be sealed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from accounts import exporting, life_cycle
from config import schedule
from config.embedded_postgres import OWNER_ROLE, RUNTIME_ROLE
from tests.live import Database


@contextlib.contextmanager
def used_by_django(database: Database) -> Iterator[None]:
    """Let Django's connections, those of new threads too, be to `database`, with both roles."""
    former = {alias: connections[alias].settings_dict for alias in connections}
    of_new_threads = dict(connections.settings)
    for alias, role in (("default", RUNTIME_ROLE), ("direct", OWNER_ROLE)):
        options = {name: value for name, value in former[alias]["OPTIONS"].items() if name != "embedded"}
        host = str(database.cluster.socket_directory())
        place = {"NAME": database.name, "HOST": host, "PORT": "", "USER": role, "PASSWORD": "", "OPTIONS": options}
        _point(alias, former[alias] | place)
        connections.settings[alias] = former[alias] | place
    try:
        with _without_sample_apps():
            yield
    finally:
        for alias, settings in former.items():
            _point(alias, settings)
        connections.settings.update(of_new_threads)


@contextlib.contextmanager
def _without_sample_apps() -> Iterator[None]:
    """Nobody asks them for anything: only the test database has their tables."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((life_cycle, "_erasers"), (exporting, "_parts"), (schedule, "_work")):
            registered: dict[Any, Any] = getattr(owner, name)
            patch.setattr(
                owner, name, {key: value for key, value in registered.items() if not _is_sample(value or key)}
            )
        yield


def _is_sample(work: Any) -> bool:
    return bool(work.__module__.startswith("tests.") or work.__name__ == "keep_queries_popular_fresh")


def _point(alias: str, settings: dict[str, Any]) -> None:
    connections[alias].close()
    connections[alias].settings_dict = settings
