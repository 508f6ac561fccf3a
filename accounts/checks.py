"""What `manage.py check` says about accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core import checks
from django.db import ProgrammingError

from accounts import identity
from accounts.models import ErasedName


@checks.register(checks.Tags.database)
def names_stay_reserved(*, databases: Sequence[str] | None = None, **kwargs: Any) -> list[checks.CheckMessage]:
    """Warn of names of erased people that are free again, because nobody knows the key of their digests any more."""
    known = [key.id for key in identity.name_keys()]
    return [warning for using in databases or () for warning in _of_unknown_keys(using, known)]


def _of_unknown_keys(using: str, known: list[str]) -> list[checks.CheckMessage]:
    try:
        lost = ErasedName.objects.using(using).exclude(hash_key__in=known).first()
    except ProgrammingError:  # not migrated yet
        return []
    if lost is None:
        return []
    return [
        checks.Warning(
            f"Names of erased people were reserved with a key that is gone ({lost.hash_key}): they are free again.",
            hint="Put the former NAME_HASH_KEY into NAME_HASH_KEY_FALLBACKS, or the former SECRET_KEY into "
            "SECRET_KEY_FALLBACKS if there was none.",
            id="accounts.W001",
        )
    ]
