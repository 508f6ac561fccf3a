"""`DATABASES` from the environment: a configured PostgreSQL, or the embedded one, never one for the other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured

from config.embedded_postgres import DATABASE, OWNER_ROLE, PORT, RUNTIME_ROLE
from config.env import Environment

REPLICA = "replica"  # what their aliases begin with


def databases(env: Environment, *, embedded_name: str = DATABASE) -> dict[str, dict[str, Any]]:
    """Return the aliases ``default`` (runtime role), ``direct`` (owner role, past any pooler), ``replica1`` and so on.

    Migrations, locks, DDL and COPY use ``direct``; pages and commands use ``default``; replicas are standbys that pages
    may read from. `embedded_name` is the database of the embedded server that is used.
    """
    url = env.text("DATABASE_URL")
    direct_url = env.text("DATABASE_DIRECT_URL") or url
    if direct_url and not url:
        env.fault("DATABASE_DIRECT_URL: is set without DATABASE_URL; set both or neither.")
    pooled = env.choice("DATABASE_POOLER", ("off", "transaction"), "off") == "transaction"
    timeouts = {
        "statement_timeout": env.seconds("DATABASE_STATEMENT_TIMEOUT", 30, low=0, high=3600),
        "lock_timeout": env.seconds("DATABASE_LOCK_TIMEOUT", 5, low=0, high=3600),
        "idle_in_transaction_session_timeout": env.seconds("DATABASE_IDLE_TIMEOUT", 60, low=0, high=3600),
    }
    common: dict[str, Any] = {
        "ENGINE": "config.database",
        "CONN_MAX_AGE": env.integer("DATABASE_CONN_MAX_AGE", 3600, low=0, high=86400),
        "CONN_HEALTH_CHECKS": env.flag("DATABASE_HEALTH_CHECKS", default=True),
    }
    default = common | _target(env, "DATABASE_URL", url, RUNTIME_ROLE, embedded_name)
    direct = common | _target(env, "DATABASE_DIRECT_URL", direct_url, OWNER_ROLE, embedded_name)
    if pooled:
        # PgBouncer in transaction mode hands each transaction another session: a cursor held on the server
        # and settings sent at connection start would belong to somebody else. Set the timeouts on the role.
        default["DISABLE_SERVER_SIDE_CURSORS"] = True
    else:
        default["OPTIONS"]["options"] = " ".join(
            f"-c {name}={round(seconds * 1000)}" for name, seconds in timeouts.items()
        )
    # A migration may run long, but must not queue every reader behind its lock.
    direct["OPTIONS"]["options"] = f"-c lock_timeout={round(timeouts['lock_timeout'] * 1000)}"
    # In tests both aliases are one database, made by the owner and used with the rights of the runtime role.
    direct["TEST"] = {"MIRROR": "default"}
    found = {"default": default, "direct": direct}
    for number, replica_url in enumerate(env.words("DATABASE_REPLICA_URLS"), 1):
        replica = common | _target(env, "DATABASE_REPLICA_URLS", replica_url, RUNTIME_ROLE, embedded_name)
        # The question how far it is shows that it lives (`replicas`). A cursor held on the server would be asked piece
        # by piece, past the time that one statement has.
        replica |= {"CONN_HEALTH_CHECKS": False, "DISABLE_SERVER_SIDE_CURSORS": True, "TEST": {"MIRROR": "default"}}
        if not pooled:
            replica["OPTIONS"]["options"] = f"{default['OPTIONS']['options']} -c default_transaction_read_only=on"
        found[f"{REPLICA}{number}"] = replica
    if replicas_of(found) and not url:
        env.fault("DATABASE_REPLICA_URLS: is set without DATABASE_URL; the embedded server has no standbys.")
    return found


def replicas_of(aliases: Iterable[str]) -> list[str]:
    """Return those of `aliases` that are standbys, in their order."""
    return [alias for alias in aliases if alias.startswith(REPLICA)]


def _target(env: Environment, name: str, url: str, embedded_role: str, embedded_name: str) -> dict[str, Any]:
    """The server part of one alias: from `url`, or the embedded server when it is empty."""
    options: dict[str, Any] = {"application_name": "gatehouse"}
    if not url:
        options["embedded"] = True
        return {"NAME": embedded_name, "USER": embedded_role, "PORT": str(PORT), "OPTIONS": options}
    try:
        target: dict[str, Any] = environ.Env.db_url_config(url)
    except (ValueError, TypeError, ImproperlyConfigured):
        target = {}
    if "postgresql" not in target.get("ENGINE", "") or not target.get("NAME"):
        # The value itself may hold a password, so it is not repeated.
        env.fault(f"{name}: must look like postgresql://user:password@host:5432/name.")
        return {"OPTIONS": options}
    options |= {"keepalives_idle": 30, "keepalives_interval": 5, "keepalives_count": 3}
    options |= target.get("OPTIONS", {})  # sslmode, sslrootcert and whatever else libpq knows
    return target | {"ENGINE": "config.database", "OPTIONS": options}
