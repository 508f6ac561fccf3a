"""What is old enough goes, nothing else does, and one rule that fails keeps no other waiting."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.contrib.sessions.models import Session as DjangoSession
from django.db import connection, connections, transaction
from django.utils import timezone
from django_tasks_db.models import DBTaskResult
from pytest_django.fixtures import Settings
from structlog.testing import capture_logs

from accounts import jobs, services
from accounts.models import (
    AddressChange,
    DataExport,
    FormerPassword,
    Import,
    LoginAttempt,
    RequestedMail,
    ReservedUsername,
    Session,
    User,
)
from auditlog.models import Record
from config import retained, retention
from config.database.locks import held_alone
from config.database.retry import Patience
from config.models import OneUseToken
from config.retention import Rule
from healthcheck.models import ConnectionSample, Incident, Reading, Run, Sample, Statement, StatementHour
from tests.factories import UserFactory

NOW = timezone.now()
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute more or less is what these tests are about, and the import was longer ago than that."""
    monkeypatch.setattr(f"{__name__}.NOW", timezone.now())


def clean_up(*names: str) -> dict[str, int]:
    rules = retention.rules()
    return retention.summary(retention.clean_up([rules[name] for name in names] if names else rules.values()))


def session(age: timedelta) -> None:
    Session.objects.create(key_digest=f"{age}", data="", expires_at=NOW - age)


def job(age: timedelta) -> None:
    jobs.send_mail_to_address.enqueue("password_reset", "somebody@example.com")
    newest = DBTaskResult.objects.order_by("-enqueued_at")[:1].get().pk
    DBTaskResult.objects.filter(pk=newest).update(status="SUCCESSFUL", finished_at=NOW - age)


def incident(age: timedelta) -> None:
    about = {"check_name": "disk", "host": "", "status": "warn", "code": "full"}
    Incident.objects.create(**about, began_at=NOW - age - DAY, ended_at=NOW - age)


def connection_sample(age: timedelta) -> None:
    ConnectionSample.objects.create(at=NOW - age, active=1, idle=1, idle_in_transaction=0, waiting=0, most=100)


def statement_hour(age: timedelta) -> None:
    statement, _new = Statement.objects.get_or_create(key="a", operation="select", table="other", text="SELECT ?")
    StatementHour.objects.create(statement=statement, hour=NOW - age, host="h")


def address_change(age: timedelta) -> None:
    user = UserFactory.create()
    AddressChange.objects.create(user=user, new_email="a@b.example", state="dropped", requested_at=NOW - age)


def data_export(age: timedelta) -> None:
    DataExport.objects.create(user=UserFactory.create(), state="over", asked_at=NOW - age)


def data_export_piece(age: timedelta) -> None:
    export = DataExport.objects.create(user=UserFactory.create(), state="ready", asked_at=NOW, expires_at=NOW - age)
    export.pieces.create(number=0, content=b"PK")


AGES: dict[str, tuple[timedelta, Callable[[timedelta], object]]] = {
    "sessions": (timedelta(), session),
    "django_sessions": (
        timedelta(),
        lambda age: DjangoSession.objects.create(session_key=f"{age}", session_data="", expire_date=NOW - age),
    ),
    "jobs": (retained.JOBS_KEPT_FOR, job),
    "login_attempts": (
        timedelta(minutes=60),  # twice LOGIN_COOLOFF_MINUTES
        lambda age: LoginAttempt.objects.create(account="a", network="n", device="", reserved_at=NOW - age),
    ),
    "requested_mails": (
        jobs.REQUESTED_MAILS_FOR,
        lambda age: RequestedMail.objects.create(email_canonical="a", sent_at=NOW - age),
    ),
    "reserved_usernames": (
        timedelta(),
        lambda age: ReservedUsername.objects.create(
            username_canonical="a", username_skeleton="a", reserved_until=NOW - age
        ),
    ),
    "former_passwords": (
        timedelta(),  # without PASSWORD_HISTORY
        lambda age: FormerPassword.objects.create(user=UserFactory.create(), password="!", replaced_at=NOW - age),
    ),
    "address_changes": (10 * DAY, address_change),  # EMAIL_VERIFICATION_HOURS and EMAIL_UNDO_DAYS
    "data_export_pieces": (timedelta(), data_export_piece),
    "data_exports": (2 * DAY, data_export),
    "imports": (
        30 * DAY,
        lambda age: Import.objects.create(kind="users", state="done", file_name="a", rows=0, created_at=NOW - age),
    ),
    "one_use_tokens": (
        7 * DAY,
        lambda age: OneUseToken.objects.create(digest=f"{age}", payload=1, expires_at=NOW - age),
    ),
    "health_readings": (
        DAY,
        lambda age: Reading.objects.create(check_name="disk", host=f"{age}", status="pass", code="ok", at=NOW - age,
                                           milliseconds=1),
    ),
    "health_samples": (45 * DAY, lambda age: Sample.objects.create(at=NOW - age, status="pass")),
    "connection_samples": (30 * DAY, connection_sample),
    "incidents": (45 * DAY, incident),
    "statement_hours": (30 * DAY, statement_hour),
    "operations": (
        45 * DAY,
        lambda age: Run.objects.create(operation="optimize", state=Run.State.DONE, ended_at=NOW - age),
    ),
}  # fmt: skip


def test_every_rule_is_tested_here_or_with_what_it_is_about() -> None:
    elsewhere = {"unconfirmed_accounts", "audit_weeks", "statements"}
    assert retention.rules().keys() - AGES.keys() == elsewhere | {"queries", "machine_metrics"}  # the sample app's


@pytest.mark.django_db
@pytest.mark.parametrize("name", AGES)
def test_what_is_older_than_it_has_to_be_goes_and_the_rest_stays(name: str) -> None:
    kept_for, make = AGES[name]
    for age in (kept_for - MINUTE, kept_for + MINUTE, kept_for + DAY):
        make(age)
    rule = retention.rules()[name]
    assert rule.overdue() == 2
    assert clean_up() == {name: 2}
    assert (rule.overdue(), clean_up()) == (0, {})


@pytest.mark.django_db
def test_what_has_not_ended_stays() -> None:
    jobs.send_mail_to_address.enqueue("password_reset", "somebody@example.com")
    DBTaskResult.objects.update(enqueued_at=NOW - 100 * DAY)
    incident(100 * DAY)
    Incident.objects.update(ended_at=None)
    assert clean_up() == {}


@pytest.fixture
def newcomer() -> User:
    """Somebody who signed up long ago and never opened the link."""
    signup = services.SignUp(
        username="newcomer", email="newcomer@example.com", password="Correct-Horse-7-Battery", browser="b"
    )
    services.sign_up(signup)
    User.objects.update(created_at=NOW - 31 * DAY)
    return User.objects.get()


@pytest.mark.django_db
def test_an_account_that_was_never_confirmed_goes_only_if_the_site_says_so(newcomer: User, settings: Settings) -> None:
    assert clean_up() == {}
    settings.UNCONFIRMED_ACCOUNT_DAYS = 30
    assert clean_up() == {"unconfirmed_accounts": 1}
    assert not User.objects.exists()
    record = Record.objects.filter(resource="accounts.user", action="delete").get()
    assert (record.object_label, record.reason) == ("newcomer", "address not confirmed in time")


@pytest.mark.django_db
@pytest.mark.parametrize(
    "columns",
    [
        {"created_at": NOW - 29 * DAY},
        {"email_verified_at": NOW},
        {"last_login": NOW},
        {"login_count": 1},
        {"is_staff": True},
        {"is_superuser": True},
        {"is_active": False},
        {"signup_key": None},
        {"deleted_at": NOW},
    ],
    ids=lambda columns: next(iter(columns)),
)
def test_an_account_that_means_anything_to_anybody_stays(
    newcomer: User, columns: dict[str, Any], settings: Settings
) -> None:
    settings.UNCONFIRMED_ACCOUNT_DAYS = 30
    User.objects.update(**columns)
    assert clean_up() == {}


@pytest.mark.django_db
def test_what_is_audited_leaves_a_record_that_says_why() -> None:
    AGES["reserved_usernames"][1](DAY)
    assert clean_up() == {"reserved_usernames": 1}
    record = Record.objects.filter(resource="accounts.reservedusername", action="delete").get()
    assert record.reason == "kept long enough"


@pytest.mark.django_db
def test_batches_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 3)
    for age in range(1, 8):
        session(age * MINUTE)
    told: list[int] = []
    (outcome,) = retention.clean_up([retention.rules()["sessions"]], tell=lambda rule, deleted: told.append(deleted))
    assert (told, outcome.deleted) == ([3, 3, 1], 7)


@pytest.mark.django_db
def test_a_clean_up_that_had_enough_stops_after_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 1)
    for age in range(1, 4):
        session(age * MINUTE)
    turns = iter([False, True])
    (outcome,) = retention.clean_up([retention.rules()["sessions"]], enough=lambda: next(turns))
    assert outcome.deleted == 1


@pytest.mark.django_db(transaction=True)
def test_rows_that_somebody_else_holds_are_left_to_them() -> None:
    session(MINUTE)
    session(DAY)
    other = connections.create_connection("default")
    try:
        with transaction.atomic(), other.cursor() as cursor:
            cursor.execute("BEGIN; SELECT FROM accounts_session WHERE key_digest = %s FOR UPDATE", [f"{DAY}"])
        started = time.monotonic()
        assert clean_up("sessions") == {"sessions": 1}
        assert time.monotonic() - started < 2
        with other.cursor() as cursor:
            cursor.execute("ROLLBACK")  # whose end is heard; that of a session is not
    finally:
        other.close()
    assert clean_up("sessions") == {"sessions": 1}


@pytest.mark.django_db(transaction=True)
def test_a_rule_whose_session_is_killed_goes_on_with_another_one() -> None:
    def delete(before: datetime) -> int:
        turns.append(1)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())" if len(turns) == 1 else "SELECT")
        return 2 - len(turns) if len(turns) > 1 else 1

    turns: list[int] = []
    (outcome,) = retention.clean_up([rule("killed", delete)])
    assert (outcome.error, len(turns)) == ("", 2)


def rule(name: str, delete: Callable[[datetime], int]) -> Rule:
    return Rule(name=name, label=name, kept_for=timedelta, count=lambda before: 0, delete=delete)


@pytest.mark.django_db
def test_a_rule_that_fails_is_named_and_keeps_no_other_waiting() -> None:
    def fails(before: datetime) -> int:
        raise LookupError

    session(MINUTE)
    with capture_logs() as lines:
        outcomes = retention.clean_up([rule("broken", fails), retention.rules()["sessions"]])
    assert [(outcome.deleted, outcome.error) for outcome in outcomes] == [(0, "LookupError"), (1, "")]
    assert [(line["event"], line["rule"]) for line in lines] == [("retention.failed", "broken")]


def test_two_rules_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="sessions"):
        retention.register(rule("sessions", lambda before: 0))


@pytest.fixture
def due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_due", 0.0)


@pytest.mark.django_db(databases=["default", "direct"])
def test_a_worker_cleans_up_at_once_and_then_once_an_hour(due: None) -> None:
    session(MINUTE)
    with capture_logs() as lines:
        assert [retention.keep_rules(), retention.keep_rules()] == [True, False]
    assert not Session.objects.exists()
    assert [line for line in lines if line["event"] == "retention.kept"] == [
        {"event": "retention.kept", "sessions": 1, "log_level": "info"}
    ]


@pytest.mark.django_db(databases=["default", "direct"])
def test_of_several_workers_one_cleans_up(due: None) -> None:
    session(MINUTE)
    with held_alone("retention") as alone:
        assert alone
        retention.keep_rules()
    assert Session.objects.count() == 1


@pytest.mark.django_db(databases=["default", "direct"])
def test_a_worker_that_had_not_time_enough_goes_on_at_its_next_turn(due: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "TURN", -1.0)
    session(MINUTE)
    assert [retention.keep_rules(), retention.keep_rules()] == [True, True]
    assert Session.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_an_absent_database_ends_the_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def delete(before: datetime) -> int:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return 0

    monkeypatch.setattr(retention, "PATIENCE", Patience(attempts=2, first_pause=0.01, longest_pause=0.01))
    asked: list[datetime] = []

    def ask(before: datetime) -> int:
        asked.append(before)
        return 0

    with pytest.raises(Exception, match=r"terminating|closed"):
        retention.clean_up([rule("away", delete), rule("next", ask)])
    assert not asked
