"""Caches that do not do what a cache must."""

from __future__ import annotations

from typing import Any

from django.core.cache.backends.locmem import LocMemCache


class Forgetful(LocMemCache):
    """Says that it keeps, and does not."""

    def set(self, key: Any, value: Any, *details: Any, **more: Any) -> None:
        """Forget it."""


class Stubborn(LocMemCache):
    """Says that it deletes, and does not."""

    def delete(self, key: Any, version: Any = None) -> bool:
        return True
