"""What figures of accounts and a login cost at the server, with a million users, or as many as ``SIZE`` says.

There is an invitation for each ten of them, and every second one let somebody in. A figure is the time that all its
statements took for planning and execution, by the server's own clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import count
from statistics import median
from typing import Any

from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from accounts import daily, funnel, stats
from accounts.models import EventDay, User, UserActivity
from config import database_views
from config.database.roles import owner_connection
from tests.bench.figures import Figure
from tests.bench.people import SIZE, fill_users, name_of
from tests.live import LOGIN, PASSWORD, Database

TURNS = 5
MOST = 100.0  # milliseconds
MOST_OF_ONE_PERSON = 1.0
LONGEST_WAIT = 1000.0  # milliseconds of a reader while days are counted, on a machine that others use too
INVITERS = 50
_INVITATIONS = """
INSERT INTO accounts_invitation (
    id, nonce, email, email_canonical, domain, max_uses, uses, note, invited_by_id, invited_by_name, from_command,
    created_at, lifetime_days, expires_at, delivery
) SELECT
    md5('invitation' || n)::uuid, md5('nonce' || n)::uuid, '', '', '', 1, n % 2, '', staff.ids[n % {inviters} + 1],
    'somebody', false, at, 14, at + interval '14 days', CASE WHEN n % 50 = 3 THEN 'failed' ELSE '' END
FROM (
    SELECT n, now() - (1 - n / {made}::float8) * interval '3 years' AS at FROM generate_series(1::bigint, {made}) n
) numbered, (SELECT array_agg(id) AS ids FROM (SELECT id FROM accounts_user WHERE is_staff LIMIT {inviters}) few) staff
"""
_REDEMPTIONS = """
INSERT INTO accounts_redemption (invitation_id, user_id, username, redeemed_at)
SELECT i.id, NULL, 'somebody', i.created_at + interval '1 hour' FROM accounts_invitation i WHERE uses > 0
ORDER BY created_at
"""
_OPENINGS = """
INSERT INTO accounts_opening (invitation_id, opened_at)
SELECT id, created_at FROM accounts_invitation WHERE uses > 0 OR hashtext(id::text) % 5 = 0
"""


def measure() -> list[Figure]:
    return [_login(), *_stats(), *_funnels(), *_counting(), *_one_person()]


def fill(database: Database, size: int = SIZE) -> None:
    with owner_connection() as owner:
        fill_users(owner, size)
    made = max(size // 10, INVITERS)
    for table in ("accounts_invitation", "accounts_redemption"):
        database.rows(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    database.rows(_INVITATIONS.format(made=made, inviters=INVITERS))
    database.rows(_REDEMPTIONS)
    database.rows(_OPENINGS)
    for table in ("accounts_invitation", "accounts_redemption"):
        database.rows(f"ALTER TABLE {table} ENABLE TRIGGER USER")
    database.rows("VACUUM (ANALYZE)")
    today = timezone.now().date()
    EventDay.objects.bulk_create(
        EventDay(day=today - timedelta(days=ago), event=event, count=1000)
        for ago in range(1000)
        for event in daily.COUNTED
    )
    database_views.refresh(daily.SIGNUPS)


# The clock


class Clock:
    """Adds up what the server says of every statement of a block, each of which it asks once more, to undo it."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._is_asking = False

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if not self._is_asking and str(sql).lstrip().startswith(("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")):
            self._is_asking = True
            try:
                self.times.append(_at_the_server(str(sql), params))
            finally:
                self._is_asking = False
        return execute(sql, params, many, context)


def _at_the_server(statement: str, values: Any) -> float:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY, FORMAT JSON) {statement}", values)
        ((plan,),) = cursor.fetchone()
        transaction.set_rollback(True)
    return float(plan["Planning Time"] + plan["Execution Time"])


def _figure(name: str, work: Callable[[], object], at_most: float = MOST) -> Figure:
    work()  # fills what a session keeps
    turns = []
    for _turn in range(TURNS):
        clock = Clock()
        with connection.execute_wrapper(clock):
            work()
        turns.append(sum(clock.times))
    return Figure(f"{name} ({len(clock.times)} statements)", median(turns), "ms", digits=2, at_most=at_most)


# What is measured


def _login() -> Figure:
    """From the login page to the first page behind it, each time somebody else."""
    people = count(3, 100)  # active, and confirmed

    def sign_in() -> None:
        browser = Client()
        browser.get(LOGIN)
        fields = {"username": name_of(next(people)), "password": PASSWORD}
        assert browser.post(LOGIN, fields).status_code == 302
        assert browser.get("/accounts/profile/").status_code == 200

    return _figure("login page to session", sign_in)


def _stats() -> Iterator[Figure]:
    yield _figure("stats, all of them", stats.take)
    for name, section in stats.sections().items():
        yield _figure(f"stats: {name}", section.figures)


def _funnels() -> Iterator[Figure]:
    for days in (30, 365):
        since = timezone.now() - timedelta(days=days)
        yield _figure(f"invitation figures of {days} days", partial(funnel.of_everybody, since))
        yield _figure(f"inviters of {days} days", partial(funnel.by_inviter, since))
        yield _figure(f"one inviter in {days} days", partial(funnel.by_inviter, since, name=name_of(1)))


def _counting() -> Iterator[Figure]:
    begun = time.perf_counter()
    counting = threading.Thread(target=database_views.refresh, args=[daily.SIGNUPS])
    counting.start()
    waited = [0.0]
    while counting.is_alive():
        asked = time.perf_counter()
        stats.signup_days(stats.CHARTED)
        waited.append(1000 * (time.perf_counter() - asked))
    counting.join()
    yield Figure("all days counted anew", time.perf_counter() - begun, "s")
    yield Figure(f"the longest of {len(waited) - 1} reads meanwhile", max(waited), "ms", digits=1, at_most=LONGEST_WAIT)


def _one_person() -> Iterator[Figure]:
    anybody = User.objects.by_login_name(name_of(SIZE // 2))
    busiest = User.objects.filter(invitations__isnull=False).first()
    assert anybody is not None and busiest is not None
    yield _activity("activity of one person", anybody, MOST_OF_ONE_PERSON)
    yield _activity(f"activity of who made {busiest.invitations.count():,} invitations", busiest, MOST)


def _activity(name: str, user: User, at_most: float) -> Figure:
    return _figure(name, lambda: UserActivity.objects.get(pk=user.pk), at_most)
