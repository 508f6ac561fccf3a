"""What a database server must be; `migrate`, the web server and the worker look before they start."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, OperationalError, connections

from config.embedded_postgres import OLDEST_MAJOR


@checks.register(checks.Tags.database)
def server_is_fit(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Refuse a server that is too old and, in production, one that acknowledges what a crash can lose."""
    if not databases:
        return []
    with connections[databases[0]].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('server_version_num')::int / 10000,"
            " current_setting('fsync'), current_setting('synchronous_commit')"
        )
        major, fsync, synchronous_commit = cursor.fetchone()
    found: list[checks.CheckMessage] = []
    if major < OLDEST_MAJOR:
        found.append(
            checks.Error(
                f"PostgreSQL {major} is too old; Gatehouse needs {OLDEST_MAJOR} or newer.",
                hint="Upgrade the server that DATABASE_URL names.",
                id="config.E001",
            )
        )
    if not settings.DEVELOPMENT and "off" in (fsync, synchronous_commit):
        found.append(
            checks.Error(
                f"PostgreSQL runs with fsync={fsync} and synchronous_commit={synchronous_commit}: "
                "a crash would lose signups that were acknowledged.",
                hint="Set both to on, on the server or on the role.",
                id="config.E002",
            )
        )
    return found


def refuse_unfit_server() -> None:
    """End a start on an unfit server with a clear line. A server that is away is no reason not to start."""
    try:
        found = server_is_fit(databases=[DEFAULT_DB_ALIAS])
    except OperationalError:
        return
    finally:
        connections.close_all()  # none may be shared with the processes that are forked next
    if found:
        sys.exit("\n".join(f"Gatehouse cannot start: {message.msg} {message.hint}" for message in found))
