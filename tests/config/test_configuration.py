"""The trail tells which settings the site ran with: what changed, when, and no secret."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from auditlog.models import Record
from config import configuration
from config.configuration import effective, record_changes, recorded
from config.worker import Worker
from tests.live import manage, own_database

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the settings were read from; a test may change it."""
    values = dict(settings.ENVIRONMENT_VARIABLES)
    monkeypatch.setattr(settings, "ENVIRONMENT_VARIABLES", values)
    return values


def last() -> Record:
    return Record.objects.filter(resource="configuration").order_by("-id")[:1].get()


def test_the_first_start_records_all_and_the_next_nothing(variables: dict[str, Any]) -> None:
    record_changes()
    assert recorded() == effective()
    assert record_changes() == set()
    assert last().action == "configure"


def test_a_change_is_recorded_with_old_and_new_and_nothing_else(variables: dict[str, Any]) -> None:
    record_changes()
    variables["PASSWORD_POLICY"] = "nist"
    variables["LOGIN_FAILURE_LIMIT"] = 3
    variables["SIGNUP_EMAIL_DOMAINS"] = ["example.com"]
    assert record_changes() == {"PASSWORD_POLICY", "LOGIN_FAILURE_LIMIT", "SIGNUP_EMAIL_DOMAINS"}
    found = last()
    assert found.old == {"PASSWORD_POLICY": "composition", "LOGIN_FAILURE_LIMIT": 5, "SIGNUP_EMAIL_DOMAINS": []}
    assert found.new == {
        "PASSWORD_POLICY": "nist",
        "LOGIN_FAILURE_LIMIT": 3,
        "SIGNUP_EMAIL_DOMAINS": ["example.com"],
    }
    assert found.actor_kind == "command"
    del variables["LOGIN_FAILURE_LIMIT"]
    record_changes()
    assert (last().old, last().new) == ({"LOGIN_FAILURE_LIMIT": 3}, {})
    assert recorded() == effective()


def test_a_number_with_a_point_is_no_change_at_every_start(variables: dict[str, Any]) -> None:
    variables["DATABASE_DEADLINE"] = 0.1
    record_changes()
    assert record_changes() == set()
    variables["DATABASE_DEADLINE"] = 0.3
    assert record_changes() == {"DATABASE_DEADLINE"}
    assert str(last().old) == "{'DATABASE_DEADLINE': Decimal('0.1')}"


def test_secrets_are_fingerprints_by_which_a_change_shows(variables: dict[str, Any]) -> None:
    variables["EMAIL_URL"] = "smtp+tls://user:hush-hush@mail.example.com:587"
    variables["DATABASE_URL"] = "postgresql://app:hush-hush@db.example.com/gatehouse"
    record_changes()
    variables["EMAIL_URL"] = "smtp+tls://user:hush-more@mail.example.com:587"
    assert record_changes() == {"EMAIL_URL"}
    found = last()
    assert found.old is not None and found.new is not None
    prints = [side["EMAIL_URL"]["masked"] for side in (found.old, found.new)]
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in prints) and prints[0] != prints[1]
    text = str([(each.old, each.new) for each in Record.objects.filter(resource="configuration")])
    assert "hush" not in text
    assert settings.SECRET_KEY not in text


def test_every_variable_of_the_example_is_known_and_secrets_stay_masked() -> None:
    named = set(re.findall(r"^#?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.M))
    assert named - effective().keys() == set()
    assert effective()["SECRET_KEY"].keys() == {"masked"}
    assert effective()["BASE_URL"] == settings.BASE_URL


def test_a_worker_records_it_once_when_it_begins(variables: dict[str, Any]) -> None:
    record_changes()
    worker = Worker(once=True)
    variables["PORT"] = 8123
    worker._begin()
    assert last().new == {"PORT": 8123}
    variables["PORT"] = 8124
    worker._begin()
    assert last().new == {"PORT": 8123}
    assert configuration.recorded()["PORT"] == 8123


@pytest.mark.django_db(databases=[])
def test_a_real_worker_and_migrations_are_recorded() -> None:
    with own_database() as database:
        ((new, actor),) = database.rows("SELECT new, actor_kind FROM auditlog_record WHERE action = 'migrate'")
        assert (actor, new.keys()) == ("migration", {"applied"})
        assert {"auditlog.0001_create_audit_trail", "accounts.0001_create_accounts"} & set(new["applied"])
        assert manage("migrate", "--verbosity=0", environment=database.environment).returncode == 0
        for _start in range(2):
            assert manage("worker", "--once", environment=database.environment).returncode == 0
        count = "SELECT action, count(*) FROM auditlog_record WHERE action IN ('migrate', 'configure') GROUP BY 1"
        assert dict(database.rows(count)) == {"migrate": 1, "configure": 1}
        ((who,),) = database.rows("SELECT actor_id FROM auditlog_record WHERE action = 'configure'")
        assert who == "worker"
