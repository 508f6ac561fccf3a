"""Many people at once, by command: files of any kind, verdicts, going on after an interruption, races."""

from __future__ import annotations

import csv
import io
import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection

from accounts import importing, life_cycle, role_changes
from accounts.csv_files import Row
from accounts.errors import AccountError
from accounts.import_verdicts import Memory, PeoplePlanner
from accounts.models import AddressChange, Import, Invitation, ReservedUsername, User
from auditlog.models import Record
from tests.accounts.conftest import jobs, run_jobs
from tests.accounts.test_roles import with_role
from tests.factories import InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db
HEADER = "username,email,full_name,roles\n"


@pytest.fixture
def import_file(tmp_path: Path, capsys: Any) -> Callable[..., Any]:
    """Import this content with these options; returns what the command says to programs."""

    def run(content: str | bytes, *options: str, users: bool = True) -> Any:
        path = tmp_path / "people.csv"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        kind = "--users" if users else "--invitations"
        with suppress(SystemExit):  # its code is asked for where it matters
            call_command("import_people", str(path), kind, "--json", *options)
        return json.loads(capsys.readouterr().out)

    return run


def usernames() -> set[str]:
    return set(User.objects.values_list("username", flat=True))


def codes(said: Any) -> dict[int, str]:
    return {each["line"]: each["code"] for each in said["refused"]}


def test_people_are_made_with_roles_and_without_a_password(import_file: Callable[..., Any]) -> None:
    said = import_file(HEADER + "ada,ada@example.com,Ada Lovelace,\nbob,bob@example.com,,Support|member\n")
    assert said["counts"] == {"ok": 2, "exists": 0, "refused": 0}
    ada, bob = User.objects.order_by("username")
    assert (ada.full_name, ada.is_staff, bob.is_staff) == ("Ada Lovelace", False, True)
    assert not ada.has_usable_password()
    assert ada.email_verified_at is not None
    assert [set(user.groups.values_list("name", flat=True)) for user in (ada, bob)] == [
        {"Member"},
        {"Support", "Member"},
    ]
    assert jobs() == []
    for user in (ada, bob):
        user.full_clean()
        (record,) = Record.objects.filter(object_id=str(user.pk), action="create", resource="accounts.user")
        assert record.reason == "import of people.csv"
    begun = Import.objects.get()
    assert (begun.state, begun.rows, begun.position, begun.content) == ("done", 2, 2, b"")
    assert begun.from_command


def test_the_same_file_again_changes_nothing(import_file: Callable[..., Any]) -> None:
    content = HEADER + "ada,ada@example.com,Ada,\n"
    import_file(content)
    User.objects.update(full_name="Her own choice")
    assert import_file(content)["counts"] == {"ok": 0, "exists": 1, "refused": 0}
    assert User.objects.get().full_name == "Her own choice"


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffusername,email\r\nada,ada@example.com\r\n",
        "Email;Username\nada@example.com;ada\n",
        '"username","email","full_name"\n\n"ada","ada@example.com","Ada ""the Countess"" L."\n\n,,\n',
        "username,email\nada,ada@example.com",
    ],
)
def test_files_as_spreadsheets_write_them(import_file: Callable[..., Any], content: str) -> None:
    assert import_file(content)["counts"]["ok"] == 1
    assert usernames() == {"ada"}


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "file_empty"),
        (b"\n\n", "file_empty"),
        (b"username,email\n", "file_nobody"),
        (b"ada,ada@example.com\n", "file_columns_unknown"),
        (b"username,email,is_superuser\nada,ada@example.com,1\n", "file_columns_unknown"),
        (b"username\nada\n", "file_columns_missing"),
        (b"username,email,email\nada,a@example.com,b@example.com\n", "file_columns_twice"),
        (b"username,email\nada,ada@example.com\nb\xffb,bob@example.com\n", "file_not_utf8"),
        (b"username,email\nada,ada@example.com\nb\0b,bob@example.com\n", "file_nul"),
        ("username,email\nada,ada@example.com\n".encode("utf-16"), "file_nul"),
        (b"username,email\nada,ada@example.com\n" + b"x" * 20_000 + b"\n", "file_line_too_long"),
        (b'username,email\nada,ada@example.com\n"bob,bob@example.com\n', "file_malformed"),
        (b'username,email\nada,ada@example.com\n"bob"x,bob@example.com\n', "file_malformed"),
        (b'username,email\nada,ada@example.com\n"' + b"bob\n" * 5000, "file_malformed"),
        (b"username,email\nada,ada@example.com\rbob,bob@example.com\n", "file_malformed"),
    ],
)
def test_a_file_with_a_fault_is_refused_whole(import_file: Callable[..., Any], content: bytes, code: str) -> None:
    said = import_file(content)
    assert said["error"] == code
    assert said["message"]
    assert usernames() == set()
    assert not Import.objects.exists()


def test_a_line_of_ten_megabytes_is_never_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "one-line.csv"
    path.write_bytes(b"username,email\n" + b"x" * 10_000_000)
    with path.open("rb") as file, pytest.raises(AccountError, match="file_line_too_long") as refused:
        importing.survey(_Counted(file), importing.Options(kind="users"))
    assert refused.value.about["line"] == 2


class _Counted(io.BufferedReader):
    """Fails whoever reads more than a block at once."""

    def __init__(self, file: Any) -> None:
        super().__init__(file.raw)

    def read(self, size: int | None = -1) -> bytes:
        assert size is not None and 0 < size <= 1 << 20
        return super().read(size)

    def readline(self, size: int | None = -1) -> bytes:
        assert size is not None and 0 < size <= 1 << 15
        return super().readline(size)


def test_each_row_has_a_verdict_of_its_own(import_file: Callable[..., Any], owner: User) -> None:
    ReservedUsername.objects.create(
        username_canonical="old.name", username_skeleton="old.narne", holder=owner, reserved_until="2999-01-01T00:00Z"
    )
    leaver = UserFactory.create(username="leaver")
    life_cycle.erase(leaver, acting_user=None)
    AddressChange.objects.create(
        user=owner, old_email="former@example.com", state="confirmed", undo_until="2999-01-01T00:00Z"
    )
    rows = {
        2: ("bill,bill@example.com,,", None),
        3: ("x,short@example.com,,", "username_too_short"),
        4: ("no-address,nothing,,", "email_invalid"),
        5: ("OWNER,other@example.com,,", "username_taken"),
        6: ("other,Owner@Example.com,,", "email_taken"),
        7: ("0wner,look@example.com,,", "username_look_alike"),
        8: ("old.name,old@example.com,,", "username_retired"),
        9: ("few,few@example.com", "row_cells"),
        10: ("boss,boss@example.com,,Boss", "role_unknown"),
        11: ("line,line@example.com,a\u2028b,", "control_characters"),
        12: ("long,long@example.com," + "n" * 151 + ",", "max_length"),
        13: ("bill,second@example.com,,", "username_taken"),
        14: ("second,bill@example.com,,", "email_taken"),
        15: ("bi1l,third@example.com,,", "username_look_alike"),
        16: ("bill,bill@example.com,,", None),
        17: ("owner,owner@example.com,,", None),
        18: (",,x,", "blank"),
        19: ("admin,admin@example.com,,", "username_reserved"),
        20: ("owner,bill@example.com,,", "username_taken"),
        21: ("LEAVER,new@example.com,,", "username_taken"),
        22: ("mover,Former@example.com,,", "email_taken"),
    }
    content = HEADER + "\n".join(row for row, _code in rows.values()) + "\n"
    expected = {line: code for line, (_row, code) in rows.items() if code}
    planned = import_file(content, "--dry-run")
    assert usernames() - {f"erased:{leaver.pk.hex}"} == {"owner"}, "a dry run writes nothing"
    written = import_file(content)
    assert codes(planned) == codes(written) == expected
    assert planned["counts"] == written["counts"] == {"ok": 1, "exists": 2, "refused": len(expected)}
    assert usernames() - {f"erased:{leaver.pk.hex}"} == {"owner", "bill"}


def test_names_are_unique_over_batches_too(import_file: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setitem(importing.BATCH, "users", 1)
    content = "username,email\nada,ada@example.com\nADA,other@example.com\nada,ada@example.com\n"
    planned = import_file(content, "--dry-run")
    assert codes(planned) == codes(import_file(content)) == {3: "username_taken"}
    assert planned["counts"] == {"ok": 1, "exists": 1, "refused": 1}


def test_a_report_has_every_row_and_no_formula(import_file: Callable[..., Any], tmp_path: Path) -> None:
    report = tmp_path / "report.csv"
    import_file('username,email\nada,ada@example.com\n"=cmd()",x@example.com\n', "--report", str(report))
    assert oct(report.stat().st_mode & 0o777) == "0o600"
    header, good, bad = csv.reader(report.read_text().splitlines())
    assert header == ["line", "who", "result", "code", "words"]
    assert good == ["2", "ada", "ok", "created", "created"]
    assert bad[:4] == ["3", "'=cmd()", "refused", "username_characters"]


@pytest.mark.parametrize(
    ("row", "who"),
    [
        ("imp7,imp7@example.com", "imp7"),
        (" imp7 ,imp7@example.com,Imp,Member,more", "imp7"),
        (",imp7@example.com", "imp7@example.com"),
        ("imp7", "imp7"),
        (",,Imp", "nobody"),
        ("\x1b[2J\u202e" + "n" * 200 + ",x", "[2J" + "n" * 97),
        ("\x1b,imp7@example.com", "imp7@example.com"),
    ],
)
def test_a_row_of_too_few_or_many_cells_says_whose_it_is(tmp_path: Path, capsys: Any, row: str, who: str) -> None:
    path = tmp_path / "people.csv"
    path.write_text(f"{HEADER}{row}\n")
    with suppress(SystemExit):
        call_command("import_people", str(path), "--users")
    assert capsys.readouterr().out.startswith(f"line 2, {who}: This row has ")


def test_what_a_file_says_does_not_steer_the_terminal(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "people.csv"
    path.write_text(HEADER + "a\x1b[2Jda,ada@example.com,,\nbob,bob@example.com,,Bo\x1b[2Jss\n")
    with suppress(SystemExit):
        call_command("import_people", str(path), "--users")
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "line 2, a[2Jda: " in said and "“Bo[2Jss”" in said


def test_the_words_of_a_report_say_what_would_be_and_what_was_done(
    import_file: Callable[..., Any], tmp_path: Path, owner: User
) -> None:
    def reported(content: str, *options: str, users: bool = True) -> list[list[str]]:
        report = tmp_path / "report.csv"
        import_file(content, "--report", str(report), *options, users=users)
        return [row[2:] for row in csv.reader(report.read_text().splitlines())][1:]

    there = ["exists", "exists", "There is such a person already."]
    content = "username,email,full_name\nada,ada@example.com,\nowner,owner@example.com,Olga\n"
    assert reported(content, "--dry-run") == [["ok", "created", "would be created"], there]
    assert reported(content) == [["ok", "created", "created"], there]
    changed = reported(content, "--update", "--dry-run") + reported(content, "--update")
    assert changed == [there, ["ok", "updated", "would be changed"], there, ["ok", "updated", "changed"]]
    open_one = ["exists", "open", "There is an open invitation to this address already."]
    content = "email\nnew@example.com\n"
    invited = [reported(content, *options, users=False) for options in (["--dry-run"], [], [])]
    assert invited == [[["ok", "invited", "would be invited"]], [["ok", "invited", "invited"]], [open_one]]


def test_mails_go_out_only_when_asked_for(import_file: Callable[..., Any]) -> None:
    import_file("username,email\nada,ada@example.com\n", "--mail")
    (message,) = run_jobs()
    assert message.to == ["ada@example.com"]
    assert "/accounts/password/reset/" in message.body


def test_standard_input_is_read_too(monkeypatch: Any, capsys: Any) -> None:
    given = io.TextIOWrapper(io.BytesIO(b"username,email\nada,ada@example.com\n"))
    monkeypatch.setattr(sys, "stdin", given)
    call_command("import_people", "-", "--users")
    assert "1 rows: 1 imported, 0 there already, 0 refused" in capsys.readouterr().out
    assert usernames() == {"ada"}


# Whose rights


def test_in_somebodys_name_it_has_their_rights(import_file: Callable[..., Any]) -> None:
    actor, supporter = with_role("Administrator"), with_role("Support")
    assert import_file("username,email\nada,ada@example.com\n", "--by", supporter.username)["error"] == "failed"
    supporter.is_superuser = False
    said = import_file(HEADER + "ada,ada@example.com,,Administrator\n", "--by", actor.username)
    assert said["counts"]["ok"] == 1
    group = Group.objects.create(name="Gardeners")
    group.permissions.set(Group.objects.get(name="Administrator").permissions.all()[:1])
    actor.groups.set([Group.objects.get(name="Administrator")])
    assert Import.objects.get().started_by == actor


def test_nobody_hands_out_more_than_they_have(import_file: Callable[..., Any]) -> None:
    actor = with_role("Support")
    with_more = Group.objects.get(name="Administrator").permissions.get(codename="add_user")
    actor.user_permissions.set([with_more])
    said = import_file(
        HEADER + "ada,ada@example.com,,Administrator\nbob,b@example.com,,Support\n", "--by", actor.username
    )
    assert codes(said) == {2: "role_above_own"}


def test_who_was_demoted_meanwhile_goes_on_no_more(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(importing.BATCH, "users", 1)
    actor = with_role("Administrator")
    path = tmp_path / "people.csv"
    path.write_text("username,email\nada,ada@example.com\nbob,bob@example.com\n")
    with path.open("rb") as file:
        begun = importing.begin(file, "people.csv", importing.Options(kind="users"), acting_user=actor)
        batches = importing.write(begun, file, acting_user=actor)
        next(batches)
        actor.groups.clear()
        with pytest.raises(AccountError, match="import_rights_lost"):
            next(batches)
    begun.refresh_from_db()
    assert (begun.state, begun.code, begun.position) == ("failed", "import_rights_lost", 1)
    assert "bob" not in usernames()


# Changing who exists


def test_update_changes_name_and_roles_of_who_exists(import_file: Callable[..., Any], owner: User) -> None:
    owner.groups.set(Group.objects.filter(name="Member"))
    content = HEADER + "owner,owner@example.com,Olga O.,Member|Support\nnew-one,new@example.com,,\n"
    assert import_file(content)["counts"] == {"ok": 1, "exists": 1, "refused": 0}
    assert import_file(content, "--update")["counts"] == {"ok": 1, "exists": 1, "refused": 0}
    owner.refresh_from_db()
    assert (owner.full_name, owner.is_staff) == ("Olga O.", True)
    assert set(owner.groups.values_list("name", flat=True)) == {"Member", "Support"}
    assert import_file(content, "--update")["counts"]["exists"] == 2
    # By the name or the address alone; an empty cell changes nothing.
    said = import_file(HEADER + "owner,,,Member\n,new@example.com,Nora,\n", "--update")
    assert said["counts"]["ok"] == 2
    owner.refresh_from_db()
    assert (owner.full_name, owner.is_staff) == ("Olga O.", False)
    assert User.objects.get(username="new-one").full_name == "Nora"


def test_update_by_a_name_or_address_that_nobody_has_says_so(import_file: Callable[..., Any]) -> None:
    content = HEADER + ",nobody@example.com,Nobody,\nnobody,,,Member\n,,x,\nnew,new@example.com,,\n"
    planned, written = import_file(content, "--update", "--dry-run"), import_file(content, "--update")
    assert codes(planned) == codes(written) == {2: "row_nobody", 3: "row_nobody", 4: "blank"}
    assert written["refused"][0]["words"].startswith("There is nobody with this name or address.")
    assert written["counts"]["ok"] == 1


def test_update_is_bound_by_the_rules(import_file: Callable[..., Any], owner: User) -> None:
    actor, staff = with_role("Administrator"), with_role("Auditor")
    owner.groups.set(Group.objects.filter(name="Member"))
    rows = [
        f"{staff.username},{staff.email},Renamed,",
        f"{actor.username},{actor.email},,Member",
        f"owner,{staff.email},Renamed,",
        f"{actor.username},{actor.email},My Name,",
        "owner,owner@example.com,,Support",
        "owner,free@example.com,Renamed,",
    ]
    said = import_file(HEADER + "\n".join(rows), "--update", "--by", actor.username)
    assert codes(said) == {2: "person_above_own", 3: "own_roles", 4: "row_two_people", 7: "username_taken"}
    actor.refresh_from_db()
    assert actor.full_name == "My Name"
    assert set(owner.groups.values_list("name", flat=True)) == {"Support"}


# Invitations


def test_invitations_are_made_mailed_and_made_once(import_file: Callable[..., Any], owner: User) -> None:
    InvitationFactory.create(email="open@example.com")
    content = (
        "email,roles,note,expires_in_days\nnew@example.com,Support,Hello,3\nopen@example.com,,,\n"
        "Owner@example.com,,,\nbad,,,\nx@example.com,,,0\ny@example.com,,,seven\nz@example.com,Boss,,\n"
        'NEW@example.com,,,\nn@example.com,,"a\nb",\n'
    )
    expected = {
        4: "email_taken",
        5: "email_invalid",
        6: "row_days",
        7: "row_days",
        8: "role_unknown",
        10: "control_characters",
    }
    planned = import_file(content, "--dry-run", users=False)
    assert Invitation.objects.count() == 1
    written = import_file(content, users=False)
    assert codes(planned) == codes(written) == expected
    assert planned["counts"] == written["counts"] == {"ok": 1, "exists": 2, "refused": 6}
    made = Invitation.objects.get(email="new@example.com")
    assert (made.note, made.lifetime_days, made.from_command) == ("Hello", 3, True)
    assert [role.name for role in made.roles.all()] == ["Support"]
    assert [message.to for message in run_jobs()] == [["new@example.com"]]
    Invitation.objects.update(sent_at="2020-01-01T00:00Z")
    assert import_file(content, users=False)["counts"] == {"ok": 0, "exists": 3, "refused": 6}
    assert run_jobs() == [], "who is invited already gets no second mail"


def test_the_quota_holds_for_who_imports_in_their_name(
    import_file: Callable[..., Any], inviter: User, settings: Any
) -> None:
    settings.INVITATIONS_PER_DAY = 2
    content = "email\n" + "".join(f"{number}@example.com\n" for number in range(4))
    planned = import_file(content, "--dry-run", "--by", inviter.username, users=False)
    written = import_file(content, "--by", inviter.username, users=False)
    assert codes(planned) == codes(written) == {4: "quota_of_inviter", 5: "quota_of_inviter"}
    assert Invitation.objects.count() == 2


# Interruptions and races


def people(first: int, last: int) -> str:
    return "username,email\n" + "".join(f"p{n}p,p{n}p@example.com\n" for n in range(first, last + 1))


def test_what_was_interrupted_goes_on_where_it_was(import_file: Callable[..., Any], monkeypatch: Any) -> None:
    monkeypatch.setitem(importing.BATCH, "users", 3)
    insert, calls = importing._insert, []

    def dies_in_the_second_batch(people: list[User]) -> set[Any]:
        calls.append(len(people))
        made = insert(people)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made

    monkeypatch.setattr(importing, "_insert", dies_in_the_second_batch)
    with pytest.raises(KeyboardInterrupt):
        import_file(people(1, 8))
    assert len(usernames()) == 3, "the batch that was interrupted left nothing"
    begun = Import.objects.get()
    assert (begun.state, begun.position) == ("running", 3)
    said = import_file(people(1, 8), "--resume")
    assert (said["id"], said["resumed_after"]) == (str(begun.pk), 3)
    assert said["counts"] == {"ok": 5, "exists": 0, "refused": 0}
    begun.refresh_from_db()
    assert (begun.state, begun.position, begun.counts) == ("done", 8, {"ok": 8})
    assert len(usernames()) == 8
    assert import_file(people(1, 8), "--resume")["error"] == "import_none_to_resume", "it is done"


def test_what_was_never_interrupted_is_not_gone_on_with(tmp_path: Path, import_file: Callable[..., Any]) -> None:
    said = import_file(people(1, 3), "--resume")
    assert said["error"] == "import_none_to_resume"
    with pytest.raises(CommandError, match=r"No interrupted import of this file.*leave out --resume") as refused:
        call_command("import_people", str(tmp_path / "people.csv"), "--users", "--resume")
    assert refused.value.returncode == 3
    assert (usernames(), Import.objects.count()) == (set(), 0)


def test_a_batch_that_was_committed_is_not_written_again(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(importing.BATCH, "users", 2)
    path = tmp_path / "people.csv"
    path.write_text(people(1, 6))
    with path.open("rb") as file, path.open("rb") as same:
        begun = importing.begin(file, "people.csv", importing.Options(kind="users"), acting_user=None)
        first, second = importing.write(begun, file, acting_user=None), importing.write(begun, same, acting_user=None)
        written = [len(next(first)), len(next(second)), len(next(second)), len(next(first)), len(next(first))]
    assert written == [2, 0, 2, 0, 2]
    begun.refresh_from_db()
    assert begun.counts == {"ok": 6}


def test_who_comes_between_two_looks_of_a_plan_exists_and_is_no_reason_to_refuse_the_row(db: None) -> None:
    """Between any two: each look sees what was committed before it, so that who refuses must not be seen first."""
    row = Row(1, 2, {"username": "newcomer", "email": "newcomer@example.com"})
    for looks_before in range(8):
        looks = 0

        def come(execute: Any, sql: str, params: Any, many: bool, context: Any, before: int = looks_before) -> Any:
            nonlocal looks
            looks += 1
            if looks == before + 1:
                looks = 99
                UserFactory.create(username="newcomer", email="newcomer@example.com")
            return execute(sql, params, many, context)

        with connection.execute_wrapper(come):
            found = PeoplePlanner(None, update=False).plan([row], Memory()).verdicts[1]
        assert found.result in ("ok", "exists"), (looks_before, found.code)
        User.objects.all().delete()


@pytest.mark.django_db(transaction=True)
def test_two_imports_of_overlapping_files_at_once_make_everybody_once(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(importing.BATCH, "users", 40)
    files = {
        "up": people(1, 200),
        "down": "username,email\n" + "".join(reversed(people(100, 300).splitlines(True)[1:])),
    }
    counts: dict[str, dict[str, int]] = {}
    faults: list[BaseException] = []
    start = threading.Barrier(2)

    def run(name: str) -> None:
        try:
            path = tmp_path / name
            path.write_text(files[name])
            with path.open("rb") as file:
                begun = importing.begin(file, name, importing.Options(kind="users"), acting_user=None)
                start.wait()
                for _verdicts in importing.write(begun, file, acting_user=None):
                    pass
            counts[name] = Import.objects.get(pk=begun.pk).counts
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=[name]) for name in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert usernames() == {f"p{n}p" for n in range(1, 301)}
    assert sum(each["ok"] for each in counts.values()) == 300
    assert sum(each.get("exists", 0) for each in counts.values()) == 101
    assert not any("refused" in each for each in counts.values())
    assert role_changes.roles_of(User.objects.values_list("pk", flat=True))
    assert User.objects.filter(groups__name="Member").count() == 300


def test_a_name_that_is_given_up_between_plan_and_write_refuses_its_row_only(
    import_file: Callable[..., Any], monkeypatch: Any
) -> None:
    insert = importing._insert
    first: list[ReservedUsername] = []

    def overtaken(people: list[User]) -> set[Any]:
        if not first:
            kept = {"username_canonical": "ada", "username_skeleton": "ada", "reserved_until": "2999-01-01T00:00Z"}
            first.append(ReservedUsername.objects.create(**kept))
        return insert(people)

    monkeypatch.setattr(importing, "_insert", overtaken)
    monkeypatch.setattr(importing, "MOST_RACES", 1)
    said = import_file("username,email\nada,ada@example.com\nbob,bob@example.com\n")
    assert codes(said) == {2: "row_raced"}
    assert usernames() == {"bob"}


def test_who_signs_up_between_plan_and_write_is_not_made_twice(
    import_file: Callable[..., Any], monkeypatch: Any
) -> None:
    insert = importing._insert
    first: list[User] = []

    def overtaken(people: list[User]) -> set[Any]:
        if not first:
            first.append(UserFactory.create(username="ada", email="other@example.com"))
        return insert(people)

    monkeypatch.setattr(importing, "_insert", overtaken)
    said = import_file("username,email\nada,ada@example.com\nbob,bob@example.com\n")
    assert codes(said) == {2: "username_taken"}
    assert usernames() == {"ada", "bob"}
    (record,) = Record.objects.filter(resource="accounts.user", action="create", object_label="bob")
    assert record


@pytest.mark.parametrize("options", [["--invitations", "--update"], ["--invitations", "--mail"], []])
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("import_people", str(tmp_path / "nothing.csv"), *options)


@pytest.mark.parametrize(
    ("file", "report", "words"),
    [
        ("nowhere.csv", "", "The file 'nowhere.csv' cannot be read: No such file or directory."),
        ("/", "", "The file '/' cannot be read: Is a directory."),
        ("/dev/null", "/nowhere/r.csv", "The file '/nowhere/r.csv' cannot be written: No such file or directory."),
        ("/proc/self/mem", "", "Input/output error."),
    ],
)
def test_a_file_that_cannot_be_read_or_written_is_told(file: str, report: str, words: str) -> None:
    with pytest.raises(CommandError) as refused:
        call_command("import_people", file, "--users", *(["--report", report] if report else []))
    assert (str(refused.value), refused.value.returncode) == (words, 3)


def test_the_exit_code_says_whether_rows_were_refused(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text("username,email\nada,ada@example.com\n")
    call_command("import_people", str(path), "--users")
    for content, code in (("username,email\nx,x@example.com\n", 1), ("", 3)):
        path.write_text(content)
        with pytest.raises(SystemExit) as end:
            call_command("import_people", str(path), "--users", "--json")
        assert end.value.code == code
