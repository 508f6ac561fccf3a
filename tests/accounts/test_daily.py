"""What is counted by the day, and the views of the database behind it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts import daily, stats
from accounts.models import EventDay, Redemption, User, UserActivity
from auditlog.delivering import deliver
from auditlog.models import Record
from config import database_views
from config.database.locks import held_alone
from config.database.roles import owner_connection
from config.database_views import keep_fresh, refresh
from tests.accounts.conftest import failures, sign_in
from tests.factories import InvitationFactory, UserFactory

PATIENCE = 20.0  # seconds
committed = pytest.mark.django_db(transaction=True, databases=["default", "direct"])
uncommitted = pytest.mark.django_db


@pytest.fixture
def emptied() -> Iterator[None]:
    """A materialised view outlives what it was counted from: leave it as it was."""
    yield
    User.objects.all().delete()
    refresh(daily.SIGNUPS)


def days_ago(days: int) -> datetime:
    return timezone.now() - timedelta(days=days)


def kept() -> dict[int, int]:
    """The signups that the materialised view knows, by how many days ago they were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (statement_timestamp() AT TIME ZONE 'UTC')::date - day, signups FROM accounts_daily_signups"
        )
        return dict(cursor.fetchall())


def of_days(days: int) -> list[int]:
    return [day.signups for day in stats.signup_days(days)]


# Signups of a day


@uncommitted
def test_who_signs_up_now_or_did_yesterday_is_counted_without_a_refresh() -> None:
    for days in (0, 0, 1):
        UserFactory.create(created_at=days_ago(days))
    assert of_days(3) == [0, 1, 2]


@committed
def test_days_that_have_ended_are_kept_and_the_others_counted_live(emptied: None) -> None:
    for days in (5, 5, 1, 0):
        UserFactory.create(created_at=days_ago(days))
    assert of_days(6) == [0, 0, 0, 0, 1, 1]  # nobody has counted the fifth day yet
    refresh(daily.SIGNUPS)
    assert kept() == {5: 2, 1: 1}
    assert of_days(6) == [2, 0, 0, 0, 1, 1]
    UserFactory.create(created_at=days_ago(1))  # as if a clock was set back
    assert of_days(6) == [2, 0, 0, 0, 2, 1]


@uncommitted
def test_a_day_tells_who_confirmed_who_was_added_and_who_was_invited() -> None:
    invitation = InvitationFactory.create(max_uses=9)
    signed_up = UserFactory.create(signup_key=invitation.pk)
    UserFactory.create(email_verified_at=None)
    Redemption.objects.create(invitation=invitation, user=signed_up, username=signed_up.username)
    today = stats.signup_days(1)[0]
    assert (today.signups, today.verified, today.added, today.invited) == (2, 1, 1, 1)


@pytest.fixture
def tomorrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let it be a day later for whoever asks whether a day has ended."""
    later = daily._IS_DUE.replace("statement_timestamp()", "(statement_timestamp() + interval '1 day')")
    assert later != daily._IS_DUE
    monkeypatch.setattr(daily, "_IS_DUE", later)


@committed
def test_the_worker_counts_nothing_before_the_day_has_ended(emptied: None) -> None:
    UserFactory.create(created_at=days_ago(3))
    assert not daily.keep_signups_counted()
    assert 3 not in kept()


@committed
def test_one_worker_counts_when_a_day_has_ended(emptied: None, tomorrow: None) -> None:
    UserFactory.create(created_at=days_ago(3))
    with held_alone(f"refresh {daily.SIGNUPS}"):  # another host is at it
        assert not daily.keep_signups_counted()
        assert 3 not in kept()
    assert daily.keep_signups_counted()
    assert kept() == {3: 1, 1: 0}


@committed
def test_a_count_that_fails_is_not_tried_every_minute(tomorrow: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_views, "LONGEST", "1ms")
    keep_counted = keep_fresh(daily.SIGNUPS, is_due=daily._is_due)  # one that has not failed yet
    with _slow_view():
        assert keep_counted()
    assert not keep_counted()


@contextmanager
def _slow_view() -> Iterator[None]:
    """Let whoever reads the users wait, and with them the count."""
    with owner_connection() as owner:
        owner.set_autocommit(False)
        with owner.cursor() as cursor:
            cursor.execute("LOCK TABLE accounts_user IN ACCESS EXCLUSIVE MODE")
        yield
        owner.rollback()
        owner.set_autocommit(True)


@committed
def test_readers_and_the_count_do_not_wait_for_each_other(emptied: None) -> None:
    UserFactory.create(created_at=days_ago(3))
    with transaction.atomic():
        of_days(5)  # holds its lock on the view until the end
        counting = threading.Thread(target=refresh, args=[daily.SIGNUPS])
        counting.start()
        counting.join(PATIENCE)
        assert not counting.is_alive()
    assert kept() == {3: 1, 1: 0}


@uncommitted
def test_the_application_cannot_write_the_views() -> None:
    for statement in (
        "REFRESH MATERIALIZED VIEW accounts_daily_signups",
        "INSERT INTO accounts_daily_signups (day) VALUES (now())",
        "UPDATE accounts_user_activity SET username = 'x'",
        "DELETE FROM accounts_signups_by_day",
    ):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)


# What was done with an account


@uncommitted
def test_activity_tells_who_invited_and_who_came_by_it(owner: User, colleague: User) -> None:
    mine = InvitationFactory.create(invited_by=owner, max_uses=5, uses=2)
    InvitationFactory.create(invited_by=owner, created_at=days_ago(9))
    Redemption.objects.create(invitation=mine, user=colleague, username="colleague")
    User.objects.filter(pk=owner.pk).update(last_login=days_ago(4), login_count=7, created_at=days_ago(30))
    found = UserActivity.objects.get(pk=owner.pk)
    assert (found.username, found.login_count, found.invitations, found.people_invited) == ("owner", 7, 2, 2)
    assert found.last_activity_at == mine.created_at
    theirs = UserActivity.objects.get(pk=colleague.pk)
    assert (theirs.invited_by, theirs.invited_by_name, theirs.invitations) == (owner, "owner", 0)
    assert theirs.last_activity_at == theirs.created_at


@uncommitted
def test_the_activity_of_one_person_is_found_by_indexes(owner: User) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")  # the tables of a test are small
    plan = UserActivity.objects.filter(pk=owner.pk).explain()
    assert "accounts_invitation_inviter" in plan and "Seq Scan" not in plan


# Events of a day


def record(action: str, at: datetime, origin: str = Record.Origin.EVENT) -> Record:
    return Record(action=action, at=at, origin=origin)


@uncommitted
def test_events_are_counted_by_the_day_of_utc() -> None:
    late = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
    elsewhere = datetime(2026, 3, 2, 1, 0, tzinfo=timezone.get_fixed_timezone(120))  # still the first of March
    daily.count_events([record("login", late), record("login", elsewhere), record("login", late, "save")])
    tomorrow = late + timedelta(minutes=1)
    daily.count_events([record("login", tomorrow), record("login", late), record("login_failed", late)])
    daily.count_events([record("logout", late)])
    counted = EventDay.objects.order_by("day", "event").values_list("day__day", "event", "count")
    assert list(counted) == [(1, "login", 3), (1, "login_failed", 1), (2, "login", 1)]


@committed
def test_signing_in_and_failing_to_are_counted_once_the_trail_has_told(owner: User) -> None:
    while deliver():  # from now on
        pass
    before: dict[str, Any] = {figure.name: figure.value for figure in stats.logins()}
    browser = Client()
    failures(browser, 2)
    sign_in(browser, "owner")
    for _turn in range(3):
        deliver()
    after: dict[str, Any] = {figure.name: figure.value for figure in stats.logins()}
    for name, times in (("succeeded", 1), ("failed", 2)):
        assert after[name] == {period: count + times for period, count in before[name].items()}
