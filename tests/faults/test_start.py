"""``manage.py serve --demo``, which is what ``make run`` runs: the start, the addresses, and every way to end."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.embedded_postgres import EmbeddedPostgres
from tests.live import (
    LOGIN,
    PASSWORD,
    SIGNUP,
    Browser,
    Program,
    descendants,
    free_port,
    half_accounts,
    is_alive,
    manage,
    open_signups,
    own_database,
    project_copy,
    running_site,
    wait_until,
)

ON_LINE = "Stop with Ctrl-C."
THROWAWAY = {"EMBEDDED_POSTGRES": "throwaway"}
QUICK = THROWAWAY | {"DEBUG": "on"}  # collects no static files; its processes are the same
PERSISTENT = {"EMBEDDED_POSTGRES": "persistent"}
SECOND_START = 8.0  # seconds


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    with project_copy() as copy:
        yield copy


def serve(project: Path, port: int, environment: dict[str, str]) -> Program:
    arguments = [f"{project}/manage.py", "serve", "--demo"]
    return Program(*arguments, environment={"PORT": str(port)} | environment, project=project)


@dataclass
class Started:
    port: int
    said: str  # until it was up


@pytest.fixture(scope="module")
def fresh(project: Path) -> Iterator[Started]:
    port = free_port()
    with serve(project, port, THROWAWAY) as program:
        program.wait_for(ON_LINE)
        yield Started(port, program.says())


def test_a_fresh_site_says_where_everything_is_and_answers_there(fresh: Started) -> None:
    lines = [" ".join(line.split()) for line in fresh.said.splitlines()]
    base = f"http://localhost:{fresh.port}"
    for name, page in (
        ("Site", "/"),
        ("Sign up", SIGNUP),
        ("Admin", "/admin/"),
        ("Health", "/health/"),
        ("Mail", "/dev/mail/"),
    ):
        assert f"{name} {base}{page}" in lines
    for page in ("/", SIGNUP, LOGIN, "/admin/login/", "/health/live", "/health/ready", "/dev/mail/"):
        assert Browser(fresh.port).get(page).status == 200, page


def test_the_printed_link_lets_the_administrator_choose_a_password_once(fresh: Started) -> None:
    link = re.search(rf"http://localhost:{fresh.port}(/accounts/password/reset/\S+)", fresh.said)
    assert link
    new = {"new_password1": PASSWORD, "new_password2": PASSWORD}
    browser = Browser(fresh.port)
    page = browser.get(link[1]).location
    chosen = browser.post(page, browser.open_form(page) | new)
    assert (chosen.status, chosen.location) == (303, LOGIN)
    assert Browser(fresh.port).get(link[1]).status == 404

    door = "/admin/login/?next=/admin/"
    entered = browser.post(door, browser.open_form(door) | {"username": "gatekeeper", "password": PASSWORD})
    assert (entered.status, entered.location) == (302, "/admin/")
    assert browser.get("/admin/").status == 200


def test_a_busy_port_is_said_aloud_before_anything_is_started(project: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        done = manage("serve", environment=PERSISTENT | {"PORT": str(busy)}, project=project)
    assert done.returncode == 1
    assert done.stderr == (
        f"CommandError: Port {busy} on 127.0.0.1 cannot be used: Address already in use. "
        "Choose another one, for example: PORT=8001 make run\n"
    )
    assert not (project / ".postgres").exists()


def inhabitants(directory: Path) -> set[int]:
    """The live processes that work below the directory or were given its path: a server and its keeper."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            named = str(directory) in (entry / "cmdline").read_text()
            if named or str((entry / "cwd").readlink()).startswith(str(directory)):
                found.add(int(entry.name))
        except OSError:
            continue
    return {pid for pid in found if is_alive(pid)}


def throwaway_home(program: Program) -> Path:
    """Where the database is that the program made, as its children were told."""
    environment = Path(f"/proc/{descendants(program.pid)[0]}/environ").read_text()
    return Path(dict(line.split("=", 1) for line in environment.split("\0") if line)["EMBEDDED_POSTGRES_HOME"])


def test_control_c_ends_everything(project: Path) -> None:
    with serve(project, free_port(), QUICK) as program:
        program.wait_for(ON_LINE)
        home = throwaway_home(program)
        wait_until(lambda: len(descendants(program.pid)) == 4, "gunicorn, its two processes and the worker run")
        ours, database = descendants(program.pid), inhabitants(home)
        assert len(database) >= 2  # the server and its keeper
        os.killpg(program.pid, signal.SIGINT)  # as a terminal does
        assert program.process.wait(40) == 0
        assert program.says().endswith("Stopped.\n")
    assert [pid for pid in ours if is_alive(pid)] == []
    wait_until(lambda: not any(map(is_alive, database)), "server and keeper are gone", seconds=10)
    assert not home.exists()


def test_kill_9_ends_the_web_server_the_worker_and_the_database_too(project: Path) -> None:
    with serve(project, free_port(), QUICK) as program:
        program.wait_for(ON_LINE)
        home = throwaway_home(program)
        everything = {*descendants(program.pid), *inhabitants(home)}
        program.end(signal.SIGKILL)
    try:
        wait_until(lambda: not any(map(is_alive, everything)), "all processes are gone")
        wait_until(lambda: not home.exists(), "the database is gone")
    finally:
        for pid in filter(is_alive, everything):
            os.kill(pid, signal.SIGKILL)


def test_the_end_of_a_part_is_the_end_of_the_whole(project: Path) -> None:
    with serve(project, free_port(), QUICK) as program:
        program.wait_for(ON_LINE)
        parts = descendants(program.pid)
        worker = next(pid for pid in parts if b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes())
        os.kill(worker, signal.SIGKILL)
        assert program.process.wait(40) == 1
        assert "CommandError: A part of Gatehouse ended by itself" in program.says()
    assert [pid for pid in parts if is_alive(pid)] == []


def test_a_second_start_is_quick_and_leaves_what_database_status_tells() -> None:
    with project_copy() as project:
        port = free_port()
        with serve(project, port, PERSISTENT) as first:
            first.wait_for(ON_LINE)
            assert first.end(signal.SIGINT) == 0
        assert not [pid for pid in inhabitants(project) if pid not in inhabitants(project / ".postgres")]
        told = json.loads(manage("database", "status", "--json", environment=PERSISTENT, project=project).stdout)
        assert told["running"] and told["process"] in inhabitants(project / ".postgres")
        # A machine that is busy with the rest of the suite gets three tries; the first one that is quick ends them.
        assert any(seconds_to_start(project, port) < SECOND_START for _attempt in range(3))


def seconds_to_start(project: Path, port: int) -> float:
    """From the command to the first page, with the database stopped before, which is the slower case."""
    EmbeddedPostgres(project / ".postgres").stop()
    begun = time.monotonic()
    with serve(project, port, PERSISTENT) as program:
        wait_until(lambda: program.process.poll() is not None or is_served(port, LOGIN), "the page is served")
        took = time.monotonic() - begun
        assert program.process.poll() is None, program.says()
        program.wait_for(ON_LINE)
        assert program.end(signal.SIGINT) == 0
    return took


def is_served(port: int, page: str) -> bool:
    with suppress(OSError):
        return Browser(port, timeout=5).get(page).status == 200
    return False


def test_sigterm_drops_no_request_that_has_begun() -> None:
    people = [(f"slow{number}", f"slow{number}@drain.example") for number in range(12)]
    slow = {"BCRYPT_ROUNDS": "12"}
    with own_database() as database, running_site(database.environment | slow) as site:
        forms = open_signups(site, people)
        with ThreadPoolExecutor(len(forms)) as threads:
            begun = [threads.submit(form.send) for form in forms]
            # By the time one hash is done all the others have been in the house for long.
            wait(begun, return_when=FIRST_COMPLETED)
            assert not all(each.done() for each in begun)
            assert site.program.end(signal.SIGTERM, patience=30) == 0
            assert [each.result().status for each in begun] == [303] * len(people)
        assert database.value("SELECT count(*) FROM accounts_user") == len(people)
        assert half_accounts(database) == []
