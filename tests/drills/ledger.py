"""Compares what everybody was told with what the database holds, and the tables with the audit trail."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from accounts.models import Invitation, Redemption, User
from auditlog import sealing, verifying
from tests.auditlog.replay import Rebuilt, real
from tests.drills.load import Notes
from tests.live import Database, half_accounts

AUDITED = [User, Invitation, Redemption]
_HALF_INVITATIONS = """
SELECT invitation.id, invitation.uses, count(redemption.id)
FROM accounts_invitation invitation LEFT JOIN accounts_redemption redemption ON redemption.invitation_id = invitation.id
GROUP BY invitation.id HAVING invitation.uses <> count(redemption.id)
"""
_WITHOUT_ROLE = """
SELECT username FROM accounts_user person WHERE signup_key IS NOT NULL
    AND NOT EXISTS (SELECT FROM accounts_user_groups WHERE user_id = person.id)
"""
_REDEEMED = """
SELECT person.username FROM accounts_redemption redemption JOIN accounts_user person ON person.id = redemption.user_id
"""
# A record and its change commit together; what was rolled back must have left neither.
_OF_NO_COMMIT = "SELECT id FROM auditlog_record WHERE pg_xact_status(transaction::text::xid8) <> 'committed'"


def compare(database: Database, notes: Notes) -> None:
    """Let Django use `database` meanwhile. Fails on whatever is lost, halved, doubled or not recorded."""
    _compare_people(database, notes)
    half = half_accounts(database)
    assert half == [], half[:3]
    assert database.rows(_WITHOUT_ROLE) == []
    assert database.rows(_HALF_INVITATIONS) == []
    _compare_edits(database, notes)
    _compare_trail(database)


def _compare_people(database: Database, notes: Notes) -> None:
    _must_be_among(notes.people | notes.guests, _column(database, "SELECT username FROM accounts_user"))
    _must_be_among(notes.guests, _column(database, _REDEEMED))
    _must_be_among(notes.invitations, _column(database, "SELECT note FROM accounts_invitation"))


def _must_be_among(noted: Mapping[str, bool], written: Sequence[str]) -> None:
    times = Counter(written)
    lost = [each for each, acknowledged in noted.items() if acknowledged and not times[each]]
    assert lost == [], f"{len(lost)} of {len(noted)} were acknowledged and are lost"
    assert max((times[each] for each in noted), default=1) <= 1


def _compare_edits(database: Database, notes: Notes) -> None:
    now = {name: (full, active) for name, full, active in database.rows(
        "SELECT username, full_name, is_active FROM accounts_user")}  # fmt: skip
    for name, values in notes.names.items():
        assert now[name][0] in _possible(values), (name, now[name], values[-5:])
    for name, states in notes.active.items():
        assert now[name][1] in _possible(states), (name, now[name], states[-5:])


def _possible(values: Sequence[tuple[Any, bool]]) -> list[Any]:
    """The last value that was acknowledged, and those after it of which nobody knows."""
    last = max(number for number, (_value, acknowledged) in enumerate(values) if acknowledged)
    return [value for value, _acknowledged in values[last:]]


def _compare_trail(database: Database) -> None:
    """Exactly one record for each change: from empty, they make the tables as they are."""
    assert database.rows(_OF_NO_COMMIT) == []
    rebuilt, found = Rebuilt(0, AUDITED).tables, real(AUDITED)
    different = [
        (table, key, rebuilt[table].get(key), row)
        for table in found
        for key, row in (rebuilt[table] | found[table]).items()
        if rebuilt[table].get(key) != found[table].get(key)
    ]
    assert different == [], different[:3]
    sealing.seal()
    report = verifying.verify()
    assert report.ok and report.seals, report.findings


def _column(database: Database, statement: str) -> list[str]:
    return [value for (value,) in database.rows(statement)]
