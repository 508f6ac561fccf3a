"""Two hosts behind nginx, with files of their own and nothing in common but the database."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path

from config.browser import NoForm
from tests.hosts.files import procfile
from tests.hosts.pooling import Pooler, pooled
from tests.live import (
    LOGIN,
    PATIENCE,
    Answer,
    Browser,
    Database,
    Program,
    Site,
    Standby,
    free_port,
    in_parallel,
    open_signup,
    own_database,
    wait_until,
)
from tests.nginx import nginx_before


@dataclass
class Host:
    """A web server and a worker, with a port, a drain file and a directory for metrics of their own."""

    name: str
    place: Path
    shared: dict[str, str]
    port: int = field(default_factory=free_port)
    _parts: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    programs: list[Program] = field(default_factory=list)  # the web server and the worker

    @property
    def environment(self) -> dict[str, str]:
        return self.shared | {
            "PORT": str(self.port),
            "WEB_PROCESSES": "1",
            "HEALTH_HOST": self.name,
            "HEALTH_DRAIN_FILE": str(self.drain_file),
            "HEALTH_METRICS_DIRECTORY": str(self.place / f"{self.name}-metrics"),
        }

    @property
    def drain_file(self) -> Path:
        return self.place / f"{self.name}-draining"

    def start(self) -> None:
        """Start the lines of the documented Procfile; returns when it serves."""
        self.drain_file.unlink(missing_ok=True)
        commands = procfile()
        programs = [Program(*commands[name], environment=self.environment) for name in ("web", "worker")]
        self.programs = [self._parts.enter_context(program) for program in programs]
        wait_until(lambda: self.programs[0].process.poll() is not None or self.is_ready(), f"{self.name} is ready")
        assert self.programs[0].process.poll() is None, self.programs[0].says()

    def is_ready(self) -> bool:
        with contextlib.suppress(OSError):
            return self.browser().get("/health/ready").status == HTTPStatus.OK
        return False

    def stop(self) -> None:
        """Stop it as its unit does: drained, so that load balancers with probes know, then SIGTERM."""
        self.drain_file.touch()
        for program in self.programs:
            program.process.terminate()
        for program in self.programs:
            assert program.process.wait(PATIENCE) == 0, program.says()  # a second signal would not let it finish
        self._parts.close()

    def kill(self) -> None:
        """End it at once, whatever state it is in."""
        for program in self.programs:
            program.process.kill()
        self._parts.close()

    def browser(self, cookies: dict[str, str] | None = None) -> Browser:
        """Somebody whom the load balancer sends to this host, with the `cookies` of a browser that was elsewhere."""
        return Browser(self.port, {} if cookies is None else cookies)

    def requests(self) -> int:
        """How many pages its web server has answered since it started."""
        return self.programs[0].says().count('"route"')


@dataclass
class Several:
    """All of it; `site` is what people see, through nginx."""

    database: Database
    standby: Standby
    pooler: Pooler
    hosts: tuple[Host, Host]
    site: Site

    def reads_of_standby(self) -> int:
        """How many statements about accounts the standby has had."""
        log = self.standby.cluster.status().data_directory.parent / "server.log"
        return log.read_text().count('FROM "accounts_')


@contextlib.contextmanager
def several_hosts(place: Path, **settings: str) -> Iterator[Several]:
    """Run all of it until the block ends, with further `settings` for the hosts."""
    with contextlib.ExitStack() as parts:
        database = parts.enter_context(own_database())
        standby = parts.enter_context(database.standby(log_statement="all"))
        pooler = parts.enter_context(pooled(database, standby))
        shared = pooler.environment | {
            "BASE_URL": "http://gatehouse.example",
            "ALLOWED_HOSTS": "gatehouse.example",
            "TRUSTED_PROXIES": "1",
            "EMAIL_URL": "dummymail://",
            # Nothing here is about a database that is away, and the machine may be busy while PgBouncer is exchanged.
            "DATABASE_DEADLINE": "10",
        }
        hosts = (Host("first", place, shared | settings), Host("second", place, shared | settings))
        for host in hosts:
            parts.callback(host.kill)
        in_parallel([host.start for host in hosts])
        port = parts.enter_context(nginx_before(*(host.port for host in hosts), place=place))
        yield Several(database, standby, pooler, hosts, Site(port, hosts[0].programs[0]))


class Visitors:
    """Threads that read pages and sign up through nginx without a pause; every answer that is not as ever is kept."""

    READERS, NEWCOMERS = 4, 2

    def __init__(self, site: Site) -> None:
        self._site = site
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._repeat, args=[self._read]) for _ in range(self.READERS)]
        self._threads += [
            threading.Thread(target=self._repeat, args=[self._sign_up, f"visitor{number}"])
            for number in range(self.NEWCOMERS)
        ]
        self.done: Counter[str] = Counter()
        self.failed: list[str] = []
        self.welcomed: list[str] = []
        self._begun = time.monotonic()

    def __enter__(self) -> Visitors:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _repeat(self, visit: Callable[..., None], *arguments: str) -> None:
        for number in itertools.count():
            if self._over.is_set():
                return
            try:
                visit(number, *arguments)
            except (OSError, HTTPException, NoForm) as error:
                self._fail(f"{visit.__name__}: {error!r}")

    def _read(self, number: int) -> None:
        answer = self._site.browser(timeout=20).get(LOGIN if number % 2 else "/accounts/password/reset/")
        self._note("read", answer.status == HTTPStatus.OK, answer)

    def _sign_up(self, number: int, name: str) -> None:
        person = f"{name}.{number}"
        answer = open_signup(self._site, person, f"{person}@rolling.example").send()
        is_welcome = (answer.status, answer.location) == (HTTPStatus.SEE_OTHER, LOGIN)
        if is_welcome:
            self.welcomed.append(person)
        self._note("sign_up", is_welcome, answer)

    def _note(self, what: str, is_fine: bool, answer: Answer) -> None:
        self.done[what] += 1
        if not is_fine:
            self._fail(f"{what}: {answer.status} {answer.body[:60].strip()}")

    def _fail(self, why: str) -> None:
        self.failed.append(f"after {time.monotonic() - self._begun:.1f} s, {why}")
