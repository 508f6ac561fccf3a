"""Lets the audit trail tell which settings the site ran with, and when they changed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from django.conf import settings
from django.db import connection, transaction

import auditlog
from auditlog import describing, events
from auditlog.models import Record
from config.database.locks import hold_until_commit

RESOURCE = "configuration"
# A password stands in the addresses of databases and mail servers.
_LIKE_SECRETS = ("_KEY", "_KEYS", "_FALLBACKS", "_SECRET", "_TOKEN", "_DIGEST", "_DIGESTS", "_URL")
_CLEAR = ("BASE_URL",)


@transaction.atomic
def record_changes() -> set[str]:
    """Record which settings differ from those recorded last, if any do; returns their names."""
    hold_until_commit("configuration")  # the processes of a site start at the same moment
    before, now = recorded(), effective()
    changed = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
    if changed:
        old, new = ({name: side[name] for name in sorted(changed & side.keys())} for side in (before, now))
        auditlog.record("configure", RESOURCE, old=old or None, new=new, clear=changed)
    return changed


def recorded() -> dict[str, Any]:
    """Return the settings that the trail knows, as it knows them. Records hold changes only, so they are added up."""
    known: dict[str, Any] = {}
    for record in Record.objects.filter(resource=RESOURCE, action="configure").order_by("id"):
        for name in record.old or {}:
            known.pop(name, None)
        known |= describing.plain(record.new or {})  # 0.1 as it was said, which the decimal is not
    return known


def effective() -> dict[str, Any]:
    """Return every variable that the settings were read from, with its value now; secrets as fingerprints."""
    values: dict[str, Any] = settings.ENVIRONMENT_VARIABLES
    secret = {name: str(value) for name, value in values.items() if value and _is_secret(name)}
    return dict(events.masked(values | _fingerprints(secret), clear=values))


def _is_secret(name: str) -> bool:
    return name.endswith(_LIKE_SECRETS) and name not in _CLEAR


def _fingerprints(secrets: dict[str, str]) -> dict[str, Any]:
    """Those that the trail makes of masked values, of a digest: statements may be logged where secrets must not be."""
    with connection.cursor() as cursor:
        digests = [hashlib.sha256(value.encode()).hexdigest() for value in secrets.values()]
        cursor.execute("SELECT auditlog_fingerprint_of(digest) FROM unnest(%s::text[]) AS digest", [digests])
        return dict(zip(secrets, (json.loads(row[0]) for row in cursor.fetchall()), strict=True))
