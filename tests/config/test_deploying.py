"""What `check --deploy` says, and does not say when all is as it should be."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time
from typing import Any

import pytest
from django.core import checks

from config import deploying, health
from config.database import backups
from config.database.roles import owner_connection
from healthcheck.results import Status

DATABASE = ["default"]


def ids(found: Iterable[checks.CheckMessage]) -> list[str | None]:
    found = list(found)
    assert all(message.hint for message in found), "each says what to do"
    return [message.id for message in found]


@pytest.fixture(autouse=True)
def right(settings: Any, tmp_path: Path) -> None:
    """A site that is set up as it should be."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_USE_TLS, settings.EMAIL_USE_SSL = "mail.example", True, False
    settings.DEFAULT_FROM_EMAIL = "Gatehouse <no-reply@gatehouse.example>"
    settings.HTTPS, settings.TRUSTED_PROXIES = True, 1
    settings.SECRET_KEY_SINCE, settings.SECRET_KEY_FALLBACKS = datetime.now(UTC).date(), []
    settings.BACKUP_DIRECTORY = tmp_path


def backed_up(directory: Path, age: timedelta) -> None:
    made_at = (datetime.now(UTC) - age).isoformat()
    facts = {"made_at": made_at, "database": "gatehouse", "server": 18, "program": 18, "migrations": [], "rows": {}}
    facts |= {"seals": 0, "newest_seal": "", "bytes": 0, "sha256": "", "format": backups.FORMAT}
    (directory / "one.dump").touch()
    (directory / "one.json").write_text(json.dumps(facts))


def test_of_right_settings_nothing_is_said() -> None:
    looks = [deploying.mail, deploying.proxy, deploying.secret_age]
    assert [message for look in looks for message in look()] == []
    registered = checks.registry.registry.get_checks(include_deployment_checks=True)
    looks += [deploying.clock, deploying.database_role, deploying.backup]
    assert set(looks) <= set(registered)
    assert not set(looks) & set(checks.registry.registry.get_checks())


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"EMAIL_BACKEND": "config.mail_preview.MailDirectoryBackend"}, "config.W010"),
        ({"EMAIL_USE_TLS": False}, "config.W011"),
        ({"EMAIL_USE_TLS": False, "EMAIL_HOST": "127.0.0.1"}, None),
        ({"EMAIL_USE_TLS": False, "EMAIL_HOST": "10.0.0.1"}, "config.W011"),
        ({"EMAIL_USE_TLS": False, "EMAIL_USE_SSL": True}, None),
        ({"DEFAULT_FROM_EMAIL": "Gatehouse <no-reply@localhost>"}, "config.W012"),
        ({"DEFAULT_FROM_EMAIL": "gatehouse@intranet"}, "config.W012"),
        ({"HTTPS": False}, "config.W013"),
        ({"HTTPS": False, "TRUSTED_PROXIES": 0}, "config.W014"),
        ({"SECRET_KEY_SINCE": None}, "config.W015"),
    ],
)
def test_each_wrong_setting_is_named(settings: Any, changes: dict[str, Any], code: str | None) -> None:
    for name, value in changes.items():
        setattr(settings, name, value)
    found = [*deploying.mail(), *deploying.proxy(), *deploying.secret_age()]
    assert ids(found) == ([code] if code else [])


def test_an_old_key_and_former_keys_that_linger_are_named(settings: Any) -> None:
    settings.AUDITLOG_RETENTION_DAYS = 120
    for days, fallbacks, codes in (
        (365, [], []),
        (366, [], ["config.W016"]),
        (120, ["former"], []),
        (121, ["former"], ["config.W017"]),
        (400, ["former"], ["config.W016", "config.W017"]),
    ):
        settings.SECRET_KEY_SINCE = datetime.now(UTC).date() - timedelta(days=days)
        settings.SECRET_KEY_FALLBACKS = fallbacks
        assert ids(deploying.secret_age()) == codes


@pytest.mark.django_db
def test_without_a_database_none_is_asked(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        for look in (deploying.clock, deploying.database_role, deploying.backup):
            assert look(databases=None) == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("off", "code", "verdict"),
    [
        (0.0, None, Status.PASS),
        (-1.5, None, Status.PASS),
        (2.5, "config.W020", Status.WARN),
        (-31.0, "config.E020", Status.FAIL),
    ],
)
def test_a_clock_that_is_wrong_is_named_and_shown(
    off: float, code: str | None, verdict: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("config.deploying.time", lambda: time() + off)
    found = deploying.clock(databases=DATABASE)
    assert ids(found) == ([code] if code else [])
    assert all(("ahead of" in message.msg) == (off > 0) for message in found)
    assert health.clock().status is verdict


@pytest.mark.django_db(databases=["default", "direct"])
def test_one_role_is_a_warning_and_too_many_rights_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert deploying.database_role(databases=DATABASE) == []
    with owner_connection() as owner:
        name, too_many = deploying.rights_too_many(owner)
    assert "owns tables" in too_many
    monkeypatch.setattr(deploying, "rights_too_many", lambda connection: (name, too_many))
    (found,) = deploying.database_role(databases=DATABASE)
    assert found.id == "config.E021"
    assert f"{name} of the running site owns tables" in found.msg
    monkeypatch.setattr(deploying, "has_two_roles", lambda: False)
    assert ids(deploying.database_role(databases=DATABASE)) == ["config.W021"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("hours", "code", "verdict"),
    [
        (None, "config.W022", (Status.PASS, "none")),
        (1, None, (Status.PASS, "ok")),
        (37, "config.W023", (Status.WARN, "backup_overdue")),
        (200, "config.W023", (Status.FAIL, "backup_overdue")),
    ],
)
def test_an_old_backup_is_named_and_shown(
    hours: int | None, code: str | None, verdict: tuple[Status, str], tmp_path: Path
) -> None:
    if hours is not None:
        backed_up(tmp_path, timedelta(hours=hours))
    assert ids(deploying.backup(databases=DATABASE)) == ([code] if code else [])
    result = health.backups_made()
    assert (result.status, result.code) == verdict
