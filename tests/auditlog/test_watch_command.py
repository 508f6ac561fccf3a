"""``manage.py watch``: a real process beside a real database of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.live import PATIENCE, ROOT, Database, Program, manage, own_database, wait_until

ADD = "INSERT INTO auth_group (name) VALUES (%s)"
ADD_USER = """
from accounts import services
from accounts.models import User
services.add_user(User(username="newcomer", email="newcomer@example.com"), acting_user=None)
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


def watch(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return manage("watch", *arguments, environment=database.environment)


def facts(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def names(text: str) -> list[str]:
    return [fact["new"]["name"] for fact in facts(text)]


@contextmanager
def watching(database: Database, *arguments: str) -> Iterator[Program]:
    """A watch that is already looking."""
    command = [f"{ROOT}/manage.py", "watch", "--interval=0.05", *arguments]
    with Program(*command, environment=database.environment) as program:
        probe = f"ready-{time.monotonic()}"

        def sees() -> bool:
            database.rows(ADD, f"{probe} {time.monotonic()}")
            time.sleep(0.2)
            return probe in program.says() or program.process.poll() is not None

        if "users" not in arguments:
            wait_until(sees, "the watch looks")
        yield program


def seen(program: Program) -> list[str]:
    lines = [line for line in program.says().splitlines() if line.startswith("{") and "ready-" not in line]
    return names("\n".join(lines))


def test_a_record_is_shown_within_a_second_of_its_commit(database: Database) -> None:
    command = [f"{ROOT}/manage.py", "watch", "--json"]
    with Program(*command, environment=database.environment) as program:
        wait_until(lambda: _noticed(database, program), "the watch looks")
        started = time.monotonic()
        database.rows(ADD, "quick")
        program.wait_for('"quick"')
        assert time.monotonic() - started < 1
        assert program.end() == 0


def _noticed(database: Database, program: Program) -> bool:
    database.rows(ADD, f"ready-{time.monotonic()}")
    time.sleep(0.6)
    return "ready-" in program.says()


def test_new_users_are_shown_and_nothing_else(database: Database) -> None:
    shown = watch(database, "users", "--from-start", "--once", "--json")
    assert (shown.returncode, shown.stdout) == (0, "")
    database.rows(ADD, "no user")
    assert manage("shell", "-c", ADD_USER, environment=database.environment).returncode == 0
    (fact,) = facts(watch(database, "users", "--from-start", "--once", "--json").stdout)
    assert (fact["action"], fact["resource"], fact["object"]) == ("create", "accounts.user", "newcomer")
    assert fact["new"]["email"] == "newcomer@example.com"
    assert fact["new"]["password"].keys() == {"masked"}
    assert (fact["actor_kind"], fact["actor_id"]) == ("command", "shell")


def test_a_cursor_goes_on_where_it_stopped(database: Database, tmp_path: Path) -> None:
    kept = tmp_path / "cursor"
    only_groups = ["--once", "--json", "--resource=group", f"--cursor={kept}"]
    assert watch(database, *only_groups).stdout == ""  # from now
    assert kept.stat().st_mode & 0o777 == 0o600
    database.rows(ADD, "first")
    database.rows(ADD, "second")
    assert names(watch(database, *only_groups).stdout) == ["first", "second"]
    database.rows(ADD, "third")
    assert names(watch(database, *only_groups).stdout) == ["third"]
    assert watch(database, *only_groups).stdout == ""
    assert list(tmp_path.iterdir()) == [kept]


def test_a_file_that_is_no_cursor_is_refused_and_left_alone(database: Database, tmp_path: Path) -> None:
    kept = tmp_path / "notes"
    kept.write_text("my notes")
    refused = watch(database, "--once", f"--cursor={kept}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "is no cursor of this command" in refused.stderr
    assert kept.read_text() == "my notes"


def test_filters_choose_by_each_property(database: Database) -> None:
    database.rows(ADD, "chosen")
    ((group,),) = database.rows("SELECT id::text FROM auth_group WHERE name = 'chosen'")
    database.rows("UPDATE auth_group SET name = 'renamed' WHERE name = 'chosen'")

    def count(*filters: str, begin: str = "--from-start") -> int:
        shown = watch(database, begin, "--once", "--json", *filters)
        assert shown.returncode == 0, shown.stderr
        return len(facts(shown.stdout))

    of_group = [f"--object={group}", "--resource=auth.group"]
    assert count(*of_group) == 2
    assert count(*of_group, "--action=update") == 1
    assert count(*of_group, "--action=update", "--action=create") == 2
    assert count("--object=renamed") == 1
    assert count(*of_group, "--origin=outside") == 2
    assert count(*of_group, "--origin=save") == 0
    assert count(*of_group, "--actor=database") == 2
    assert count(*of_group, "--actor=nobody") == 0
    assert count(*of_group, begin="--since=1h") == 2
    assert count(*of_group, begin="--since=2999-01-01") == 0
    assert count(*of_group, "--request=1") == 0


def test_numbers_with_a_point_are_shown(database: Database) -> None:
    database.rows(
        """SELECT set_config('auditlog.context', '{"actor_kind": "command"}', true),
            auditlog_record_event('weighed', 'scale', NULL, NULL, NULL, '{"grams": 0.10, "all": [1.5]}', NULL)"""
    )
    chosen = ("--from-start", "--once", "--action=weighed")
    assert "grams: 0.10" in watch(database, *chosen).stdout
    assert '"new": {"all": [1.5], "grams": 0.10}' in watch(database, "--json", *chosen).stdout


def test_json_cannot_steer_the_terminal_either(database: Database) -> None:
    database.rows(ADD, "letter \x9b \u202e")
    found = watch(database, "--from-start", "--once", "--json", "--resource=auth.group").stdout
    assert r"letter \u009b \u202e" in found


def test_nonsense_is_refused(database: Database) -> None:
    for arguments in (["--since=yesterday"], ["--since=2026-13-41"], ["--interval=0"], ["--since=1h", "--from-start"]):
        refused = watch(database, "--once", *arguments)
        assert refused.returncode == 2, arguments
        assert "Traceback" not in refused.stderr


def test_what_people_typed_cannot_steer_the_terminal(database: Database) -> None:
    database.rows(ADD, "red\x1b[31m\nnext\u202e")
    shown = watch(database, "--once", "--since=1h").stdout
    (line,) = [line for line in shown.splitlines() if "red" in line]
    assert r"red\x1b[31m\x0anext\u202e" in line
    assert not any(character in shown for character in ("\x1b", "\u202e"))


def test_a_restart_of_the_database_loses_nothing_and_repeats_nothing(database: Database) -> None:
    with watching(database, "--json") as program:
        database.rows(ADD, "before the crash")
        program.wait_for("before the crash")
        database.kill()
        program.wait_for("The database is away; waiting for it.")
        time.sleep(1.5)
        database.cluster.ensure_running()
        database.rows(ADD, "after the crash")
        program.wait_for("after the crash")
        program.wait_for("The database is back.")
        assert program.says().count("is away") == 1
        assert seen(program) == ["before the crash", "after the crash"]
        assert program.end() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly_when_asked_to(database: Database, number: signal.Signals) -> None:
    with watching(database) as program:
        assert program.end(number) == 0
        assert "Traceback" not in program.says()


def test_it_ends_quietly_when_nobody_reads_any_more(database: Database) -> None:
    program = subprocess.Popen(
        [sys.executable, f"{ROOT}/manage.py", "watch", "--from-start", "--interval=0.05"],
        env={**os.environ, **database.environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert program.stdout is not None and program.stderr is not None
    program.stdout.readline()
    program.stdout.close()
    database.rows(ADD, f"unread {time.monotonic()}")
    assert program.wait(PATIENCE) == 0
    assert program.stderr.read() == ""
    program.stderr.close()
