"""A database of one's own for tests of storage: nobody else's transaction holds back what can be sealed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from django.db import connections

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
        yield
    finally:
        for alias, settings in former.items():
            _point(alias, settings)
        connections.settings.update(of_new_threads)


def _point(alias: str, settings: dict[str, Any]) -> None:
    connections[alias].close()
    connections[alias].settings_dict = settings
