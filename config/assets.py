"""The site's static files: collected, hashed and compressed, when they have changed."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.management import call_command


def collect() -> None:
    """Run ``collectstatic`` unless every source is older than what it made last; it takes seconds."""
    made = Path(settings.STATIC_ROOT) / "staticfiles.json"
    if not made.exists() or _newest_source() > made.stat().st_mtime:
        call_command("collectstatic", verbosity=0, interactive=False)


def _newest_source() -> float:
    sources = (storage.path(path) for finder in get_finders() for path, storage in finder.list([]))
    # ctime, because an installer may set the modification time to that of the release.
    return max(Path(source).stat().st_ctime for source in sources)
