"""Seals: what they cover, and that whatever is done to what they cover is found and named."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import psycopg2
import pytest
from django.db import DEFAULT_DB_ALIAS, OperationalError, connection, transaction
from pytest_django.fixtures import Settings

import auditlog
from auditlog import Actor, leaves, sealing, verifying
from auditlog.models import Record, Seal
from tests.auditlog.storage.conftest import Trail
from tests.config.conftest import Lines, log_lines

__all__ = ["log_lines"]
ADA = Actor("user", "7", "ada")
FULL = {"old": {"price": "1.50"}, "new": {"price": "2.50"}, "personal": {"phone": "1234"}, "reason": "She\tasked\\\n."}


def record_in_full(trail: Trail) -> int:
    """A record with something in every column."""
    with auditlog.acting_as(ADA, on_behalf_of=Actor("user", "8", "bob")):
        (number,) = trail.record("Ünïcode\t\\N\n", **FULL)
    values = "address = '192.0.2.7', agent = 5, request = gen_random_uuid(), object_id = '9'"
    trail.tamper(f"UPDATE auditlog_record SET {values} WHERE id = {number}")
    sealing.seal()
    return number


def test_what_is_sealed_verifies_and_the_rest_is_counted(trail: Trail) -> None:
    trail.sealed("one", "two")
    trail.record("three")
    report = trail.verify()
    assert report.ok
    assert (report.seals, report.records, report.unsealed) == (1, 2, 1)
    assert report.unsealed_since == Record.objects.order_by("-id").values_list("at", flat=True)[0]
    assert report.newest == bytes(Seal.objects.get().digest).hex()


def test_nothing_to_seal_makes_no_seal(trail: Trail) -> None:
    trail.sealed("one")
    assert sealing.seal() == 0
    assert Seal.objects.count() == 1


CHANGES = {
    "at": "at + interval '1 microsecond'",
    "agent": "agent + 1",
    "request": f"'{uuid.uuid4()}'",
    "address": "'192.0.2.8'",
    "origin": "'save'",
    "action": "'unnoted'",
    "actor_kind": "'command'",
    "actor_id": "'77'",
    "actor_label": "'adb'",
    "on_behalf_id": "NULL",
    "on_behalf_label": "''",
    "resource": "'tests'",
    "object_id": "''",
    "object_label": "NULL",
    "old": "'{}'",
    "new": """'{"price": "2.500"}'""",
    "personal": "NULL",
    "reason": "reason || ' '",
    "erased_who": "sha256('')",
    "erased_what": "sha256('')",
}


@pytest.mark.parametrize("column", CHANGES)
def test_a_change_of_any_column_is_found_and_the_record_named(trail: Trail, column: str) -> None:
    assert {*CHANGES, "id", "transaction", "epoch"} == {field.column for field in Record._meta.concrete_fields}
    trail.sealed("before")
    number = record_in_full(trail)
    trail.sealed("after")
    assert trail.verify().ok
    trail.tamper(f"UPDATE auditlog_record SET {column} = {CHANGES[column]} WHERE id = {number}")
    (finding,) = trail.verify().findings
    assert (finding.fault, finding.record, finding.seal) == ("changed", number, 2)


@pytest.mark.parametrize("change", ["transaction = 1", "epoch = epoch + 1", "at = at - interval '1 week'"])
def test_a_record_that_was_moved_out_of_its_seal_is_missed_there(trail: Trail, change: str) -> None:
    _first, second, _third = trail.sealed("one", "two", "three")
    trail.sealed("four")
    trail.tamper(f"UPDATE auditlog_record SET {change} WHERE id = {second}")
    assert ("removed", second) in trail.faults() or ("changed", second) in trail.faults()


def test_a_removed_record_is_named_and_no_other(trail: Trail) -> None:
    _first, second, _third = trail.sealed("one", "two", "three")
    trail.tamper(f"DELETE FROM auditlog_record WHERE id = {second}")
    assert trail.faults() == [("removed", second)]


def test_records_added_among_the_sealed_are_named(trail: Trail) -> None:
    (number,) = trail.sealed("one")
    columns = "at, transaction, epoch, origin, action, actor_kind, resource"
    copy = f"INSERT INTO auditlog_record (id, {columns}) OVERRIDING SYSTEM VALUE SELECT"
    trail.tamper(f"{copy} 999999, {columns} FROM auditlog_record WHERE id = {number}")
    assert trail.faults() == [("added", 999999)]
    trail.tamper("DELETE FROM auditlog_record WHERE id = 999999")
    columns_later = columns.replace("at,", "at + interval '1 microsecond',")
    trail.tamper(f"{copy} id, {columns_later} FROM auditlog_record WHERE id = {number}")
    assert ("added", number) in trail.faults()


def test_a_record_of_an_epoch_that_never_was_is_named(trail: Trail) -> None:
    (number,) = trail.record("one")
    trail.tamper(f"UPDATE auditlog_record SET epoch = 99 WHERE id = {number}")
    sealing.seal()
    assert trail.faults() == [("added", number)]


HEADER = {
    "at": "at + interval '1 second'",
    "week": "week - interval '1 week'",
    "epoch": "epoch + 1",
    "from_transaction": "1",
    "from_id": "1",
    "to_transaction": "to_transaction + 1",
    "to_id": "1",
    "records": "records + 1",
    "purged_before": "'2020-01-06T00:00:00Z'",
    "root": "sha256('')",
    "digest": "sha256('')",
    "ids": "'{[1,2)}'",
    "prefixes": "'\\x00000000'",
    "salts": "'\\x00'",
}


@pytest.mark.parametrize("column", HEADER)
def test_a_change_of_a_seal_is_found(trail: Trail, column: str) -> None:
    trail.sealed("one")
    trail.sealed("two")
    assert {*HEADER, "id", "key"} == {field.column for field in Seal._meta.concrete_fields}
    trail.tamper(f"UPDATE auditlog_seal SET {column} = {HEADER[column]} WHERE id = 1")
    report = trail.verify()
    assert report.findings[0].seal == 1


def test_a_record_changed_together_with_what_its_seal_knows_of_it_is_still_found(trail: Trail) -> None:
    (number,) = trail.sealed("one")
    trail.tamper(f"UPDATE auditlog_record SET action = 'x' WHERE id = {number}")
    trail.tamper("UPDATE auditlog_seal SET prefixes = '\\x00000000', root = sha256('x')")
    assert {fault for fault, _record in trail.faults()} == {"seal_altered", "changed"}


def test_a_seal_taken_out_of_the_chain_is_missed(trail: Trail) -> None:
    for label in ("one", "two", "three"):
        trail.sealed(label)
    trail.tamper("DELETE FROM auditlog_seal WHERE id = 2")
    assert trail.faults() == [("seal_missing", None), ("seal_altered", None)]


def test_only_a_digest_noted_elsewhere_tells_that_the_newest_seals_were_cut_off(trail: Trail) -> None:
    trail.sealed("one")
    noted_early = trail.verify().newest
    trail.sealed("two")
    noted = trail.verify().newest
    assert trail.faults(noted_early) == trail.faults(noted.upper()) == []
    trail.tamper("DELETE FROM auditlog_seal WHERE id = 2")
    assert trail.faults() == []
    assert trail.faults(noted) == [("not_expected", None)]


def test_the_newest_digest_is_logged_unmasked(trail: Trail, log_lines: Lines) -> None:
    trail.sealed("one")
    (line,) = [line for line in log_lines if "audit.sealed" in line]
    assert trail.verify().newest in line


def test_what_a_running_transaction_may_still_write_is_left_for_later(trail: Trail) -> None:
    trail.sealed("one")
    with trail.another() as cursor:
        cursor.execute("INSERT INTO auth_group (name) VALUES ('slow')")
        trail.record("two")
        assert (sealing.seal(), Seal.objects.count()) == (0, 1)
        cursor.connection.commit()
    assert sealing.seal() == 2
    trail.tamper("DELETE FROM auth_group WHERE name = 'slow'")
    assert trail.verify().ok


def test_a_seal_is_bounded_also_within_one_transaction(trail: Trail) -> None:
    trail.rows(
        "INSERT INTO auditlog_record (transaction, epoch, origin, action, actor_kind, resource)"
        " SELECT pg_current_xact_id()::text::bigint, auditlog_epoch(),"
        " 'event', 'noted', 'command', 'test' FROM generate_series(1, 25)"
    )
    ids = trail.record("one", "two")
    assert sealing.seal(most=10) == 27
    assert list(Seal.objects.order_by("id").values_list("records", flat=True)) == [10, 10, 7]
    report = trail.verify()
    assert (report.ok, report.records, report.unsealed) == (True, 27, 0)
    trail.tamper(f"DELETE FROM auditlog_record WHERE id = {ids[0]}")
    assert trail.faults() == [("removed", ids[0])]


def test_no_seal_spans_two_weeks(trail: Trail) -> None:
    first, _second = trail.record("one", "two")
    trail.tamper(f"UPDATE auditlog_record SET at = at - interval '1 week' WHERE id = {first}")
    sealing.seal()
    assert Seal.objects.values("week").distinct().count() == 2
    assert trail.verify().ok


def test_former_keys_are_good_for_old_seals_and_unknown_ones_are_told(trail: Trail, settings: Settings) -> None:
    former = settings.SECRET_KEY
    trail.sealed("one")
    settings.AUDITLOG_SEAL_KEY = "a" * 30 + "b" * 30
    trail.sealed("two")
    assert trail.verify().ok
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another" * 10, [former]
    assert trail.verify().ok
    settings.SECRET_KEY_FALLBACKS = []
    assert trail.faults() == [("unknown_key", None)]
    settings.AUDITLOG_SEAL_KEY_FALLBACKS = [former]
    assert trail.verify().ok


def test_what_is_sealed_with_another_key_does_not_verify(trail: Trail, settings: Settings) -> None:
    trail.sealed("one")
    settings.SECRET_KEY = "another" * 10
    trail.tamper(f"UPDATE auditlog_seal SET key = '{sealing.known_keys()[0].id}'")
    assert trail.faults()[0] == ("seal_altered", None)


def test_two_who_seal_at_once_make_one_chain(trail: Trail) -> None:
    trail.record(*map(str, range(40)))
    barrier = Barrier(2)

    def seal() -> int:
        barrier.wait()
        try:
            return sealing.seal(most=5)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as threads:
        sealed = [threads.submit(seal).result for _ in range(2)]
        assert sum(result() for result in sealed) <= 40
    sealing.seal()
    report = trail.verify()
    assert (report.ok, report.records, report.unsealed) == (True, 40, 0)


def test_sealing_that_is_interrupted_goes_on_where_it_was(trail: Trail) -> None:
    trail.record(*map(str, range(20)))

    def interrupt(_records: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sealing.seal(most=5, progress=interrupt)
    assert Seal.objects.count() == 1
    assert sealing.seal(most=5) == 15
    assert trail.verify().ok


def test_verification_can_be_interrupted_in_the_middle_of_reading(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.sealed("one", "two")

    def interrupt(*_whatever: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("auditlog.leaves.sha256", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trail.verify()
    assert trail.verify().ok
    assert psycopg2.extensions.get_wait_callback() is not None


def test_a_fault_of_the_database_while_reading_is_told_as_one(trail: Trail) -> None:
    """The worker waits for the database then; any other error would end it."""
    trail.record("one")

    @transaction.atomic
    def read() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '10ms'")
        leaves.read("true", b"", leaves.fresh_salts(), DEFAULT_DB_ALIAS)

    with trail.another() as busy:
        busy.execute("LOCK TABLE auditlog_record_default")
        with pytest.raises(OperationalError):
            read()


def test_two_records_with_one_id_are_not_sealed_over(trail: Trail) -> None:
    (number,) = trail.record("one")
    columns = "transaction, epoch, origin, action, actor_kind, resource"
    trail.tamper(
        f"INSERT INTO auditlog_record (id, at, {columns}) OVERRIDING SYSTEM VALUE"
        f" SELECT id, at + interval '1 microsecond', {columns} FROM auditlog_record WHERE id = {number}"
    )
    with pytest.raises(sealing.CannotSeal):
        sealing.seal()


@pytest.mark.parametrize(
    "statement",
    ["UPDATE auditlog_seal SET records = 0", "DELETE FROM auditlog_seal", "TRUNCATE auditlog_seal"],
)
@pytest.mark.parametrize("role", ["gatehouse_app", "gatehouse_owner", "postgres"])
def test_nobody_changes_a_seal_with_the_triggers_on(trail: Trail, statement: str, role: str) -> None:
    trail.sealed("one")
    with trail.another(role) as cursor, pytest.raises(psycopg2.errors.InsufficientPrivilege):
        cursor.execute(statement)


def test_the_application_cannot_seal_beside_the_chain(trail: Trail) -> None:
    trail.sealed("one")
    copy = "SELECT auditlog_add_seal(s, '\\x00') FROM auditlog_seal s"
    with trail.another("gatehouse_app") as cursor, pytest.raises(psycopg2.errors.SerializationFailure):
        cursor.execute(copy)


def test_the_application_cannot_seal_what_is_still_to_come(trail: Trail) -> None:
    trail.sealed("one")
    ahead = """
        SELECT auditlog_add_seal(ROW(s.id + 1, {})::auditlog_seal, s.digest)
        FROM auditlog_seal s ORDER BY s.id DESC LIMIT 1
    """
    columns = [field.column for field in Seal._meta.concrete_fields][1:]
    later = ", ".join("9223372036854775807" if name == "to_transaction" else f"s.{name}" for name in columns)
    with trail.another("gatehouse_app") as cursor:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="transactions that are over"):
            cursor.execute(ahead.format(later))
        cursor.connection.rollback()
        with pytest.raises(psycopg2.errors.SerializationFailure):
            cursor.execute("SELECT auditlog_add_seal(s, NULL) FROM auditlog_seal s")


def test_sealing_asks_nothing_more_when_there_are_more_records(trail: Trail) -> None:
    from django.test.utils import CaptureQueriesContext

    counts = []
    for labels in ("ab", "abcdefghijklmnop"):
        trail.record(*labels)
        with CaptureQueriesContext(connection) as queries:
            sealing.seal()
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_a_fault_is_said_in_words(trail: Trail) -> None:
    (number,) = trail.sealed("one")
    trail.tamper(f"DELETE FROM auditlog_record WHERE id = {number}")
    (finding,) = trail.verify().findings
    assert str(finding) == f"seal 1 (week of {finding.week:%Y-%m-%d}): record {number} is gone"
    assert finding.fault == verifying.Fault.REMOVED
