"""``manage.py audit``: what operators and their programs see."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from auditlog import partitions, sealing
from auditlog.models import Record, Seal
from tests.auditlog.storage.conftest import Trail
from tests.live import manage


def audit(*arguments: str) -> tuple[int, str]:
    """The exit code and what was said."""
    said = StringIO()
    try:
        call_command("audit", *arguments, stdout=said)
    except SystemExit as end:
        return int(str(end.code)), said.getvalue()
    return 0, said.getvalue()


def facts(*arguments: str) -> tuple[int, Any]:
    code, said = audit(*arguments, "--json")
    return code, json.loads(said)


def test_verify_says_that_all_is_well_and_what_to_note(trail: Trail) -> None:
    trail.sealed("one", "two")
    trail.record("three")
    code, said = audit("verify")
    assert code == 0
    assert "1 seals; 2 sealed records." in said
    assert "Not sealed yet: 1, since" in said
    assert f"Newest digest: {trail.verify().newest}" in said
    assert "BROKEN" not in said


def test_verify_names_the_first_broken_record_and_fails(trail: Trail) -> None:
    _first, second, third = trail.sealed("one", "two", "three")
    trail.tamper(f"UPDATE auditlog_record SET action = 'x' WHERE id IN ({second}, {third})")
    code, said = audit("verify")
    assert code == 1
    assert f"record {second} was changed after it was sealed" in said.splitlines()[0]
    code, report = facts("verify")
    assert (code, report["ok"]) == (1, False)
    assert [(each["fault"], each["record"]) for each in report["findings"]] == [("changed", second), ("changed", third)]
    assert f"record {second} was changed" in report["findings"][0]["says"]


def test_verify_expects_a_digest(trail: Trail) -> None:
    trail.sealed("one")
    assert audit("verify", "--expect", trail.verify().newest)[0] == 0
    assert audit("verify", "--expect", "0" * 64)[0] == 1


def test_seal_says_how_much_and_the_newest_digest(trail: Trail) -> None:
    assert facts("seal") == (0, {"sealed": 0, "newest": ""})
    trail.record("one", "two")
    code, said = audit("seal")
    newest = bytes(Seal.objects.get().digest).hex()
    assert (code, said) == (0, f"Sealed 2 records.\nNewest digest: {newest}\n")
    assert facts("seal") == (0, {"sealed": 0, "newest": newest})


def test_purge_rehearses_then_drops_and_says_what(trail: Trail) -> None:
    trail.rows("SELECT auditlog_make_week(date_trunc('week', now(), 'UTC') - interval '20 weeks')")
    code, rehearsed = facts("purge", "--dry-run")
    assert (code, rehearsed["dry_run"], len(rehearsed["partitions"])) == (0, True, 1)
    assert not Record.objects.filter(action="purge").exists()
    code, done = facts("purge")
    assert (code, done["dry_run"], done["partitions"]) == (0, False, rehearsed["partitions"])
    assert "0 weeks before" in audit("purge")[1]


def test_purge_takes_a_day_or_a_number_of_days_and_refuses_the_last_thirty(trail: Trail) -> None:
    trail.rows("SELECT auditlog_make_week(date_trunc('week', now(), 'UTC') - interval '20 weeks')")
    day = timezone.now() - timedelta(weeks=15)
    assert len(facts("purge", "--dry-run", "--before", f"{day:%Y-%m-%d}")[1]["partitions"]) == 1
    assert facts("purge", "--dry-run", "--days", "300")[1]["partitions"] == []
    with pytest.raises(CommandError, match="last 30 days"):
        audit("purge", "--days", "29")
    with pytest.raises(CommandError):
        audit("purge", "--before", "someday")
    assert len(facts("purge", "--days", "100")[1]["partitions"]) == 1


def test_purge_says_in_words_that_somebody_holds_the_trail(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    trail.rows("SELECT auditlog_make_week(date_trunc('week', now(), 'UTC') - interval '20 weeks')")
    monkeypatch.setattr(partitions, "TRIES", 1)
    with trail.another() as reader:
        reader.execute("SELECT count(*) FROM auditlog_record")
        with pytest.raises(CommandError, match="try again later"):
            audit("purge")
    assert audit("purge")[0] == 0


def test_partitions_lists_the_weeks_and_fails_when_there_are_too_few(trail: Trail) -> None:
    # As a program of its own: without the sample app of these tests, whose tables are not in this database.
    every = partitions.every()
    done = manage("audit", "partitions", "--json", environment=trail.database.environment)
    report = json.loads(done.stdout)
    assert (done.returncode, report["weeks_ahead"], report["in_default"]) == (0, 26, 0)
    assert [each["name"] for each in report["partitions"]] == [each.name for each in every]
    for partition in every[-23:]:
        trail.tamper(f"DROP TABLE {partition.name}")
    done = manage("audit", "partitions", environment=trail.database.environment)
    assert (done.returncode, done.stderr) == (1, "")
    assert every[0].name in done.stdout
    done = manage("audit", "partitions", "--make", environment=trail.database.environment)
    assert done.returncode == 0
    assert "Made 23." in done.stdout


def test_a_bar_shows_on_a_terminal_only(
    trail: Trail, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trail.record("one", "two")
    audit("seal")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    audit("verify")
    assert "verifying [########################################] 100%" in capsys.readouterr().err


def test_sealing_what_cannot_be_sealed_fails_in_words(trail: Trail) -> None:
    (number,) = trail.record("one")
    trail.tamper(
        "INSERT INTO auditlog_record (id, transaction, epoch, origin, action, actor_kind, resource) OVERRIDING SYSTEM"
        " VALUE"
        f" VALUES ({number}, 1, 1, 'event', 'copy', 'command', 'test')"
    )
    with pytest.raises(CommandError, match="same id"):
        audit("seal")
    assert sealing.unsealed()
