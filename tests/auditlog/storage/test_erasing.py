"""Erasing a person from the trail: what goes, what stays, and that the seals still hold."""

from __future__ import annotations

from typing import Any

import psycopg2
import pytest
from django.contrib.auth.models import Group
from django.db import transaction

import auditlog
from accounts.models import User
from auditlog import Actor, erasing, sealing
from auditlog.events import record
from auditlog.models import Record, Seal
from tests.auditlog.storage.conftest import Trail

pytestmark = pytest.mark.usefixtures("trail")


@pytest.fixture
def ada(trail: Trail) -> User:
    trail.tamper("DELETE FROM accounts_user")
    return User.objects.create_user("ada", "ada@example.com", "Correct-Horse-7-Battery", full_name="Ada L.")


def actor(user: User) -> Actor:
    return Actor.of_user(user)


def all_text(trail: Trail) -> str:
    """Everything that the trail holds, and the seals."""
    return str(trail.rows("SELECT r::text FROM auditlog_record r UNION ALL SELECT s::text FROM auditlog_seal s"))


def records(**where: Any) -> list[Record]:
    return list(Record.objects.filter(**where).order_by("id"))


def test_a_person_is_erased_as_actor_and_as_object_and_the_seals_hold(trail: Trail, ada: User) -> None:
    with auditlog.acting_as(ada, reason="to greet Ada"):
        record("greeted", ada)
        record("waved", "test", label="a stranger")
    with auditlog.acting_as(Actor("user", "77", "bob"), on_behalf_of=ada):
        record("helped", "test", label="another stranger")
    trail.tamper("UPDATE auditlog_record SET address = '192.0.2.7', agent = 5 WHERE actor_kind = 'user'")
    sealing.seal()
    assert erasing.erase(ada) == 4
    text = all_text(trail)
    left = [word for word in ("ada@example.com", "Ada L.", "(ada", ",ada,", "192.0.2.7") if word in text]
    assert left == []
    greeted, waved, helped = (records(action=action)[0] for action in ("greeted", "waved", "helped"))
    for mine in (greeted, waved, helped):
        assert (mine.actor_label, mine.on_behalf_label, mine.address, mine.agent) == (None, None, None, None)
        assert len(mine.erased_who or b"") == 32
    assert (greeted.actor_id, waved.actor_id, helped.on_behalf_id) == (str(ada.pk), str(ada.pk), str(ada.pk))
    assert (waved.object_label, helped.object_label) == ("a stranger", "another stranger")
    assert (greeted.object_label, greeted.reason, greeted.object_id) == (None, None, str(ada.pk))
    (created,) = records(resource="accounts.user", action="create")
    assert created.personal is None and created.new
    report = trail.verify()
    assert (report.ok, report.erased) == (True, 4)


def test_others_keep_what_is_theirs(trail: Trail, ada: User) -> None:
    bob = User.objects.create_user("bob", "bob@example.com", "Correct-Horse-7-Battery")
    with auditlog.acting_as(bob):
        record("greeted", ada)
        record("waved", bob)
    sealing.seal()
    erasing.erase(ada)
    greeted, waved = records(action__in=["greeted", "waved"])
    assert (greeted.actor_label, greeted.object_label) == ("bob", None)
    assert (waved.actor_label, waved.object_label, waved.erased_who, waved.erased_what) == ("bob", "bob", None, None)


def test_objects_that_are_about_the_person_and_names_that_were_tried_go_too(trail: Trail, ada: User) -> None:
    group = Group.objects.create(name="friends of Ada")
    other = Group.objects.create(name="others")
    record("login_failed", "login", label="ada@example.com")
    record("login_failed", "login", label="eve@example.com")
    sealing.seal()
    erasing.erase(ada, objects=[group], labels=["ada@example.com"])
    assert [each.object_label for each in records(resource="auth.group")] == [None, "others"]
    assert [each.object_label for each in records(resource="login")] == [None, "eve@example.com"]
    group.delete()
    other.delete()


def test_what_is_not_sealed_yet_is_erased_and_sealed_afterwards(trail: Trail, ada: User) -> None:
    erasing.erase(ada)
    assert "ada@example.com" not in all_text(trail)
    sealing.seal()
    report = trail.verify()
    assert (report.ok, report.unsealed) == (True, 0)
    assert report.erased


def test_the_salts_of_what_was_erased_are_gone_and_of_nothing_else(trail: Trail, ada: User) -> None:
    with auditlog.acting_as(ada):
        before, _mine, after = (trail.record("x")[0] for _ in range(3))
    trail.tamper(f"UPDATE auditlog_record SET actor_id = 'x' WHERE id IN ({before}, {after})")
    trail.tamper(f"DELETE FROM auditlog_record WHERE id < {before}")
    trail.rows("SELECT setval('auditlog_record_id_seq', nextval('auditlog_record_id_seq') + 5)")  # a gap
    (later,) = trail.record("y")
    sealing.seal()
    whole = bytes(Seal.objects.get().salts or b"")
    erasing.erase(ada)
    left = bytes(Seal.objects.get().salts or b"")
    assert later > after + 1 and len(left) == 4 * 16
    assert left == whole[:16] + bytes(8) + whole[24:]
    assert trail.verify().ok


def test_of_many_records_in_one_seal_each_part_that_is_erased_loses_its_own_salt(trail: Trail, ada: User) -> None:
    numbers = trail.record("1", "2", "3", "4")
    trail.tamper(f"DELETE FROM auditlog_record WHERE id < {numbers[0]}")
    with auditlog.acting_as(ada):
        mine = trail.record("ada@example.com", "5", "ada@example.com")
    sealing.seal()
    whole = bytes(Seal.objects.get().salts or b"")
    erasing.erase(ada, labels=["ada@example.com", "2"])
    pieces = [whole[place : place + 8] for place in range(0, len(whole), 8)]
    first = len(numbers)
    for place in (1 * 2 + 1, first * 2, first * 2 + 1, (first + 1) * 2, (first + 2) * 2, (first + 2) * 2 + 1):
        pieces[place] = bytes(8)
    assert len(mine) == 3 and len(whole) == 7 * 16
    assert bytes(Seal.objects.get().salts or b"") == b"".join(pieces)
    assert trail.verify().ok


def test_erasing_twice_and_in_two_steps_keeps_the_seals(trail: Trail, ada: User) -> None:
    with auditlog.acting_as(ada):
        record("noted", "test", label="ada@example.com")
    sealing.seal()
    assert erasing.erase(ada)
    assert erasing.erase(ada, labels=["ada@example.com"]) == 1
    assert erasing.erase(ada, labels=["ada@example.com"]) == 0
    (noted,) = records(action="noted")
    assert noted.erased_who and noted.erased_what
    sealing.seal()
    assert trail.verify().ok


@pytest.mark.parametrize(
    "change",
    [
        "action = 'other'",
        "new = '{}'",
        "actor_id = '8'",
        "actor_label = 'eve'",
        "address = '192.0.2.9'",
        "object_label = 'other'",
        "erased_who = sha256('')",
        "erased_who = NULL",
    ],
)
def test_the_rest_of_a_record_with_something_erased_is_still_guarded(trail: Trail, ada: User, change: str) -> None:
    with auditlog.acting_as(ada):
        (number,) = trail.sealed("a stranger", new={"a": 1})
    erasing.erase(ada)
    sealing.seal()
    assert trail.verify().ok
    trail.tamper(f"UPDATE auditlog_record SET {change} WHERE id = {number}")
    assert trail.faults() == [("changed", number)]


def test_the_erasure_is_recorded_without_saying_who_it_was(trail: Trail, ada: User) -> None:
    with auditlog.acting_as(ada):
        erasing.erase(ada)
    (erased,) = records(action="erase")
    assert (erased.resource, erased.object_id, erased.actor_id) == ("accounts.user", str(ada.pk), str(ada.pk))
    assert (erased.object_label, erased.actor_label) == (None, None)


def test_an_erasure_that_is_rolled_back_has_erased_nothing(trail: Trail, ada: User) -> None:
    sealing.seal()
    before = all_text(trail)
    with transaction.atomic():
        erasing.erase(ada)
        transaction.set_rollback(True)
    assert all_text(trail) == before


PERMITTED = "SET auditlog.permit = 'UPDATE'; "


_ERASING_BY_HAND = [
    "UPDATE auditlog_record SET action = 'x'",
    "UPDATE auditlog_record SET actor_label = 'x'",
    "UPDATE auditlog_record SET actor_label = NULL",
    "UPDATE auditlog_record SET actor_label = NULL, erased_who = ''",
    "UPDATE auditlog_record SET object_label = NULL, erased_what = '', new = NULL",
]


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        *(
            (role, statement)
            for role in ("gatehouse_app", "gatehouse_owner", "postgres")
            for statement in _ERASING_BY_HAND
        ),
        ("gatehouse_app", "SELECT auditlog_forget_salts(s, '{1}') FROM auditlog_seal s"),  # a function of the owner
    ],
)
def test_the_permit_of_the_functions_opens_nothing_else(trail: Trail, role: str, statement: str) -> None:
    with auditlog.acting_as(Actor("user", "7", "ada"), on_behalf_of=Actor("user", "8", "bob")):
        trail.sealed("one", new={"a": 1})
    before = all_text(trail)
    with trail.another(role) as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute(PERMITTED + statement)
    assert all_text(trail) == before
