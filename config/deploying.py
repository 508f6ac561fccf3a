"""What `check --deploy` says of a site before it goes live, with ``--database default`` also of its server and host.

The settings refuse what cannot work (`config.env`); here is what works and still is not as it should be. What asks the
database or the host is left out without ``--database``, so that an image can be checked where it is built.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from email.utils import parseaddr
from time import time
from typing import Any

from django.conf import settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from config.database import backups
from config.database.roles import has_two_roles

OLDEST_KEY = timedelta(days=365)
FALLBACKS_FOR = timedelta(days=90)  # at least; as long as the trail is kept if that is longer
_MAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
_RIGHTS = """
SELECT rolname, rolsuper, rolbypassrls, rolcreaterole,
    EXISTS (
        SELECT FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v', 'm')
            AND pg_has_role(relowner, 'MEMBER')
    ),
    has_schema_privilege('public', 'CREATE')
FROM pg_roles WHERE rolname = current_user
"""
Found = Iterator[checks.CheckMessage]


def of_settings(look: Callable[[], Found]) -> Callable[..., list[checks.CheckMessage]]:
    """Register a check that asks nobody."""

    def check(**kwargs: Any) -> list[checks.CheckMessage]:
        return list(look())

    checks.register(check, checks.Tags.security, deploy=True)
    return check


def of_the_running_site(look: Callable[[str], Found]) -> Callable[..., list[checks.CheckMessage]]:
    """Register a check that needs the database's alias, and is left out without ``--database``."""

    def check(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
        return [message for alias in databases or () if alias == DEFAULT_DB_ALIAS for message in look(alias)]

    checks.register(check, checks.Tags.database, deploy=True)
    return check


# Settings


@of_settings
def mail() -> Found:
    if settings.EMAIL_BACKEND != _MAIL_BACKEND:
        yield checks.Warning(
            "No mail leaves this site: nobody can confirm an address or reset a password.",
            hint="Let EMAIL_URL name a mail server, like smtp+tls://user:password@mail.example.com:587.",
            id="config.W010",
        )
    elif not (settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL or _is_here(settings.EMAIL_HOST)):
        yield checks.Warning(
            "Mails travel to the mail server unencrypted, with their links in them.",
            hint="Begin EMAIL_URL with smtp+tls:// or smtp+ssl://.",
            id="config.W011",
        )
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    if _is_here(domain) or "." not in domain:
        yield checks.Warning(
            "Mails come from an address that nobody can answer, and that filters refuse.",
            hint="Set DEFAULT_FROM_EMAIL to an address at a domain of yours.",
            id="config.W012",
        )


def _is_here(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host in ("", "localhost") or host.endswith((".localhost", ".localdomain"))


@of_settings
def proxy() -> Found:
    if settings.TRUSTED_PROXIES and not settings.HTTPS:
        yield checks.Warning(
            "X-Forwarded-For is believed, but BASE_URL has no https: without a proxy anybody chooses an address to be "
            "counted and recorded by.",
            hint="Set TRUSTED_PROXIES=0, or let the proxy end https and say so in BASE_URL.",
            id="config.W013",
        )
    elif not settings.HTTPS:
        yield checks.Warning(
            "BASE_URL has no https: passwords travel in the clear.",
            hint="Put a proxy in front that ends https (docs/nginx.conf); set BASE_URL and TRUSTED_PROXIES=1.",
            id="config.W014",
        )


@of_settings
def secret_age() -> Found:
    since: date | None = settings.SECRET_KEY_SINCE
    if since is None:
        yield checks.Warning(
            "Nobody has said since when SECRET_KEY is in use, so nobody is reminded to replace it.",
            hint="Set SECRET_KEY_SINCE to the day, like 2026-11-30.",
            id="config.W015",
        )
        return
    age = timezone.now().date() - since
    if age > OLDEST_KEY:
        yield checks.Warning(
            f"SECRET_KEY is {age.days} days old.",
            hint="Move it to SECRET_KEY_FALLBACKS, make a new one, and set SECRET_KEY_SINCE to that day.",
            id="config.W016",
        )
    if settings.SECRET_KEY_FALLBACKS and age > max(FALLBACKS_FOR, timedelta(days=settings.AUDITLOG_RETENTION_DAYS)):
        yield checks.Warning(
            f"Former secret keys are accepted still, {age.days} days after they were replaced.",
            hint="Empty SECRET_KEY_FALLBACKS, if `check --database default` then says nothing of names of erased "
            "people (accounts.W001): they are reserved under these keys unless there was a NAME_HASH_KEY.",
            id="config.W017",
        )


# The running site


def clock_offset(alias: str = DEFAULT_DB_ALIAS) -> float:
    """Seconds that this host's clock is ahead of the database's, to half the time of a round trip."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT 1")  # so that no connecting is measured
        before = time()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        theirs = float(cursor.fetchone()[0])
        return (before + time()) / 2 - theirs


@of_the_running_site
def clock(alias: str) -> Found:
    offset = clock_offset(alias)
    most, far = settings.HEALTH_LIMITS["clock"]
    kind, number = (checks.Error, "E020") if abs(offset) >= far else (checks.Warning, "W020")
    if abs(offset) >= most:
        yield kind(
            f"The clock of this host is {abs(offset):.1f} s {'ahead of' if offset > 0 else 'behind'} the database's.",
            hint="Let both follow a time server (NTP): links, codes of second factors and locks end by the clock.",
            id=f"config.{number}",
        )


@of_the_running_site
def database_role(alias: str) -> Found:
    if not has_two_roles():
        yield checks.Warning(
            "One database role does it all: a stolen web process could alter tables and the audit trail.",
            hint="Make two roles (docs/operations.md) and set DATABASE_DIRECT_URL.",
            id="config.W021",
        )
        return
    name, too_many = rights_too_many(connections[alias])
    if too_many:
        yield checks.Error(
            f"The role {name} of the running site {', '.join(too_many)}.",
            hint="Let DATABASE_URL name a role with no more than LOGIN, and let the other own everything.",
            id="config.E021",
        )


def rights_too_many(connection: BaseDatabaseWrapper) -> tuple[str, list[str]]:
    """Return the role of `connection` and in words what it is or may that the running site need not."""
    with connection.cursor() as cursor:
        cursor.execute(_RIGHTS)
        name, *held = cursor.fetchone()
    rights = ("is a superuser", "passes row-level security", "makes roles", "owns tables", "may make tables")
    return name, [right for right, has in zip(rights, held, strict=True) if has]


def backup_age() -> timedelta | None:
    """How old the newest backup in BACKUP_DIRECTORY is; None when there is none."""
    made = [datetime.fromisoformat(backup.manifest.made_at) for backup in backups.every(settings.BACKUP_DIRECTORY)[:1]]
    return datetime.now(UTC) - made[0] if made else None


@of_the_running_site
def backup(alias: str) -> Found:
    age = backup_age()
    if age is None:
        yield checks.Warning(
            "There is no backup in BACKUP_DIRECTORY.",
            hint="Run manage.py backup every night, and --verify every week; or silence this where another host does.",
            id="config.W022",
        )
    elif age >= timedelta(hours=settings.HEALTH_LIMITS["backups"][0]):
        yield checks.Warning(
            f"The newest backup is {age / timedelta(hours=1):.0f} hours old.",
            hint="See why manage.py backup did not run, and run it.",
            id="config.W023",
        )
