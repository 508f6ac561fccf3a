"""Real things for tests that need them: a PostgreSQL of one's own, gunicorn in front of it, browsers, HTTP.

Everything here ends with its ``with`` block. A site hangs on a lifeline besides, so that it does not even
outlive a killed test run.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from http.cookies import SimpleCookie
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar
from urllib.parse import urlencode

import psycopg2
from psycopg2 import sql

from config.embedded_postgres import DATABASE, OWNER_ROLE, RUNTIME_ROLE, SUPERUSER, EmbeddedPostgres

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60  # seconds that a loaded machine may take; nothing here waits that long otherwise
# What the suite's own processes share, and a site of its own must not inherit.
_NOT_INHERITED = ("DATABASE_URL", "DATABASE_DIRECT_URL", "EMBEDDED_POSTGRES", "EMBEDDED_POSTGRES_HOME")
_TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')


# Waiting and acting at once


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Poll until `condition()` is true; fail the test when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {what}"
        time.sleep(0.02)


def at_once(actions: Sequence[Callable[[], T]]) -> list[T]:
    """Run every action in a thread of its own, all released at one barrier; return the results in order."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], T]) -> T:
        barrier.wait()
        return action()

    with ThreadPoolExecutor(len(actions)) as threads:
        return list(threads.map(run, actions))


# Databases


@dataclass(frozen=True)
class Database:
    """One database on a server of the test's own."""

    cluster: EmbeddedPostgres
    name: str = DATABASE

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process of ours use it as it would a configured server, with both roles."""
        address = f"/{self.name}?host={self.cluster.socket_directory()}"
        return {
            "DATABASE_URL": f"postgresql://{RUNTIME_ROLE}@{address}",
            "DATABASE_DIRECT_URL": f"postgresql://{OWNER_ROLE}@{address}",
        }

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Run one statement, committed at once; its rows, if it has any."""
        connection = psycopg2.connect(
            host=str(self.cluster.socket_directory()), dbname=self.name, user=SUPERUSER, connect_timeout=10
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement, parameters or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def value(self, statement: str, *parameters: object) -> Any:
        """The first value of the first row."""
        return self.rows(statement, *parameters)[0][0]

    def copy(self, name: str) -> Database:
        """A copy in another database of the same server; nobody may be connected to this one."""
        made, template, owner = sql.Identifier(name), sql.Identifier(self.name), sql.Identifier(OWNER_ROLE)
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(made, template, owner)
        Database(self.cluster, "postgres").rows(statement)  # type: ignore[arg-type]  # Composable is as good
        return Database(self.cluster, name)

    def be_durable(self) -> None:
        """Give a throw-away server the settings that the persistent one has."""
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self.rows(f"ALTER SYSTEM SET {setting} = on")
        self.rows("SELECT pg_reload_conf()")
        wait_until(lambda: self.value("SHOW full_page_writes") == "on", "the server has read its settings")

    def kill(self) -> None:
        """Kill -9 the server and return when its process is gone."""
        pid = self.cluster.status().pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid), "the killed server is gone")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the server and all its processes for the length of the block, as a hung disk would."""
        pid = self.cluster.status().pid
        assert pid is not None
        stopped = [pid]
        try:
            os.kill(pid, signal.SIGSTOP)  # first, so that it makes no new ones
            for child in children(pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGSTOP)
                    stopped.append(child)
            yield
        finally:
            for process in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGCONT)


@contextlib.contextmanager
def own_database(*, migrated: bool = True) -> Iterator[Database]:
    """A fast throw-away PostgreSQL, with this code's schema unless told otherwise."""
    cluster = EmbeddedPostgres.throwaway_cluster()
    try:
        cluster.ensure_running()
        database = Database(cluster)
        if migrated:
            migrate(database.environment)
        yield database
    finally:
        cluster.stop()


@contextlib.contextmanager
def project_copy() -> Iterator[Path]:
    """A copy of the project, where it may have a persistent database of its own."""
    # Open to the server's account, which pytest's own directories are not.
    above = Path(tempfile.mkdtemp(prefix="gatehouse-copy-")).resolve()
    above.chmod(0o755)
    project = above / "project"
    shutil.copytree(ROOT, project, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    shutil.copytree(ROOT / ".static", project / ".static")  # what collectstatic makes before the tests
    try:
        yield project
    finally:
        EmbeddedPostgres(project / ".postgres").stop()
        wait_until(partial(_removed, above), "the copy is removed")


def _removed(path: Path) -> bool:
    """Remove it with all in it, unless somebody (a keeper on its way out) just made another file there."""
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def migrate(environment: dict[str, str], project: Path = ROOT) -> None:
    done = manage("migrate", "--verbosity=0", environment=environment, project=project)
    assert done.returncode == 0, done.stderr


# Programs


def clean_environment(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a new process: the test run's, less its database, with `environment` on top."""
    return {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED} | environment


def manage(
    *arguments: str, environment: dict[str, str], project: Path = ROOT, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a management command to its end."""
    command = [sys.executable, f"{project}/manage.py", *arguments]
    options = {"timeout": PATIENCE, "stdin": subprocess.DEVNULL} | options
    return subprocess.run(
        command, cwd=project, env=clean_environment(environment), capture_output=True, text=True, **options
    )


class Program:
    """A long-running process of ours in a session of its own; all it says is kept."""

    def __init__(self, *arguments: str, environment: dict[str, str], project: Path = ROOT) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `end`
        reading, self._lifeline = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=project,
            env=clean_environment({"GATEHOUSE_LIFELINE": str(reading)} | environment),
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            pass_fds=[reading],
            start_new_session=True,
        )
        os.close(reading)

    @property
    def pid(self) -> int:
        return self.process.pid

    def says(self) -> str:
        length = os.fstat(self._said.fileno()).st_size
        return os.pread(self._said.fileno(), length, 0).decode("utf-8", "replace")

    def wait_for(self, words: str, seconds: float = PATIENCE) -> None:
        """Return once it has said `words`; fail the test when it ends without."""
        wait_until(lambda: words in self.says() or self.process.poll() is not None, f"it says {words!r}", seconds)
        assert words in self.says(), self.says()

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 40) -> int:
        """Send the signal to this process alone, then wait for it; returns the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(patience)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            self.end()
        except subprocess.TimeoutExpired:
            for pid in [*descendants(self.pid), self.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            raise
        finally:
            os.close(self._lifeline)
            self._said.close()


def children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def descendants(pid: int) -> list[int]:
    """Every live process below `pid`, itself not included."""
    return [each for child in children(pid) for each in (child, *descendants(child))]


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def processor_time(pid: int) -> float:
    """Seconds of processor time that the process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Sites and browsers


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: str
    seconds: float

    @property
    def location(self) -> str:
        return self.headers.get("Location", "")


@dataclass
class Browser:
    """A minimal browser: keeps cookies, fills forms. One thread each."""

    port: int
    cookies: dict[str, str] = field(default_factory=dict)
    timeout: float = 120

    def request(
        self, method: str, path: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.timeout)
        started = time.monotonic()
        try:
            cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            connection.request(method, path, body, {"Cookie": cookie} | (headers or {}))
            response = connection.getresponse()
            text = response.read().decode("utf-8", "replace")
            for header in response.headers.get_all("Set-Cookie") or []:
                self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(header).items()}
            return Answer(response.status, response.headers, text, time.monotonic() - started)
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, fields: dict[str, str]) -> Answer:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.request("POST", path, urlencode(fields), headers)

    def open_form(self, path: str) -> dict[str, str]:
        """Load a page and return the hidden field of its form."""
        page = self.get(path)
        token = _TOKEN.search(page.body)
        assert page.status == 200 and token, f"{path} answered {page.status}"
        return {"csrfmiddlewaretoken": token[1]}


@dataclass
class Site:
    """A running gunicorn."""

    port: int
    program: Program

    def browser(self, **options: Any) -> Browser:
        return Browser(self.port, **options)

    def probe(self, name: str, timeout: float = 10) -> Answer:
        return self.browser(timeout=timeout).get(f"/health/{name}")

    def processes(self) -> set[int]:
        return set(children(self.program.pid))


@contextlib.contextmanager
def running_site(environment: dict[str, str], project: Path = ROOT) -> Iterator[Site]:
    """Run gunicorn with two processes on a free port until the block ends."""
    port = free_port()
    command = ["-m", "gunicorn", "--config", "python:config.gunicorn", "--chdir", str(project)]
    environment = {"PORT": str(port), "WEB_PROCESSES": "2"} | environment
    with Program(*command, environment=environment, project=project) as program:
        site = Site(port, program)
        # Both processes: the first to listen would else take all of the first wave.
        wait_until(lambda: program.process.poll() is not None or answers(site), "the site answers")
        wait_until(lambda: program.process.poll() is not None or len(site.processes()) == 2, "both processes run")
        assert program.process.poll() is None, f"gunicorn did not start: {program.says()}"
        yield site


def answers(site: Site) -> bool:
    try:
        return site.probe("live").status == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Signing up

SIGNUP = "/accounts/signup/"
LOGIN = "/accounts/login/"
PASSWORD = "Correct-Horse-7-Battery"


@dataclass
class OpenForm:
    """A signup page that somebody has open in a browser of their own, filled in but not yet sent."""

    browser: Browser
    fields: dict[str, str]

    @property
    def username(self) -> str:
        return self.fields["username"]

    def send(self) -> Answer:
        return self.browser.post(SIGNUP, self.fields)


def open_signup(site: Site, username: str, email: str) -> OpenForm:
    browser = site.browser()
    wanted = {"username": username, "email": email, "password": PASSWORD}
    return OpenForm(browser, browser.open_form(SIGNUP) | wanted)


def open_signups(site: Site, people: Sequence[tuple[str, str]]) -> list[OpenForm]:
    """Open a form for each (username, address)."""
    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(lambda person: open_signup(site, *person), people))


def sign_up_at_once(site: Site, people: Sequence[tuple[str, str]]) -> list[Answer]:
    """Everybody has the form open beforehand; then all of them send it at the same moment."""
    return at_once([partial(OpenForm.send, form) for form in open_signups(site, people)])


_HALF_ACCOUNTS = """
SELECT person.username, job.id
FROM (SELECT * FROM accounts_user WHERE signup_key IS NOT NULL) person
FULL JOIN (
    SELECT id, args_kwargs -> 'args' ->> 1 AS user_id FROM {jobs}
    WHERE task_path = 'accounts.jobs.send_mail_to_user' AND args_kwargs -> 'args' ->> 0 = 'verify_email'
) job ON job.user_id = person.id::text
WHERE person.id IS NULL OR job.id IS NULL
"""


def half_accounts(database: Database) -> list[tuple[Any, ...]]:
    """Whoever signed up without a mail to verify the address, and every such mail without its account."""
    from django_tasks_db.models import DBTaskResult

    return database.rows(_HALF_ACCOUNTS.format(jobs=DBTaskResult._meta.db_table))
