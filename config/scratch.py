"""A site of one's own for a while: a throw-away PostgreSQL and gunicorn in front of it. For rehearsals and tests.

Everything here ends with its ``with`` block. A program hangs on a lifeline besides, so that it does not even
outlive a parent that was killed, and the database goes with the last process that uses it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from config.browser import Answer, Browser
from config.embedded_postgres import DATABASE, OWNER_ROLE, RUNTIME_ROLE, SUPERUSER, EmbeddedPostgres

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60  # seconds that a loaded machine may take; nothing here waits that long otherwise
# Which database this process uses; a site of its own must not inherit it.
_NOT_INHERITED = ("DATABASE_URL", "DATABASE_DIRECT_URL", "EMBEDDED_POSTGRES", "EMBEDDED_POSTGRES_HOME")


class ScratchError(Exception):
    """A part of the scratch site did not do what it must; the message says which, in its own words."""


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Poll until `condition()` is true; raises ScratchError when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            raise ScratchError(f"not within {seconds} seconds: {what}")
        time.sleep(0.02)


# Databases


@dataclass(frozen=True)
class Database:
    """One database on a server of our own."""

    cluster: EmbeddedPostgres
    name: str = DATABASE

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process of ours use it as it would a configured server, with both roles."""
        address = f"/{self.name}?host={self.cluster.socket_directory()}"
        return {
            "DATABASE_URL": f"postgresql://{RUNTIME_ROLE}@{address}",
            "DATABASE_DIRECT_URL": f"postgresql://{OWNER_ROLE}@{address}",
            "DATABASE_POOLER": "off",
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

    def be_durable(self) -> None:
        """Give a throw-away server the settings that the persistent one has."""
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self.rows(f"ALTER SYSTEM SET {setting} = on")
        self.rows("SELECT pg_reload_conf()")
        wait_until(lambda: self.value("SHOW full_page_writes") == "on", "the server has read its settings")


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


def migrate(environment: dict[str, str], project: Path = ROOT) -> None:
    done = manage("migrate", "--verbosity=0", environment=environment, project=project)
    if done.returncode:
        raise ScratchError(f"migrate failed: {done.stderr.strip()}")


# Programs


def clean_environment(environment: dict[str, str]) -> dict[str, str]:
    """The environment of a new process: this one's, less its database, with `environment` on top."""
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
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `__exit__`
        reading, self._lifeline = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=project,
            env=clean_environment({"GATEHOUSE_LIFELINE": str(reading), "PYTHONFAULTHANDLER": "1"} | environment),
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
        """Return once it has said `words`; raises ScratchError when it ends without."""
        wait_until(lambda: words in self.says() or self.process.poll() is not None, f"it says {words!r}", seconds)
        if words not in self.says():
            raise ScratchError(f"it ended without {words!r}: {self.says()}")

    def end(self, number: signal.Signals = signal.SIGTERM, patience: float = 40) -> int:
        """Send the signal to this process alone, then wait for it; returns the exit code.

        Raises ScratchError when it is not gone within `patience` seconds, with where its threads hang.
        """
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # which makes Python say where each thread is
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
            raise ScratchError(f"it did not end within {patience} seconds: {self.says()}") from None

    def __enter__(self) -> Program:
        return self

    def __exit__(self, exception: type[BaseException] | None, *details: object) -> None:
        try:
            if exception is None:
                self.end()
        finally:
            if self.process.poll() is None:
                # After an exception, Ctrl-C included, nobody waits for what it has begun.
                os.killpg(self.pid, signal.SIGKILL)
                self.process.wait()
            os.close(self._lifeline)
            self._said.close()


def children(pid: int) -> list[int]:
    if sys.platform != "linux":
        shown = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True).stdout
        pairs = [line.split() for line in shown.splitlines()]
        return [int(child) for child, parent in pairs if parent == str(pid)]
    with contextlib.suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


# Sites


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
def running_site(environment: dict[str, str], project: Path = ROOT, *, processes: int = 2) -> Iterator[Site]:
    """Run gunicorn on a free port of this machine until the block ends; raises ScratchError when it does not start."""
    port = free_port()
    command = ["-m", "gunicorn", "--config", "python:config.gunicorn", "--chdir", str(project)]
    environment = {"BIND": "127.0.0.1", "PORT": str(port), "WEB_PROCESSES": str(processes)} | environment
    with Program(*command, environment=environment, project=project) as program:
        site = Site(port, program)
        # All processes: the first to listen would else take all of the first wave.
        wait_until(lambda: program.process.poll() is not None or answers(site), "the site answers")
        wait_until(
            lambda: program.process.poll() is not None or len(site.processes()) == processes, "all processes run"
        )
        if program.process.poll() is not None:
            raise ScratchError(f"gunicorn did not start: {program.says()}")
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
