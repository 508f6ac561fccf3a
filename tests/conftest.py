"""What all tests share: a real PostgreSQL that dies with them, and fast but real password hashes."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

# Before Django reads its settings. What the environment already says wins, so that the suite can be run
# against another PostgreSQL (DATABASE_URL) or with other settings.
for name, value in {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "ENVIRONMENT": "development",
    "SECRET_KEY": secrets.token_urlsafe(64),
    "EMBEDDED_POSTGRES": "throwaway",
    "BCRYPT_ROUNDS": "4",
    "LOG_FORMAT": "json",
}.items():
    os.environ.setdefault(name, value)

import django  # noqa: E402 - reads the settings that were just given
from django.conf import settings  # noqa: E402
from django.test import client  # noqa: E402

settings.INSTALLED_APPS += [f"tests.hostapp{one}" for one in ("", ".tasks", ".queries", ".machines")]
settings.INSTALLED_APPS.append("tests.errands")
django.setup()
# A parallel process that inherits it would set Django up before it reads this file, and without that app.
del os.environ["DJANGO_SETTINGS_MODULE"]

_store = client.store_rendered_templates  # type: ignore[attr-defined]  # not documented, and so without types


def _store_pages(store: Any, signal: Any, sender: Any, template: Any, context: Any, **kwargs: Any) -> None:
    """As Django's own, but for parts of forms, which make up most of a page: each copy of a context takes its time."""
    if not str(template.name).startswith(("django/forms/", "admin/widgets/")):
        _store(store, signal, sender, template, context, **kwargs)


client.store_rendered_templates = _store_pages  # type: ignore[attr-defined]


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return
    from django.conf import settings

    # The parallel processes inherit the cluster that is made here, and its address, by the environment.
    from config import assets
    from config.database import embedded
    from tests.live import MIGRATED_FILES

    if embedded.is_embedded():
        embedded.ensure_running(None)
    os.environ[MIGRATED_FILES] = tempfile.mkdtemp(prefix="gatehouse-files-")
    config.add_cleanup(partial(shutil.rmtree, os.environ[MIGRATED_FILES]))
    assets.collect()
    Path(settings.BASE_DIR / ".artefacts").mkdir(exist_ok=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One process more than there are cores: a third of the time, tests wait for what they have killed or frozen."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment: None, django_db_blocker: DjangoDbBlocker, django_db_modify_db_settings: None
) -> Iterator[None]:
    """Make the test database as the owner; tests then run with the rights of the runtime role."""
    from django.test.utils import setup_databases, teardown_databases

    from auditlog import channel
    from config.database.roles import as_owner
    from healthcheck.readiness import readiness

    with django_db_blocker.unblock():
        with as_owner():
            made = setup_databases(verbosity=0, interactive=False)
        yield
        # A thread that outlives its test (an async view's is one) keeps its connection, and the database with it.
        for wrapper in list(channel._channels):
            if wrapper.connection is not None:
                wrapper.connection.close()
        readiness.close()
        with as_owner():
            teardown_databases(made, verbosity=0)


@pytest.fixture(autouse=True)
def nothing_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker in a test cleans up only where the test is about that: it takes a connection of the owner's."""
    from config import retention

    monkeypatch.setattr(retention, "_due", float("inf"))


@pytest.fixture(autouse=True)
def this_is_no_web_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever test has imported `config.asgi` or `config.wsgi`, others act for the site, as a command does."""
    from config import row_security

    monkeypatch.setattr(row_security, "_outside_requests", row_security.EVERYBODY)
