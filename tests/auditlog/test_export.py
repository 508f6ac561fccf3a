"""The export: by page and by command, safe for spreadsheets, and itself recorded."""

from __future__ import annotations

import csv
import io
import json
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.models import Q
from django.test import Client

from accounts.models import User
from auditlog import acting_as, exporting, reading
from auditlog.events import record
from auditlog.models import Record
from tests.factories import UserFactory
from tests.hostapp.models import Secretive, Tag, Thing

pytestmark = pytest.mark.django_db
EXPORT = "/admin/auditlog/record/export/"


def sent(browser: Client, **form: str) -> str:
    answer = browser.post(EXPORT, form)
    assert answer.status_code == 200
    return b"".join(answer).decode()


def table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def events(action: str) -> list[dict[str, Any]]:
    return [one.new for one in Record.objects.filter(action=action).order_by("id")]


def test_a_csv_holds_what_the_filters_find_newest_first(auditors_browser: Client, keeper: User) -> None:
    with acting_as(keeper, reason="why not"):
        for name in ("red", "blue"):
            Tag.objects.create(name=name)
    Thing.objects.create(name="one")
    rows = table(sent(auditors_browser, format="csv", resource="hostapp.tag"))
    assert [(row["object"], row["action"], row["actor"], row["reason"]) for row in rows] == [
        ("blue", "create", "keeper", "why not"),
        ("red", "create", "keeper", "why not"),
    ]
    assert tuple(rows[0]) == exporting.COLUMNS
    assert json.loads(rows[0]["new"])["name"] == "blue"
    assert rows[0]["at"].endswith("Z")


def test_json_lines_keep_numbers_exactly(auditors_browser: Client) -> None:
    Thing.objects.create(name="one é", price=Decimal("1234567890.10"), data={"a": [1, 2.5, None, True]})
    (line,) = sent(auditors_browser, format="jsonl", resource="hostapp.thing").splitlines()
    assert '"price": 1234567890.10' in line
    new = json.loads(line)["new"]
    assert (new["name"], new["data"]) == ("one é", {"a": [1, 2.5, None, True]})


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
def test_no_cell_is_a_formula(auditors_browser: Client, begin: str) -> None:
    Tag.objects.create(name=f"{begin}1+1")
    (row,) = table(sent(auditors_browser, format="csv", resource="hostapp.tag"))
    assert not row["object"].startswith(("=", "+", "-", "@", "\t", "\r"))
    assert row["object"].endswith("1+1")


def test_a_cell_is_one_line_and_shows_what_cannot_be_seen(auditors_browser: Client) -> None:
    Tag.objects.create(name="a\n\x1bb")
    text = sent(auditors_browser, format="csv", resource="hostapp.tag")
    assert table(text)[0]["object"] == "a\\x0a\\x1bb"
    assert len(text.splitlines()) == 2


def test_what_is_masked_on_pages_is_masked_in_exports(auditors_browser: Client) -> None:
    Secretive.objects.create(name="one", code="s3cret-code", api_key="s3cret-key", hidden="s3cret", blob=b"s3cret")
    for kind in exporting.FORMATS:
        assert "s3cret" not in sent(auditors_browser, format=kind, resource="hostapp.secretive")


def test_more_than_a_batch_is_all_there_once(auditors_browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "BATCH", 3)
    Tag.objects.bulk_create(Tag(name=str(number)) for number in range(8))
    rows = table(sent(auditors_browser, format="csv", resource="hostapp.tag"))
    assert [row["object"] for row in rows] == [str(number) for number in range(7, -1, -1)]


def test_an_export_is_recorded_when_it_begins_and_when_it_ends(auditors_browser: Client) -> None:
    Tag.objects.create(name="red")
    answer = auditors_browser.post(EXPORT, {"format": "jsonl", "resource": "hostapp.tag"})
    asked = {"page": "export", "format": "jsonl", "resource": "hostapp.tag"}
    assert (events("export"), events("exported")) == ([asked], [])
    list(answer)
    assert events("exported") == [{**asked, "records": 1, "complete": True}]
    for one in Record.objects.filter(action__in=("export", "exported")):
        assert (one.actor_label, one.address) == ("auditor", "192.0.2.7")


def test_an_export_that_was_broken_off_says_so() -> None:
    for name in ("red", "blue"):
        Tag.objects.create(name=name)
    lines = exporting.lines(reading.Query(Q(resource="hostapp.tag")), "jsonl", asked={})
    next(lines)
    lines.close()  # as the server does when the browser has gone away
    assert [(one["records"], one["complete"]) for one in events("exported")] == [(1, False)]


def test_it_holds_no_transaction_and_no_cursor(auditors_browser: Client) -> None:
    found = exporting.rows(reading.Query())
    next(found)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_cursors")
        assert cursor.fetchone() == (0,)


def test_only_who_may_export_does(supports_browser: Client, auditors_browser: Client) -> None:
    assert supports_browser.post(EXPORT, {"format": "csv"}).status_code == 403
    assert auditors_browser.get(EXPORT).status_code == 405
    assert events("export") == []
    reader = UserFactory.create(username="reader", is_staff=True)
    from django.contrib.auth.models import Permission

    reader.user_permissions.add(Permission.objects.get(codename="view_record"))
    browser = Client()
    browser.force_login(reader, "accounts.backends.IdentityBackend")
    assert "Export as" not in browser.get("/admin/auditlog/record/").content.decode()
    assert browser.post(EXPORT, {"format": "csv"}).status_code == 403


@pytest.mark.parametrize("form", [{"format": "xls"}, {"format": "csv", "request": "x"}])
def test_a_question_that_makes_no_sense_exports_nothing(auditors_browser: Client, form: dict[str, str]) -> None:
    assert auditors_browser.post(EXPORT, form)["Location"] == "/admin/auditlog/record/"
    assert events("export") == []


def test_the_command_writes_a_file_for_its_owner_only(tmp_path: Path) -> None:
    Tag.objects.create(name="red")
    output = tmp_path / "trail.csv"
    output.touch(mode=0o644)
    call_command("audit", "export", "--format=csv", f"--output={output}", "--resource=hostapp.tag")
    assert [row["object"] for row in table(output.read_text())] == ["red"]
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    (ended,) = Record.objects.filter(action="exported")
    assert (ended.actor_kind, ended.new["records"]) == ("command", 1)


def test_the_command_writes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    record("opened", "gate", label="north")
    call_command("audit", "export", "--q=north")
    assert capsys.readouterr().out == ""
    Tag.objects.create(name="red")
    call_command("audit", "export", "--resource=hostapp.tag")
    assert json.loads(capsys.readouterr().out)["object"] == "red"


def test_the_command_explains_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="--request: Enter a valid UUID"):
        call_command("audit", "export", "--request=x")
    with pytest.raises(CommandError, match="No such file or directory"):
        call_command("audit", "export", f"--output={tmp_path}/no/file")
