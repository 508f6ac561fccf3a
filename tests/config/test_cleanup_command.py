"""`manage.py cleanup` as programs and people run it: on a database of its own, twice at once, interrupted."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from config.scratch import clean_environment
from tests.live import ROOT, Database, manage, own_database, wait_until

COMMAND = [sys.executable, f"{ROOT}/manage.py", "cleanup"]


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


def fill(database: Database, expired: int) -> None:
    """So many expired sessions, and one that is not."""
    database.rows(
        "TRUNCATE accounts_session; INSERT INTO accounts_session (id, key_digest, data, agent, expires_at)"
        " SELECT gen_random_uuid(), number, '', '', now() + CASE WHEN number = 0 THEN 1 ELSE -1 END * interval '1 day'"
        " FROM generate_series(0, %s) AS number",
        expired,
    )


def left(database: Database) -> int:
    return int(database.value("SELECT count(*) FROM accounts_session"))


def cleanup(database: Database, *options: str) -> dict[str, int]:
    done = manage("cleanup", "--json", *options, environment=database.environment)
    assert (done.returncode, done.stderr) == (0, "")
    return counts(done.stdout)


def counts(output: str) -> dict[str, int]:
    rules: list[dict[str, Any]] = json.loads(output)["rules"]
    return {rule["name"]: rule["deleted" if "deleted" in rule else "overdue"] for rule in rules}


def test_a_dry_run_counts_what_a_real_one_deletes(database: Database) -> None:
    fill(database, 3)
    counted = cleanup(database, "--dry-run")
    assert (counted["sessions"], left(database)) == (3, 4)
    assert cleanup(database) == counted
    assert left(database) == 1


def test_only_what_is_named_is_cleaned_up(database: Database) -> None:
    fill(database, 3)
    assert cleanup(database, "--only", "jobs", "--only", "health_samples") == {"jobs": 0, "health_samples": 0}
    assert left(database) == 4
    done = manage("cleanup", "--only", "session", environment=database.environment)
    assert done.returncode == 1
    assert "There is no rule 'session'. There are: " in done.stderr
    assert "sessions" in done.stderr


def test_people_get_a_table(database: Database) -> None:
    fill(database, 1200)
    done = manage("cleanup", environment=database.environment)
    assert (done.returncode, done.stderr) == (0, ""), "no progress bar in a pipe"
    words = [line.split() for line in done.stdout.splitlines()]
    assert words[0] == ["NAME", "DELETED"]
    assert ["sessions", "1,200", "expired", "sessions"] in words
    assert words[-1] == ["TOGETHER", "1,200"]


def test_a_terminal_gets_a_progress_bar(database: Database) -> None:
    fill(database, 600)
    terminal, end = pty.openpty()
    subprocess.run(
        COMMAND, env=clean_environment(database.environment), stderr=end, stdout=subprocess.DEVNULL, check=True
    )
    os.close(end)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert " 83%" in shown
    assert "100%" in shown


def test_two_hosts_at_once_delete_everything_once(database: Database) -> None:
    fill(database, 40_000)
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: cleanup(database, "--only", "sessions")["sessions"], range(2)))
    assert sum(both) == 40_000
    assert all(both), "they worked side by side"
    assert left(database) == 1


def test_ctrl_c_ends_it_between_two_steps_and_it_says_what_is_done(database: Database) -> None:
    fill(database, 100_000)
    process = subprocess.Popen(
        [*COMMAND, "--json"],
        env=clean_environment(database.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: left(database) < 99_000, "it has begun")
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    deleted = counts(output)["sessions"]
    assert json.loads(output)["interrupted"] is True
    assert 0 < left(database) - 1 == 100_000 - deleted
    assert cleanup(database)["sessions"] == 100_000 - deleted


def test_a_table_that_cannot_be_cleaned_up_is_named_and_the_exit_code_tells(database: Database) -> None:
    fill(database, 3)
    database.rows("ALTER TABLE accounts_loginattempt RENAME TO elsewhere")
    try:
        done = manage("cleanup", "--json", environment=database.environment)
    finally:
        database.rows("ALTER TABLE elsewhere RENAME TO accounts_loginattempt")
    assert done.returncode == 1
    rules = {rule["name"]: rule for rule in json.loads(done.stdout)["rules"]}
    assert rules["login_attempts"]["error"] == "ProgrammingError"
    assert (rules["sessions"]["deleted"], left(database)) == (3, 1)
