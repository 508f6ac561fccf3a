"""``manage.py backup`` and ``restore``: what is backed up comes out again, elsewhere, and nothing else is believed."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from config.database import backups, programs
from config.database.backups import BackupError
from config.database.programs import ProgramError
from config.embedded_postgres import OWNER_ROLE
from tests.live import (
    LOGIN,
    PASSWORD,
    ROOT,
    Browser,
    Database,
    manage,
    own_database,
    running_site,
    sign_up_at_once,
    wait_until,
)

PEOPLE = [(f"person{number}", f"person{number}@example.com") for number in range(5)]
EMPTY = "empty"


def furnish(database: Database) -> None:
    """Some people, one of them signed in, and a trail that is sealed."""
    with running_site(database.environment) as site:
        assert {answer.status for answer in sign_up_at_once(site, PEOPLE)} == {303}
        database.rows("UPDATE accounts_user SET email_verified_at = now()")
        assert sign_in(site.browser(), *PEOPLE[0]) == 302
    assert manage("audit", "seal", environment=database.environment).returncode == 0


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        furnish(made)
        yield made


def sign_in(browser: Browser, name: str, _email: str) -> int:
    fields = browser.open_form(LOGIN) | {"username": name, "password": PASSWORD}
    return browser.post(LOGIN, fields).status


@pytest.fixture
def elsewhere(database: Database) -> Iterator[Database]:
    """An empty database."""
    server = Database(database.cluster, "postgres")
    server.rows(f"CREATE DATABASE {EMPTY} OWNER {OWNER_ROLE}")
    yield Database(database.cluster, EMPTY)
    server.rows(f"DROP DATABASE {EMPTY} WITH (FORCE)")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def backup(database: Database, directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return manage("backup", f"--directory={directory}", *arguments, environment=database.environment)


def make(database: Database, directory: Path) -> Path:
    done = backup(database, directory, "--json")
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["file"])


@pytest.fixture(scope="module")
def original(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(database, tmp_path_factory.mktemp("made"))


@pytest.fixture
def file(original: Path, directory: Path) -> Path:
    """A backup of `database`, with its manifest, for one test."""
    shutil.copytree(original.parent, directory)
    return directory / original.name


def restore(database: Database, file: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return manage("restore", str(file), "--yes", *arguments, environment=database.environment)


def counts(database: Database) -> dict[str, int]:
    tables = "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    return {name: database.value(f"SELECT count(*) FROM {name}") for (name,) in database.rows(tables)}  # noqa: S608


# Making


def test_a_backup_is_the_owners_alone_and_says_what_it_holds(database: Database, directory: Path) -> None:
    done = backup(database, directory, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    file = Path(told["file"])
    manifest = json.loads(file.with_suffix(".json").read_text())
    assert told == manifest | {"file": str(file), "removed": []}
    assert (manifest["database"], manifest["rows"]["accounts_user"]) == (database.name, len(PEOPLE))
    assert "accounts.0001_create_users" in manifest["migrations"]
    assert (manifest["seals"], len(manifest["newest_seal"])) == (1, 64)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}
    assert modes == {directory: 0o700, file: 0o600, file.with_suffix(".json"): 0o600}


def test_sessions_are_in_no_backup(database: Database, directory: Path) -> None:
    assert database.value("SELECT count(*) FROM accounts_session WHERE user_id IS NOT NULL") > 0
    file = make(database, directory)
    program = programs.find("pg_restore", at_least=json.loads(file.with_suffix(".json").read_text())["program"])
    listed = subprocess.run([program, "--list", file], capture_output=True, text=True, check=True).stdout
    assert "TABLE DATA public accounts_user " in listed
    assert "TABLE public accounts_session " in listed
    assert "TABLE DATA public accounts_session " not in listed


def test_a_person_reads_where_it_is_and_how_much(database: Database, directory: Path) -> None:
    assert backup(database, directory, "--list").stdout == f"There is no backup in {directory}.\n"
    made = backup(database, directory)
    (file,) = directory.glob("*.dump")
    assert made.stdout.startswith(f"{file}  ")
    assert "rows, 1 seals" in made.stdout
    assert backup(database, directory, "--list").stdout == made.stdout


def test_a_terminal_gets_a_bar_and_a_pipe_none(database: Database, directory: Path) -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, f"{ROOT}/manage.py", "backup", f"--directory={directory}"]
    done = subprocess.run(command, env=os.environ | database.environment, stdout=subprocess.DEVNULL, stderr=end)
    os.close(end)
    shown = b""
    while piece := _read(terminal):
        shown += piece
    os.close(terminal)
    assert done.returncode == 0
    for stage in (b"counting   [", b"dumping    [", b"checking   [########################################] 100%"):
        assert stage in shown
    assert shown.endswith(b"\r\033[K")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 10_000)
    except OSError:  # the other end is closed, and all is read
        return b""


def test_only_the_newest_are_kept(database: Database, directory: Path) -> None:
    first = make(database, directory)
    left = directory / "killed.part"
    left.touch()
    os.utime(left, (0, 0))
    time.sleep(1.1)  # names say the second
    second = backup(database, directory, "--keep=1", "--json")
    assert json.loads(second.stdout)["removed"] == [str(first)]
    assert sorted(path.suffix for path in directory.iterdir()) == [".dump", ".json"]
    assert backup(database, directory, "--keep=-1").returncode == 1


def test_whoever_stops_it_finds_nothing_left(database: Database, directory: Path) -> None:
    """The dump waits for a table that somebody has locked."""
    command = [sys.executable, f"{ROOT}/manage.py", "backup", f"--directory={directory}"]
    with locked(database):
        running = subprocess.Popen(command, env=os.environ | database.environment, stderr=subprocess.PIPE)
        wait_until(lambda: dumps(database) == 1, "it dumps")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=30)
    assert running.returncode != 0
    assert list(directory.iterdir()) == []
    wait_until(lambda: dumps(database) == 0, "the program is gone")


@pytest.mark.parametrize("place", ["/proc/nowhere", "/dev/null", "/dev/full/backups"])
def test_where_nothing_can_be_written_is_said(database: Database, place: str) -> None:
    done = backup(database, Path(place))
    assert done.returncode == 1
    assert re.fullmatch(rf"CommandError: {place}: [A-Z][a-z ]+. Correct that, then try again.\n", done.stderr)


def dumps(database: Database) -> int:
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE %s AND application_name = 'gatehouse-pg_dump'"
    return int(database.value(waiting, "LOCK TABLE%"))


@contextmanager
def locked(database: Database) -> Iterator[None]:
    """Nobody can read a table for the length of the block: one whose rows are not counted, which would wait too."""
    with closing(psycopg2.connect(database.environment["DATABASE_DIRECT_URL"])) as connection:
        connection.cursor().execute("LOCK TABLE accounts_session IN ACCESS EXCLUSIVE MODE")
        yield


# Proving


def test_a_backup_proves_itself_and_leaves_no_database(database: Database, file: Path, directory: Path) -> None:
    proven = backup(database, directory, "--verify")
    assert (proven.returncode, proven.stderr) == (0, "")
    assert "as many in every table as were backed up." in proven.stdout
    assert "The audit trail verifies: 1 seals over " in proven.stdout
    assert database.rows("SELECT 1 FROM pg_database WHERE datname LIKE '%%_proof'") == []


def test_a_backup_that_holds_less_than_it_says_is_found_out(database: Database, file: Path, directory: Path) -> None:
    manifest = json.loads(file.with_suffix(".json").read_text())
    manifest["rows"]["accounts_user"] += 1
    manifest["newest_seal"] = "0" * 64
    file.with_suffix(".json").write_text(json.dumps(manifest))
    told = backup(database, directory, "--verify", str(file), "--json")
    facts = json.loads(told.stdout)
    assert (told.returncode, facts["ok"]) == (1, False)
    assert facts["differing"] == {"accounts_user": [len(PEOPLE) + 1, len(PEOPLE)]}
    assert [finding["fault"] for finding in facts["trail"]["findings"]] == ["not_expected"]


def test_a_file_that_was_changed_or_cut_is_not_believed(
    database: Database, elsewhere: Database, file: Path, directory: Path
) -> None:
    whole = file.read_bytes()
    for broken in (b"", whole[:-1], whole[:-1] + b"x"):
        file.write_bytes(broken)
        with pytest.raises(BackupError, match=r"its checksum differs\. Use another backup\."):
            backups.check(backups.read(file))
    for done in (backup(database, directory, "--verify"), restore(elsewhere, file)):
        assert (done.returncode, "its checksum differs" in done.stderr) == (1, True)
    assert counts(elsewhere) == {}


def test_a_file_without_its_manifest_is_no_backup(directory: Path, database: Database, elsewhere: Database) -> None:
    directory.mkdir()
    file = directory / "gatehouse-20260101T000000Z.dump"
    file.write_bytes(b"PGDMP")
    for manifest in (None, "", "[]", "{}", '{"format": 1}', "\0"):
        if manifest is not None:
            file.with_suffix(".json").write_text(manifest)
        with pytest.raises(BackupError, match="manifest"):
            backups.read(file)
    done = restore(elsewhere, file)
    assert done.returncode == 1
    assert done.stderr == f"CommandError: The manifest of {file} cannot be read; use another backup.\n"
    assert "There is no backup in" in backup(database, directory, "--verify").stderr


# Restoring


def test_what_was_backed_up_is_elsewhere_when_the_server_is_destroyed(tmp_path: Path) -> None:
    """The drill: rows, seals and logins."""
    directory = tmp_path / "backups"
    with own_database() as old:
        furnish(old)
        file = make(old, directory)
        before = counts(old)
    # Its directory is gone with it.
    with own_database(migrated=False) as new:
        done = restore(new, file)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("Run `manage.py migrate`, then start Gatehouse.\n")
        after = counts(new)
        assert after.pop("accounts_session") == 0 <= before.pop("accounts_session")
        more = {name: after[name] - before[name] for name in before if after[name] != before[name]}
        assert list(more.values()) == [1, 1]  # a life of the trail, and in it the record of the restore itself
        assert {name.partition("_record_")[0] for name in more} == {"auditlog_epoch", "auditlog"}
        assert manage("migrate", environment=new.environment).stdout.count("OK") == 0
        verified = manage("database", "verify", environment=new.environment)
        assert (verified.returncode, verified.stdout) == (0, "The schema is what the migrations make.\n")
        assert manage("audit", "verify", environment=new.environment).returncode == 0
        recorded = new.rows("SELECT object_label FROM auditlog_record WHERE action = 'restore_backup'")
        assert recorded == [(file.name,)]
        with running_site(new.environment) as site:
            assert {sign_in(site.browser(), *person) for person in PEOPLE} == {302}
            assert sign_up_at_once(site, [("newcomer", "newcomer@example.com")])[0].status == 303


def test_a_database_that_is_not_empty_is_left_as_it_is(database: Database, file: Path) -> None:
    before = counts(database)
    done = restore(database, file)
    assert done.returncode == 1
    assert f"“{database.name}” is not empty, and a restore replaces nothing." in done.stderr
    assert counts(database) == before


def test_it_asks_first(elsewhere: Database, file: Path) -> None:
    asked = manage("restore", str(file), environment=elsewhere.environment, stdin=None, input="no\n")
    assert (asked.returncode, asked.stderr) == (1, "CommandError: Nothing was changed.\n")
    assert counts(elsewhere) == {}
    told = manage("restore", str(file), "--json", environment=elsewhere.environment, stdin=None, input=f"{EMPTY}\n")
    assert json.loads(told.stdout[told.stdout.index("{") :])["ok"] is True


def test_a_backup_of_newer_code_is_refused(elsewhere: Database, file: Path) -> None:
    manifest = json.loads(file.with_suffix(".json").read_text())
    manifest["migrations"].append("accounts.9999_of_tomorrow")
    file.with_suffix(".json").write_text(json.dumps(manifest))
    done = restore(elsewhere, file)
    assert done.returncode == 1
    assert "accounts.9999_of_tomorrow, which this code does not know" in done.stderr
    assert counts(elsewhere) == {}


def test_what_fails_half_way_leaves_the_database_empty(elsewhere: Database, file: Path) -> None:
    elsewhere.rows("CREATE FUNCTION auditlog_horizon() RETURNS int LANGUAGE sql AS 'SELECT 1'")  # in the way
    done = restore(elsewhere, file)
    assert done.returncode == 1
    assert "pg_restore failed: " in done.stderr
    assert "Traceback" not in done.stderr
    assert counts(elsewhere) == {}


# The programs


def test_the_oldest_program_that_is_new_enough_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for major in (14, 16, 17, 18):
        place = tmp_path / str(major) / "bin"
        place.mkdir(parents=True)
        (place / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {major}.3 (Debian)'\n")
        (place / "pg_dump").chmod(0o755)
    shutil.rmtree(tmp_path / "17")
    monkeypatch.setattr(programs, "MACHINE_BINARIES", tmp_path)
    monkeypatch.setattr(programs, "wheel_binaries", lambda: [tmp_path / "nowhere"])
    monkeypatch.setenv("PATH", "/nowhere")
    assert [programs.find("pg_dump", at_least=least).parts[-3] for least in (15, 16, 17)] == ["16", "16", "18"]
    with pytest.raises(ProgramError, match="no pg_dump of PostgreSQL 19 or newer"):
        programs.find("pg_dump", at_least=19)
