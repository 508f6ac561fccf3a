"""Real things for tests that need them: a PostgreSQL of one's own, gunicorn in front of it, browsers, HTTP.

What the rehearsal of signups needs too is the project's own (`config.scratch`, `config.browser`,
`accounts.rehearsal`); here is what only tests do with it: copy, kill, freeze and look.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from accounts import rehearsal
from accounts.rehearsal import OpenForm, at_once, in_parallel
from config import scratch
from config.browser import Answer, Browser
from config.embedded_postgres import OWNER_ROLE, RUNTIME_ROLE, SUPERUSER, EmbeddedPostgres
from config.scratch import (
    PATIENCE,
    ROOT,
    Program,
    Site,
    children,
    free_port,
    manage,
    migrate,
    running_site,
    wait_until,
)

__all__ = [
    "LOGIN", "PASSWORD", "PATIENCE", "ROOT", "SIGNUP", "Answer", "Browser", "Database", "OpenForm", "Program", "Site",
    "Standby", "at_once", "children", "descendants", "free_port", "half_accounts", "in_parallel", "is_alive",
    "is_busy_page", "manage",
    "migrate", "open_signup", "open_signups", "own_database", "processor_time", "project_copy", "running_site",
    "sign_up_at_once", "wait_until",
]  # fmt: skip

# Databases

MIGRATED_FILES = "GATEHOUSE_TEST_FILES"  # names the variable with the directory that a run of the suite has for them
_BASE_BACKUP = ("-U", SUPERUSER, "-D", "copy", "--checkpoint=fast", "--no-sync")


class Database(scratch.Database):
    """One database on a server of the test's own."""

    def copy(self, name: str) -> Database:
        """A copy in another database of the same server; nobody may be connected to this one."""
        made, template, owner = sql.Identifier(name), sql.Identifier(self.name), sql.Identifier(OWNER_ROLE)
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(made, template, owner)
        Database(self.cluster, "postgres").rows(statement)  # type: ignore[arg-type]  # Composable is as good
        return Database(self.cluster, name)

    def flush(self) -> None:
        """Commit something, so that all that stands in the log by now is sent to the standbys."""
        self.rows("SELECT pg_logical_emit_message(true, 'tests', '')")

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
    def no_connection_left(self) -> Iterator[None]:
        """Take every connection that the site's role may have, from the site too."""
        with contextlib.ExitStack() as taken:

            def take() -> None:
                host = str(self.cluster.socket_directory())
                with contextlib.suppress(psycopg2.OperationalError):
                    while True:
                        taken.callback(psycopg2.connect(host=host, dbname=self.name, user=RUNTIME_ROLE).close)

            def has_none() -> bool:
                self.end_sessions()
                take()
                return not self._sessions()

            take()
            wait_until(has_none, "the site has none")
            yield

    def end_sessions(self) -> None:
        """End every session that the site has."""
        self.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name ~ '^gatehouse'")

    def _sessions(self) -> int:
        return int(self.value("SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^gatehouse'"))

    @contextlib.contextmanager
    def standby(self, **parameters: str) -> Iterator[Standby]:
        """A hot standby that streams from this server, made by pg_basebackup in about two seconds.

        `parameters` are further settings of PostgreSQL for it, such as ``recovery_min_apply_delay="2s"``. A replication
        slot keeps what it has not got yet, however long it is away; the slot is dropped with the block.
        """
        cluster = EmbeddedPostgres.throwaway_cluster()
        slot = cluster.status().data_directory.parents[1].name.replace("-", "_").lower()
        try:
            cluster._create_home()
            primary = str(self.cluster.socket_directory())
            replication = ("--write-recovery-conf", "--create-slot", "--slot", slot, "-h", primary)
            cluster._run("pg_basebackup", *_BASE_BACKUP, *replication)
            if parameters:
                written = cluster._home / "copy" / "postgresql.auto.conf"
                lines = [f"{name} = '{value}'\n" for name, value in parameters.items()]
                cluster._account.write(written, written.read_text() + "".join(lines))
            (cluster._home / "copy").rename(cluster._home / "data")
            cluster.ensure_running()
            made = Standby(cluster, self.name, primary=self)
            made.wait_until_streaming()
            yield made
        finally:
            cluster.stop()
            with contextlib.suppress(psycopg2.OperationalError):  # a test may have ended the primary
                self._drop_slot(slot)

    def _drop_slot(self, slot: str) -> None:
        taken = "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active"
        wait_until(lambda: not self.rows(taken, slot), "the primary has noticed that the standby is gone")
        self.rows("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", slot)


@dataclass(frozen=True)
class Standby(Database):
    """The same database on a standby: `kill` and `frozen` are about the standby, `start` starts it again."""

    primary: Database = field(kw_only=True)

    @property
    def url(self) -> str:
        """For DATABASE_REPLICA_URLS."""
        return self.environment["DATABASE_URL"]

    def start(self) -> None:
        """Start it again after `kill`; it goes on to stream by itself."""
        self.cluster.ensure_running()

    def wait_until_streaming(self) -> None:
        wait_until(lambda: self.rows("SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"), "it streams")

    def catch_up(self) -> None:
        """Return once it has replayed all that the primary has committed by now."""
        self.primary.flush()
        position = self.primary.value("SELECT pg_current_wal_flush_lsn()::text")
        replayed = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
        wait_until(lambda: self.value(replayed, position), "the standby has caught up")

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It receives but shows nothing new for the length of the block."""
        self.rows("SELECT pg_wal_replay_pause()")
        try:
            wait_until(lambda: self.value("SELECT pg_get_wal_replay_pause_state()") == "paused", "replay is paused")
            yield
        finally:
            self.rows("SELECT pg_wal_replay_resume()")

    def promote(self) -> None:
        """Make it a primary of its own, on a new timeline."""
        self.rows("SELECT pg_promote()")


@contextlib.contextmanager
def own_database(*, migrated: bool = True) -> Iterator[Database]:
    """A fast throw-away PostgreSQL, with this code's schema unless told otherwise."""
    if not migrated or MIGRATED_FILES not in os.environ:  # the bench has none
        with scratch.own_database(migrated=migrated) as made:
            yield Database(made.cluster)
        return
    cluster = EmbeddedPostgres.throwaway_cluster()
    try:
        lay_files(cluster)
        cluster.ensure_running()
        yield Database(cluster)
    finally:
        cluster.stop()


def lay_files(cluster: EmbeddedPostgres) -> None:
    """Give a cluster that was never started this code's schema."""
    cluster._create_home()
    # With owners and modes, which PostgreSQL insists on.
    subprocess.run(["cp", "-a", _migrated_files(), cluster._home / "data"], check=True)


def _migrated_files() -> Path:
    """The files of a cluster with this code's schema, made once in a run of the suite: to migrate takes seconds."""
    directory = Path(os.environ[MIGRATED_FILES])
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of the parallel processes one makes it
        files = directory / "data"
        if not files.exists():
            with scratch.own_database() as made:
                made.cluster._run("pg_basebackup", *_BASE_BACKUP, "-h", str(made.cluster.socket_directory()))
                shutil.move(made.cluster._home / "copy", files)
    return files


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


# Processes


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


# Pages


def is_busy_page(answer: Answer) -> bool:
    """Whether it is the site's own page for a database fault, which names the request and says when to come back.

    Or, through the documented nginx, its line for a host that went away with the request.
    """
    if answer.body == "Gatehouse is away for a moment. Please try again.\n":
        return answer.status == 503 and answer.headers["Retry-After"] is not None
    request_id = answer.headers["X-Request-ID"]
    return (
        answer.status == 503
        and answer.headers["Retry-After"] == "5"
        and "<h1>We are too busy just now</h1>" in answer.body
        and f"<code>{request_id}</code>" in answer.body
        and "site/site" in answer.body  # the style sheet
    )


# Signing up

SIGNUP = "/accounts/signup/"
LOGIN = "/accounts/login/"
PASSWORD = "Correct-Horse-7-Battery"


def open_signup(site: Site, username: str, email: str) -> OpenForm:
    wanted = {"username": username, "email": email, "password": PASSWORD}
    return rehearsal.open_form(site.browser(), SIGNUP, wanted)


def open_signups(site: Site, people: Sequence[tuple[str, str]]) -> list[OpenForm]:
    """Open a form for each (username, address)."""
    return in_parallel([partial(open_signup, site, *person) for person in people])


def sign_up_at_once(site: Site, people: Sequence[tuple[str, str]]) -> list[Answer]:
    """Everybody has the form open beforehand; then all of them send it at the same moment."""
    return at_once([form.send for form in open_signups(site, people)])


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
