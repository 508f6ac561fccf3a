"""``manage.py rehearse_signups``: real rehearsals with few people, its verdicts, and every way to end."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import secrets
import signal
import socketserver
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPMessage
from pathlib import Path
from threading import Thread

import pytest

from accounts.errors import MESSAGES
from accounts.management.commands.rehearse_signups import Command
from accounts.rehearsal import (
    LET_IN,
    LOST,
    USED_UP,
    OpenForm,
    Outcome,
    Result,
    Scenario,
    kind_of,
    link_path,
    open_form,
    rehearse,
    scenarios,
    scratch_stage,
    send,
)
from config.browser import NoForm
from config.scratch import ScratchError, clean_environment
from tests.live import LOGIN, ROOT, Answer, Browser, Database, Program, manage, own_database, running_site, wait_until

PEOPLE = 20
# The site's own database: whoever asks it for anything fails.
NOWHERE = {"DATABASE_URL": "postgresql://nobody:secret-word@127.0.0.1:1/none"}
SLOW = {"BCRYPT_ROUNDS": "12"}
LAST_ROUND = 5  # of the race without constraint: one is enough as a rule
PRODUCTION = {
    "ENVIRONMENT": "production",
    "BASE_URL": "https://gatehouse.example",
    "EMAIL_URL": "smtp+tls://user:word@mail.example:587",
    "TRUSTED_PROXIES": "1",
    "SECRET_KEY": secrets.token_urlsafe(64),
    "SIGNUP_MODE": "closed",
    "SIGNUP_EMAIL_DOMAINS": "only.example",
    "PASSWORD_POLICY": "nist",
    "BCRYPT_ROUNDS": "10",
}


def rehearse_signups(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return manage("rehearse_signups", *arguments, environment=NOWHERE | environment, timeout=120)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where the command has its temporary files, scratch database included; open to the database's account."""
    made = Path(tempfile.mkdtemp(prefix="rehearsal-"))
    made.chmod(0o755)
    yield made
    made.rmdir()  # fails when anything was left in it


@pytest.fixture(scope="module")
def unguarded_database() -> Iterator[Database]:
    """This code's schema without what keeps names unique."""
    with own_database() as made:
        made.rows("DROP INDEX accounts_user_username, accounts_user_look_alike")
        yield made


# What it prints


def test_it_prints_a_table_and_its_verdict_and_touches_neither_the_sites_database_nor_a_pipe(directory: Path) -> None:
    done = rehearse_signups("-n", str(PEOPLE), "--mode", "name", TMPDIR=str(directory))
    assert (done.returncode, done.stderr) == (0, "")
    table, _, verdict = done.stdout.partition("\n\n")
    cells = [re.split(r"\s{2,}", line.strip()) for line in table.splitlines()]
    median, slowest = (int(value) for name, value in cells if name in ("median ms", "slowest ms"))
    assert 0 < median <= slowest
    assert [cell for cell in cells if not cell[0].endswith(" ms")] == [
        ["mode", "name"],
        ["requests", "20"],
        ["let in", "1"],
        ["refused", "19"],
        ["username_taken", "19"],
        ["other answers", "0"],
        ["server errors", "0"],
        ["lost connections", "0"],
        ["accounts in database", "1"],
        ["uses counted", "-"],
        ["verdict", "holds"],
    ]
    assert verdict == "All verdicts hold: exactly those got in who must.\n"
    wait_until(lambda: left_behind(directory) == [], "no process is left", seconds=10)


def test_programs_get_json_of_everything_by_default_and_an_invitation_lets_in_as_many_as_it_has_uses() -> None:
    done = rehearse_signups("-n", str(PEOPLE), "--processes", "3", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr, told["holds"]) == (0, "", True)
    names = ("mode", "let_in", "refused", "accounts_in_database", "uses_counted")
    assert [tuple(each[name] for name in names) for each in told["rehearsals"]] == [
        ("name", 1, {"username_taken": 19}, 1, None),
        ("distinct", 20, {}, 20, None),
        ("invitation-1", 1, {USED_UP: 19}, 1, 1),
        ("invitation-5", 5, {USED_UP: 15}, 5, 5),
    ]
    figures = told["rehearsals"][1]
    assert 0 < figures.pop("median_ms") <= figures.pop("slowest_ms")
    assert figures == {
        "mode": "distinct",
        "requests": PEOPLE,
        "let_in": PEOPLE,
        "refused": {},
        "other_answers": {},
        "server_errors": {},
        "lost_connections": 0,
        "accounts_in_database": PEOPLE,
        "uses_counted": None,
        "holds": True,
        "faults": [],
    }


def test_the_settings_of_production_are_rehearsed_as_they_are() -> None:
    done = rehearse_signups("-n", "4", "--mode", "name", "--json", **PRODUCTION)
    assert done.returncode == 0, done.stderr
    (figures,) = json.loads(done.stdout)["rehearsals"]
    assert (figures["let_in"], figures["refused"]) == (1, {"username_taken": 3})


def test_a_terminal_gets_a_progress_bar() -> None:
    terminal, end = pty.openpty()
    command = [sys.executable, f"{ROOT}/manage.py", "rehearse_signups", "-n", "3", "--mode", "name"]
    done = subprocess.run(command, env=clean_environment(NOWHERE), stdout=subprocess.DEVNULL, stderr=end)
    os.close(end)
    shown = os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert done.returncode == 0
    bars = [f"name         [{'#' * (10 * done):<30}] {done}/3" for done in range(4)]
    assert shown.split("\r\033[K") == ["", *bars, ""]


# Verdicts


def result(*kinds: str, accounts: int | None = 1, uses: int | None = None) -> Result:
    return Result(Scenario("name", 3, 1), [Outcome(kind, 0.1) for kind in kinds], accounts, uses)


TAKEN = "username_taken"


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        (result(LET_IN, TAKEN, TAKEN), []),
        (result(LET_IN, TAKEN, TAKEN, accounts=None), []),
        (result(LET_IN, USED_UP, USED_UP, uses=1), []),
        (result(LET_IN, TAKEN, TAKEN, accounts=2), ["accounts in database: 2 instead of 1"]),
        (result(LET_IN, TAKEN, TAKEN, accounts=0), ["accounts in database: 0 instead of 1"]),
        (result(LET_IN, LET_IN, TAKEN), ["let in: 2 instead of 1"]),
        (result(TAKEN, TAKEN, TAKEN), ["let in: 0 instead of 1"]),
        (result(LET_IN, USED_UP, USED_UP, uses=2), ["uses counted: 2 instead of 1"]),
        (result(LET_IN, USED_UP, USED_UP, uses=0), ["uses counted: 0 instead of 1"]),
        (result(LET_IN, "500", "503"), ["server errors: 500 (1 times)", "server errors: 503 (1 times)"]),
        (result(LET_IN, "403", "403"), ["other answers: 403 (2 times)"]),
        (result(LET_IN, TAKEN, LOST), ["lost connections: 1"]),
    ],
)
def test_the_verdict_names_all_that_is_not_as_it_must_be(found: Result, faults: list[str]) -> None:
    assert found.faults == faults
    assert found.holds is (not faults)


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (303, {"Location": LOGIN}, "", LET_IN),
        (303, {"Location": "/elsewhere/"}, "", "303"),
        (409, {}, f"<p>{MESSAGES['username_taken']}</p>", "username_taken"),
        (422, {}, f"<p>{MESSAGES['username_look_alike']}</p>", "username_look_alike"),
        (422, {}, "<p>Too short.</p>", "422"),
        (200, {}, f"<p>{MESSAGES['username_taken']}</p>", "200"),
        (410, {}, "", USED_UP),
        (503, {}, "", "503"),
    ],
)
def test_an_answer_counts_as_what_it_tells_the_person(
    status: int, headers: dict[str, str], body: str, kind: str
) -> None:
    message = HTTPMessage()
    for name, value in headers.items():
        message[name] = value
    assert kind_of(Answer(status, message, body, 0.1)) == kind


def test_no_more_people_are_expected_than_come() -> None:
    assert [each.expected for each in scenarios("invitation", 3)] == [1, 3]


def test_without_the_unique_index_the_rehearsal_fails(unguarded_database: Database) -> None:
    (scenario,) = scenarios("name", PEOPLE)
    with scratch_stage(unguarded_database, scenario, processes=2) as stage:
        for _round in range(LAST_ROUND):
            found = rehearse(scenario, stage)
            if not found.holds:
                break
    assert found.accounts is not None and found.accounts > 1
    assert f"accounts in database: {found.accounts} instead of 1" in found.faults


def test_server_errors_fail_the_rehearsal_and_show_the_sites_last_words(unguarded_database: Database) -> None:
    jobs = "django_tasks_database_dbtaskresult"
    unguarded_database.rows(f"ALTER TABLE {jobs} RENAME TO gone")
    errors = io.StringIO()
    try:
        (scenario,) = scenarios("distinct", 3)
        command = Command(stderr=errors)
        found = command._rehearse(scenario, partial(scratch_stage, unguarded_database, processes=2))
    finally:
        unguarded_database.rows(f"ALTER TABLE gone RENAME TO {jobs}")
    assert found.facts["server_errors"] == {"500": 3}
    assert not found.holds
    assert "The site's last words:" in errors.getvalue() and "UndefinedTable" in errors.getvalue()


def test_a_failed_verdict_is_said_and_is_exit_code_1(unguarded_database: Database) -> None:
    with running_site(unguarded_database.environment | {"SIGNUP_EMAIL_DOMAINS": "only.example"}) as site:
        done = rehearse_signups("-n", "3", "--mode", "distinct", "--url", f"http://127.0.0.1:{site.port}")
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"^verdict +FAILS$", done.stdout, re.M)
    assert done.stdout.splitlines()[-1] == "distinct fails: let in: 0 instead of 3; other answers: 422 (3 times)."


class Server(socketserver.ThreadingTCPServer):
    """Reads one request's head, says `words` and hangs up."""

    daemon_threads = True

    def __init__(self, words: bytes) -> None:
        self.words = words
        super().__init__(("127.0.0.1", 0), _Conversation)

    @property
    def browser(self) -> Browser:
        return Browser(self.server_address[1])


class _Conversation(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Server)
        while self.rfile.readline().strip():
            pass
        self.wfile.write(self.server.words)


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], Server]]:
    servers = []

    def start_server(words: bytes) -> Server:
        servers.append(Server(words))
        Thread(target=servers[-1].serve_forever, args=[0.05], daemon=True).start()
        return servers[-1]

    yield start_server
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 303 See Other\r\nContent-Length: 10\r\n\r\nhalf"])
def test_a_connection_that_is_lost_is_counted_as_lost(serve: Callable[[bytes], Server], words: bytes) -> None:
    form = OpenForm(serve(words).browser, "/", {})
    assert send(form) == Outcome(LOST, None)


# Invitations


def test_an_invitations_link_is_read_from_what_invite_prints() -> None:
    printed = json.dumps([{"link": "https://gatehouse.example/accounts/invitation/abc:def/", "uses": 1}])
    assert link_path(printed) == "/accounts/invitation/abc:def/"


@pytest.mark.parametrize("printed", ["", "[]", "{}", "[{}]", "[1]", "null"])
def test_anything_else_that_invite_prints_is_an_obstacle_and_not_repeated(printed: str) -> None:
    with pytest.raises(ScratchError, match=r"^What “manage.py invite --json” printed is no list"):
        link_path(printed)


def test_an_invitation_that_leads_to_no_form_is_an_obstacle_and_its_link_stays_secret(
    serve: Callable[[bytes], Server],
) -> None:
    browser = serve(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").browser
    with pytest.raises(NoForm, match=r"^The invitation's link answered 404$"):
        open_form(browser, "/accounts/invitation/secret/", {})


# Running sites


def test_a_running_site_is_told_by_its_answers_and_its_accounts_stay() -> None:
    with own_database() as database, running_site(database.environment) as site:
        own = {"BASE_URL": f"http://127.0.0.1:{site.port}"} | database.environment
        elsewhere = f"http://localhost:{site.port}/"
        foreign = rehearse_signups("-n", "5", "--url", elsewhere, "--json")
        counted = rehearse_signups("-n", "5", "--url", own["BASE_URL"], "--mode", "name", "--json", **own)
        assert database.value("SELECT count(*) FROM accounts_user") == 1 + 5 + 1
    names = ("mode", "let_in", "accounts_in_database", "holds")
    told = [[each[name] for name in names] for each in json.loads(foreign.stdout)["rehearsals"]]
    assert told == [["name", 1, None, True], ["distinct", 5, None, True]]
    assert [[each[name] for name in names] for each in json.loads(counted.stdout)["rehearsals"]] == [
        ["name", 1, 1, True]
    ]


# What it refuses


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["--mode", "both"], {}, 2, "invalid choice: 'both'"),
        (["-n", "0"], {}, 2, "must be a number from 1 to 1000, not '0'"),
        (["-n", "1001"], {}, 2, "must be a number from 1 to 1000, not '1001'"),
        (["-n", "many"], {}, 2, "must be a number from 1 to 1000, not 'many'"),
        (["--processes", "17"], {}, 2, "must be a number from 1 to 16, not '17'"),
        (["--speed", "9"], {}, 2, "unrecognized arguments: --speed 9"),
        (["--keep", "--url", "http://localhost"], {}, 2, "not allowed with argument"),
        (["--processes", "16"], {"WEB_THREADS": "32"}, 3, "16 processes with WEB_THREADS=32 want more connections"),
        (["--url", "http://localhost:1", "--mode", "invitation"], {}, 3, "on a scratch site only"),
        (["--url", "http://localhost:1"], {}, 3, "The rehearsal cannot run: [Errno 111] Connection refused"),
        (["--url", "http://localhost:1"], {"BASE_URL": "http://localhost:1"}, 3, "Is the server running on that host"),
        (["--url", "localhost"], {}, 3, "--url: must be the site's own address"),
        (["--url", "http://localhost/path"], {}, 3, "--url: must be the site's own address"),
        (["--url", "http://localhost:1"], PRODUCTION, 3, "say --yes-make-accounts"),
        (["--url", "http://localhost:1", "--yes-make-accounts"], PRODUCTION, 3, "Connection refused"),
    ],
)
def test_what_cannot_be_is_refused_with_a_plain_sentence(
    arguments: list[str], environment: dict[str, str], code: int, words: str
) -> None:
    done = rehearse_signups(*arguments, **environment)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr and "Traceback" not in done.stderr


def test_a_site_that_does_not_start_is_an_obstacle_and_not_a_failed_verdict(directory: Path) -> None:
    done = rehearse_signups("-n", "2", "--mode", "name", TMPDIR=str(directory), GUNICORN_CMD_ARGS="--worker-class=none")
    assert (done.returncode, done.stdout) == (3, "")
    assert "The rehearsal cannot run: gunicorn did not start" in done.stderr
    wait_until(lambda: left_behind(directory) == [], "no process is left", seconds=10)


# Every way to end


def left_behind(directory: Path) -> list[int]:
    """Every process that works in the directory or was told of it: a server, its keeper, whoever has it as TMPDIR."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            told = (entry / "cmdline").read_text() + (entry / "environ").read_text()
            if str(directory) in told + str((entry / "cwd").readlink()):
                found.append(int(entry.name))
        except OSError:  # gone, or a zombie
            continue
    return found


def start(directory: Path, *arguments: str, **environment: str) -> Program:
    command = [f"{ROOT}/manage.py", "rehearse_signups", *arguments]
    return Program(*command, environment=NOWHERE | {"TMPDIR": str(directory)} | environment)


CROWD = 40  # the slow hashes of so many take seconds


def database_is_being_made(program: Program, directory: Path) -> bool:
    return any(directory.glob("*/*/data*"))


def forms_are_being_sent(program: Program, directory: Path) -> bool:
    """Whether everybody stands at the barrier or is through it, each in a thread of their own."""
    return len(list(Path(f"/proc/{program.pid}/task").iterdir())) > CROWD


def interrupt(program: Program) -> None:
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does


def terminate(program: Program) -> None:
    program.process.terminate()


@pytest.mark.parametrize("moment", [database_is_being_made, forms_are_being_sent])
@pytest.mark.parametrize("end", [interrupt, terminate])
def test_whoever_stops_it_finds_nothing_left(
    directory: Path, moment: Callable[[Program, Path], bool], end: Callable[[Program], None]
) -> None:
    with start(directory, "-n", str(CROWD), "--mode", "distinct", **SLOW) as program:
        wait_until(lambda: moment(program, directory), "the moment has come")
        end(program)
        assert program.process.wait(15) == 130
        assert program.says() == "Stopped.\n"
    wait_until(lambda: left_behind(directory) == [], "no process is left", seconds=10)


def test_kill_9_leaves_nothing_either_of_all_the_processes(directory: Path) -> None:
    with start(directory, "-n", str(CROWD), "--mode", "distinct", "--processes", "3", **SLOW) as program:
        wait_until(lambda: forms_are_being_sent(program, directory), "forms are being sent")
        web = [pid for pid in left_behind(directory) if "gunicorn" in Path(f"/proc/{pid}/cmdline").read_text()]
        assert len(web) == 1 + 3  # and the one that looks after them
        program.end(signal.SIGKILL)
    wait_until(lambda: left_behind(directory) == [], "no process is left", seconds=40)


def test_a_kept_database_can_be_looked_at_until_control_c(directory: Path) -> None:
    with start(directory, "-n", "3", "--mode", "distinct", "--keep") as program:
        program.wait_for(" gatehouse\n")
        (look,) = re.findall(r"^  (\S+/psql .+)$", program.says(), re.M)
        asked = [*look.split(), "-Atc", "SELECT count(*) FROM accounts_user"]
        seen = subprocess.run(asked, capture_output=True, text=True)
        assert (seen.stdout, seen.stderr) == ("3\n", "")
        interrupt(program)
        assert program.process.wait(15) == 0
        assert program.says().endswith("Removed.\n")
    wait_until(lambda: left_behind(directory) == [], "no process is left", seconds=10)
