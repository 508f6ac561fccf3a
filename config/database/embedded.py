"""The one embedded PostgreSQL of this project, chosen by the environment."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from django.conf import settings
from django.db.utils import OperationalError

from config.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError

# Tells child processes which throw-away cluster their parent made.
THROWAWAY_HOME = "EMBEDDED_POSTGRES_HOME"


@cache
def cluster() -> EmbeddedPostgres:
    """The persistent cluster in ``.postgres/``, or the throw-away one of this family of processes."""
    if settings.EMBEDDED_POSTGRES == "persistent":
        return EmbeddedPostgres(settings.BASE_DIR / ".postgres")
    if home := os.environ.get(THROWAWAY_HOME):
        return EmbeddedPostgres(Path(home), throwaway=True)
    made = EmbeddedPostgres.throwaway_cluster()
    os.environ[THROWAWAY_HOME] = str(made.status().data_directory.parents[1])
    return made


def ensure_running(timeout: float | None) -> None:
    """Start the server unless it runs; wait at most `timeout` seconds (None: a minute).

    Raises OperationalError, like any unreachable database, when it cannot be started in time.
    """
    try:
        cluster().ensure_running(60 if timeout is None else timeout)
    except EmbeddedPostgresError as fault:
        raise OperationalError(str(fault)) from fault


def socket_directory() -> str:
    """Return where the server's socket is, or would be: connecting to a stopped one then simply fails."""
    try:
        server = cluster()
    except EmbeddedPostgresError as fault:
        raise OperationalError(str(fault)) from fault
    try:
        return str(server.socket_directory())
    except EmbeddedPostgresError:
        return str(server.status().data_directory)


def is_embedded() -> bool:
    """Whether this project runs on its own server rather than on a configured one."""
    return bool(settings.DATABASES["default"]["OPTIONS"].get("embedded"))
