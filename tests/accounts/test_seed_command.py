"""``manage.py seed`` on a database of its own."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from time import sleep
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from accounts import identity, seeding
from accounts.models import User
from accounts.seeding import Plan
from tests.live import Database, Program, manage, own_database, wait_until

PEOPLE, INVITATIONS = 2_000, 400
LATER = 15_000
UNTIL = ("--until", "2026-11-01")
_WHO = "SELECT id, username, email, full_name, created_at, last_login FROM accounts_user ORDER BY id"
_INVITED = "SELECT id, email, domain, uses, invited_by_id, created_at, expires_at FROM accounts_invitation ORDER BY id"
_UNRECORDED = """
SELECT count(*) FROM accounts_user u LEFT JOIN (
    SELECT object_id, count(*) FILTER (WHERE action = 'create') AS made, count(*) FILTER (WHERE action = 'add') AS given
    FROM auditlog_record
    WHERE resource = 'accounts.user' AND actor_kind = 'command' AND actor_id = 'seed' AND reason LIKE 'made up%'
    GROUP BY object_id
) r ON r.object_id = u.id::text WHERE r.made IS DISTINCT FROM 1 OR r.given IS DISTINCT FROM 1
"""

_SIGN_INS = """
SELECT object_id, action, count(*) FROM auditlog_record WHERE origin = 'event' AND resource = 'accounts.user'
GROUP BY 1, 2 ORDER BY 1, 2
"""
_AT_WORK = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()"


def seed(database: Database, *arguments: str) -> dict[str, Any]:
    done = manage("seed", *arguments, "--json", environment=database.environment)
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stderr, "nobody looks at a bar in a pipe"
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


@pytest.fixture(scope="module")
def databases() -> Iterator[tuple[Database, Database]]:
    with own_database() as first:
        yield first, first.copy("second")


@pytest.fixture(scope="module")
def seeded(databases: tuple[Database, Database]) -> Database:
    first, _second = databases
    facts = seed(first, str(PEOPLE), "--invitations", str(INVITATIONS), *UNTIL)
    assert (facts["people_made"], facts["invitations_made"], facts["interrupted"]) == (PEOPLE, INVITATIONS, False)
    return first


def test_people_are_such_as_the_site_would_have_made(seeded: Database) -> None:
    columns = "username, username_canonical, username_skeleton, email, email_canonical, full_name, password"
    for values in seeded.rows(f"SELECT {columns} FROM accounts_user ORDER BY id LIMIT 300"):  # noqa: S608
        user = User(**dict(zip(columns.split(", "), values, strict=True)))
        user.clean_fields(exclude=["password"])
        assert user.username_canonical == identity.canonical_username(user.username)
        assert user.username_skeleton == identity.username_skeleton(user.username)
        assert user.email_canonical == identity.canonical_email(user.email)
        assert not user.has_usable_password()


def test_there_are_some_of_every_kind(seeded: Database) -> None:
    counted = dict.fromkeys(("NOT is_active", "email_verified_at IS NULL", "last_login IS NULL", "is_staff"), 0)
    for condition in counted:
        counted[condition] = seeded.value(f"SELECT count(*) FROM accounts_user WHERE {condition}")  # noqa: S608
    assert counted["is_staff"] == 2
    assert all(0 < count < PEOPLE / 2 for count in counted.values()), counted
    roles = seeded.rows(
        "SELECT name, count(*) FROM accounts_user_groups m JOIN auth_group g ON g.id = group_id GROUP BY 1"
    )
    assert dict(roles) == {"Member": PEOPLE, "Support": 2}
    states = seeded.rows(
        "SELECT CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN uses >= max_uses THEN 'used'"
        " WHEN expires_at <= '2026-11-01' THEN 'expired' ELSE 'open' END, count(*) FROM accounts_invitation GROUP BY 1"
    )
    assert {state for state, _count in states} == {"revoked", "used", "expired", "open"}
    came = seeded.value(
        "SELECT count(*) FROM accounts_redemption r JOIN accounts_invitation i ON i.id = invitation_id"
        " JOIN accounts_user u ON u.id = r.user_id AND u.username = r.username"
        " WHERE i.uses = 1 AND (i.email = '' OR i.email = u.email) AND redeemed_at >= i.created_at"
    )
    assert came == seeded.value("SELECT sum(uses) FROM accounts_invitation") > INVITATIONS / 2
    assert seeded.value("SELECT count(*) FROM accounts_opening") > came
    assert seeded.value("SELECT count(*) FROM accounts_loginattempt") == 5 * 5
    assert seeded.value("SELECT count(DISTINCT day) FROM accounts_eventday WHERE event = 'login'") > 300
    assert seeded.value("SELECT sum(signups) FROM accounts_daily_signups") == PEOPLE


def test_every_row_has_its_record_which_says_that_it_is_made_up(seeded: Database) -> None:
    assert seeded.value(_UNRECORDED) == 0
    for resource, table in (("invitation", "accounts_invitation"), ("redemption", "accounts_redemption")):
        records = seeded.value(
            "SELECT count(*) FROM auditlog_record WHERE action = 'create' AND actor_id = 'seed' AND resource = %s",
            f"accounts.{resource}",
        )
        assert records == seeded.value(f"SELECT count(*) FROM {table}")  # noqa: S608
    assert seeded.value("SELECT count(*) FROM auditlog_record WHERE at < now() - interval '1 hour'") == 0, "no past"
    assert manage("audit", "seal", environment=seeded.environment).returncode == 0
    assert manage("audit", "verify", environment=seeded.environment).returncode == 0


def test_who_is_made_up_later_gets_a_history_once(seeded: Database, databases: tuple[Database, Database]) -> None:
    _first, second = databases
    seed(second, "100", *UNTIL)
    assert second.value("SELECT count(*) FROM accounts_loginattempt") == 5 * 2
    seed(second, "300")
    assert second.rows(_SIGN_INS) == seeded.rows(_SIGN_INS)
    assert second.value("SELECT count(*) FROM accounts_loginattempt") == 5 * 5


def test_a_killed_run_goes_on_and_makes_the_same_people(seeded: Database, databases: tuple[Database, Database]) -> None:
    _first, second = databases
    command = ("manage.py", "seed", str(LATER), "--invitations", str(INVITATIONS), *UNTIL)
    before = second.value("SELECT count(*) FROM accounts_user")
    with Program(*command, environment=second.environment) as program:
        wait_until(lambda: second.value("SELECT count(*) FROM accounts_user") > before, "the first batch is there")
        program.end(signal.SIGKILL)
    # The server may have one more batch to roll back, or to commit.
    wait_until(lambda: not second.value(_AT_WORK, second.name), "the sessions of the killed run are gone")
    there = second.value("SELECT count(*) FROM accounts_user")
    assert before < there < LATER
    facts = seed(second, str(LATER), "--invitations", str(INVITATIONS))
    assert (facts["until"], facts["people_made"]) == (UNTIL[1], LATER - there), "until when, is known of the last time"
    assert second.value("SELECT count(*) FROM accounts_user") == LATER
    assert second.value(_UNRECORDED) == 0
    assert set(seeded.rows(_WHO)) < set(second.rows(_WHO))
    assert seeded.rows(_INVITED) == second.rows(_INVITED)


def test_names_that_somebody_else_has_are_refused_clearly(seeded: Database) -> None:
    done = manage("seed", "10", "--days", "30", environment=seeded.environment)
    assert done.returncode == 1
    assert "has one of these names" in done.stderr
    assert "Traceback" not in done.stderr
    assert seed(seeded, "10", "--seed", "2")["people_made"] == 10, "another seed has other names"


@pytest.mark.django_db
def test_control_c_leaves_whole_batches() -> None:
    plan = Plan(people=50, invitations=0, seed=1, until=seeding.today(), days=1)

    def make(_plan: Plan, first: int, last: int) -> int:
        sleep(0.3)
        return last - first + 1

    def interrupt(_through: int, _of: int) -> None:
        raise KeyboardInterrupt

    work = seeding._Work(make, plan, 20 * seeding.BATCH)
    assert work.do(interrupt)
    assert work.made == work.through == seeding.CONNECTIONS * seeding.BATCH, "those under way are done, no other begins"


def test_a_site_in_production_is_filled_only_on_demand(settings: Any) -> None:
    settings.DEVELOPMENT = False
    with pytest.raises(CommandError, match="--yes-make-up-people"):
        call_command("seed", "10")
