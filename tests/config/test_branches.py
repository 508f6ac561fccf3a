"""``manage.py database branch``: copies of the development database, one of them in use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from config.database import branches as module
from config.database.branches import BranchError
from config.embedded_postgres import OWNER_ROLE, EmbeddedPostgres
from tests.live import LOGIN, manage, open_signup, project_copy, running_site

PERSISTENT = {"EMBEDDED_POSTGRES": "persistent"}


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """A copy of the project with a persistent database of its own, migrated."""
    with project_copy() as copy:
        done = manage("migrate", "-v0", environment=PERSISTENT, project=copy)
        assert done.returncode == 0, done.stderr
        yield copy


def database(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return manage("database", *arguments, environment=PERSISTENT, project=project)


def branch(project: Path, *arguments: str) -> str:
    done = database(project, "branch", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def branches(project: Path) -> list[Any]:
    return [(each["name"], each["used"]) for each in json.loads(branch(project, "--list", "--json"))]


def add(project: Path, name: str) -> None:
    done = manage("create_user", name, f"{name}@example.com", environment=PERSISTENT, project=project)
    assert done.returncode == 0, done.stderr


def socket_of(project: Path) -> str:
    """Where the project's own server listens, which is started if need be."""
    server = EmbeddedPostgres(project / ".postgres")
    server.ensure_running()
    return str(server.socket_directory())


def people(project: Path) -> int:
    """How many are in the database that the project uses now."""
    name = module.database_of(module.current(project))
    connection = psycopg2.connect(host=socket_of(project), user=OWNER_ROLE, dbname=name)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM accounts_user")
        ((count,),) = cursor.fetchall()
        return int(count)


def test_a_branch_is_a_copy_that_goes_its_own_way_until_it_is_dropped(project: Path) -> None:
    add(project, "before")
    told = branch(project, "feature-1")
    assert "“feature-1” is a copy of “main”." in told
    assert branches(project) == [("main", True), ("feature-1", False)]
    add(project, "on-main")

    assert "Start Gatehouse again" in branch(project, "--switch", "feature-1")
    assert branches(project) == [("main", False), ("feature-1", True)]
    assert people(project) == 1
    add(project, "on-branch-a")
    add(project, "on-branch-b")
    assert manage("audit", "verify", environment=PERSISTENT, project=project).returncode == 0
    assert people(project) == 3
    branch(project, "of-the-branch")  # a copy of what is in use
    refused = database(project, "branch", "--drop", "feature-1")
    assert (refused.returncode, refused.stderr) == (1, "CommandError: 'feature-1' is used and stays.\n")

    branch(project, "--switch", "of-the-branch")
    assert people(project) == 3
    branch(project, "--switch", "main")
    assert people(project) == 2
    for name in ("feature-1", "of-the-branch"):
        branch(project, "--drop", name)
    assert branches(project) == [("main", True)]


def test_a_site_that_runs_meanwhile_waits_for_the_copy_and_goes_on(project: Path) -> None:
    with running_site(PERSISTENT, project) as site:
        form = open_signup(site, "meanwhile", "meanwhile@example.com")
        branch(project, "while-it-runs")
        answer = form.send()
        assert (answer.status, answer.location) == (303, LOGIN)
    branch(project, "--drop", "while-it-runs")


def test_what_cannot_be_done_is_said_and_changes_nothing(project: Path) -> None:
    where = socket_of(project)
    make = partial(module.make, source="main", socket_directory=where)
    drop = partial(module.drop, used="main", socket_directory=where)
    for attempt, said in (
        (partial(make, "main"), "There is a branch 'main' already; drop it first, or choose another name."),
        (partial(make, "A B"), "'A B' is no name for a branch: up to 40 small letters"),
        (partial(make, 'x";drop'), "is no name for a branch"),
        (partial(make, "x_verify"), "is no name for a branch"),  # a scratch database of the branch x
        (partial(module.switch, project, "nowhere", socket_directory=where), "There is no branch 'nowhere'."),
        (partial(drop, "nowhere"), "There is no branch 'nowhere'. `manage.py database branch --list` shows them."),
        (partial(drop, "main"), "'main' is used and stays."),
    ):
        with pytest.raises(BranchError) as refused:
            attempt()
        assert said in str(refused.value)
    assert [each.name for each in module.every(socket_directory=where)] == ["main"]
    assert not (project / ".branch").exists()


@pytest.mark.parametrize("arguments", [[], ["a", "--list"]])
def test_one_thing_at_a_time(project: Path, arguments: list[str]) -> None:
    done = database(project, "branch", *arguments)
    told = "CommandError: Say one of NAME, --list, --switch NAME and --drop NAME.\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_a_branch_that_is_gone_is_said(project: Path) -> None:
    (project / ".branch").write_text("gone\n")
    try:
        done = database(project, "status")
        assert done.returncode == 1
        assert "There is no branch 'gone' any more; `manage.py database branch --switch main`" in done.stdout
        elsewhere = {"DATABASE_URL": f"postgresql://{OWNER_ROLE}@/nothing?host={socket_of(project)}"}
        told = manage("database", "status", environment=elsewhere, project=project).stdout
        assert "does not exist" in told
        assert "branch" not in told, "a configured server has none"
        branch(project, "--switch", "main")
    finally:
        (project / ".branch").unlink(missing_ok=True)


def test_a_person_reads_which_is_used(project: Path) -> None:
    (line,) = branch(project, "--list").splitlines()
    assert line.startswith("* main  ")
    assert line.endswith("  gatehouse")
