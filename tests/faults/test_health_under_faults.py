"""What the probes say while the database hangs, is gone or is full, and while every worker is stuck.

Each of it under gunicorn's own synchronous workers as it comes, where whatever waits holds everybody up, and under
the project's configuration with threads; both sites use one database.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Event, Thread

import pytest

from tests.live import (
    ROOT,
    Answer,
    Browser,
    Database,
    Program,
    Site,
    at_once,
    free_port,
    own_database,
    running_site,
    wait_until,
)

STORM = 40.0  # seconds
SEEN_WITHIN = 1.5  # seconds after which every probe tells of an outage
THREADS = 8
CROWDS = 6  # after so many, nothing more will begin
LOOKS = 5  # of which one meets no client that is just coming or going
PROCESSES = 2


@contextmanager
def gunicorn_as_it_comes(application: str, environment: dict[str, str], path: str) -> Iterator[Site]:
    """Synchronous workers, and no configuration but where to listen."""
    port = free_port()
    command = ["-m", "gunicorn", application, "--bind", f"127.0.0.1:{port}", "--workers", str(PROCESSES)]
    with Program(*command, environment=environment) as program:
        site = Site(port, program)
        wait_until(lambda: len(site.processes()) == PROCESSES and is_up(site, path), "the site answers")
        yield site


def is_up(site: Site, path: str) -> bool:
    with suppress(OSError):
        return site.browser().get(path).status == 200
    return False


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


@pytest.fixture(scope="module")
def running(database: Database) -> Iterator[dict[str, Site]]:
    environment = database.environment | {"WEB_THREADS": str(THREADS)}
    with (
        gunicorn_as_it_comes("config.wsgi", environment, "/health/ready") as synchronous,
        running_site(environment, processes=PROCESSES) as threads,
    ):
        yield {"synchronous": synchronous, "threads": threads}


@pytest.fixture
def sites(running: dict[str, Site], database: Database) -> Iterator[dict[str, Site]]:
    """Both sites, ready; afterwards not one of their processes has been replaced."""
    database.cluster.ensure_running()
    for site in running.values():
        wait_until(partial(is_ready_throughout, site), "the site is ready")
    processes = {name: site.processes() for name, site in running.items()}
    yield running
    assert {name: site.processes() for name, site in running.items()} == processes


@pytest.fixture(params=["synchronous", "threads"])
def site(request: pytest.FixtureRequest, sites: dict[str, Site]) -> Site:
    return sites[request.param]


def is_ready_throughout(site: Site) -> bool:
    """Whether all processes are ready, as far as asking often enough can tell."""
    return {answer.status for answer in at_once([partial(site.probe, "ready")] * 8)} == {200}


def profile(site: Site) -> Answer:
    """An ordinary page: it looks a session up."""
    return site.browser(cookies={"sessionid": "0123456789abcdefghijklmnopqrstuv"}).get("/accounts/profile/")


@dataclass
class Storm:
    """Clients that ask again and again; `answers` are (moment of asking, status, seconds)."""

    answers: dict[str, list[tuple[float, int, float]]] = field(default_factory=dict)
    _over: Event = field(default_factory=Event)
    _threads: list[Thread] = field(default_factory=list)

    def ask(self, name: str, port: int, path: str, pause: float) -> None:
        self._threads.append(Thread(target=self._go_on, args=[name, Browser(port, timeout=10), path, pause]))
        self._threads[-1].start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def seconds(self, name: str, share: float = 1.0) -> float:
        """What so great a share of the answers took at most."""
        taken = sorted(seconds for _, _, seconds in self.answers[name])
        return taken[min(int(len(taken) * share), len(taken) - 1)]

    def _go_on(self, name: str, browser: Browser, path: str, pause: float) -> None:
        answers = self.answers.setdefault(name, [])
        while not self._over.wait(pause):
            began = time.monotonic()
            try:
                answers.append((began, browser.get(path).status, time.monotonic() - began))
            except OSError:
                answers.append((began, 0, time.monotonic() - began))


Belongings = dict[int, tuple[int, int]]


def belongings(site: Site) -> Belongings:
    """Open files and threads of each process."""
    return {pid: (len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))) for pid in site.processes()}


def probe_sessions(database: Database) -> int:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'gatehouse-health'"
    return int(database.value(asked))


def least_belongings(site: Site) -> Belongings:
    """What the processes hold when nobody is just coming or going."""
    seen = []
    for _ in range(LOOKS):
        time.sleep(0.03)
        seen.append(belongings(site))
    return {pid: (min(each[pid][0] for each in seen), min(each[pid][1] for each in seen)) for pid in seen[0]}


def all_belongings(site: Site) -> Belongings:
    """What they hold at most once every thread has begun and has its connection, which takes some crowds."""
    seen = []
    for _ in range(CROWDS):
        at_once([partial(profile, site)] * (4 * PROCESSES * THREADS))
        seen.append(least_belongings(site))
    return {pid: (max(each[pid][0] for each in seen), max(each[pid][1] for each in seen)) for pid in seen[0]}


def test_a_frozen_database_never_makes_a_probe_wait_and_leaves_nothing(
    sites: dict[str, Site], database: Database
) -> None:
    storm = Storm()
    with gunicorn_as_it_comes("wsgiref.simple_server:demo_app", database.environment, "/") as bare:
        before = {name: all_belongings(site) for name, site in sites.items()}
        for name, site in sites.items():
            storm.ask(f"{name} ready", site.port, "/health/ready", pause=0.05)
            for _ in range(2):
                storm.ask(f"{name} live", site.port, "/health/live", pause=0.02)
        storm.ask("bare", bare.port, "/", pause=0.02)
        with database.frozen():
            frozen_at = time.monotonic()
            time.sleep(STORM)
            storm.end()
        for site in sites.values():
            wait_until(lambda site=site: site.probe("ready").status == 200, "it is ready again", seconds=1)  # type: ignore[misc]

    # What the machine's own other work costs is measured by an application that does nothing, in the same storm.
    for name in sites:
        live, ready = storm.answers[f"{name} live"], storm.answers[f"{name} ready"]
        assert len(live) > 10 * STORM
        assert {status for _, status, _ in live} == {200}
        assert storm.seconds(f"{name} live", 0.99) <= 0.05 + storm.seconds("bare", 0.99)
        late = [status for began, status, seconds in ready if began + seconds > frozen_at + SEEN_WITHIN]
        assert len(late) > 5 * STORM
        assert set(late) == {503}
        assert storm.seconds(f"{name} ready") <= 0.6 + storm.seconds("bare")

    # A session whose client is gone ends once its process runs again, and the kept ones are as many as before.
    wait_until(lambda: probe_sessions(database) <= PROCESSES * len(sites), "no session is left", seconds=10)
    for name, site in sites.items():
        all_belongings(site)
        beginners = THREADS if name == "threads" else 1
        wait_until(partial(has_no_more, site, before[name], beginners), "nothing is left", seconds=60)


def has_no_more(site: Site, before: Belongings, beginners: int) -> bool:
    """But for so many late threads of the pool and their connections: what leaks with every question is far more."""
    now = least_belongings(site)
    return all(
        now[pid][0] <= files + beginners and now[pid][1] <= threads + beginners
        for pid, (files, threads) in before.items()
    )


def test_a_probe_that_comes_alone_is_told_of_a_frozen_database_in_time(site: Site, database: Database) -> None:
    """Nobody has asked for a while, so there is no reading to go by."""
    with database.frozen():
        for _ in range(2):
            time.sleep(SEEN_WITHIN)
            answer = site.probe("ready")
            assert answer.status == 503
            assert answer.seconds <= 0.6 + noise()


def noise() -> float:
    """How long this process is kept waiting just now when it wants to wait a hundredth of a second, less that."""
    began = time.monotonic()
    time.sleep(0.01)
    return time.monotonic() - began - 0.01


def test_a_database_that_is_gone_costs_a_probe_nothing_and_strangers_learn_nothing(
    site: Site, database: Database
) -> None:
    database.kill()
    wait_until(lambda: site.probe("ready").status == 503, "the outage is seen", seconds=SEEN_WITHIN)
    time.sleep(SEEN_WITHIN)
    answers = [site.probe("ready") for _ in range(20)]
    assert {answer.status for answer in answers} == {503}
    assert sorted(answer.seconds for answer in answers)[len(answers) // 2] <= 0.05
    for answer in answers:
        assert len(answer.body) <= 64
        assert set(answer.body) <= set('{"status":"fail","time":"-TZ0123456789.,age}')
        assert answer.headers["Retry-After"] == "1"
    assert site.probe("live").status == 200
    database.cluster.ensure_running()
    wait_until(lambda: site.probe("ready").status == 200, "it is ready again", seconds=2)


def test_sixteen_clients_of_a_page_are_told_within_three_seconds_while_the_site_lives(
    site: Site, sites: dict[str, Site], database: Database
) -> None:
    at_once([partial(profile, site)] * 16)
    live: list[Answer] = []
    over = Event()

    def keep_asking() -> None:
        while not over.wait(0.02):
            live.append(site.probe("live"))

    with database.frozen():
        asking = Thread(target=keep_asking)
        asking.start()
        pages = at_once([partial(profile, site)] * 16)
        over.set()
        asking.join()
    assert {page.status for page in pages} == {503}
    assert max(page.seconds for page in pages) < 3, sorted(page.seconds for page in pages)
    assert {answer.status for answer in live} == {200}
    if site is sites["threads"]:  # with all of its threads at work; a synchronous worker has nobody else to answer
        assert max(answer.seconds for answer in live) < 0.5


def test_clients_that_say_nothing_hold_no_thread(sites: dict[str, Site]) -> None:
    site = sites["threads"]
    with ExitStack() as clients:
        for _ in range(4 * PROCESSES * THREADS):
            clients.enter_context(socket.create_connection(("127.0.0.1", site.port), timeout=10))
        assert max(profile(site).seconds for _ in range(8)) < 2


def test_a_database_without_a_free_connection_is_told_of_as_well(site: Site, database: Database) -> None:
    at_once([partial(profile, site)] * 16)
    with database.no_connection_left():
        time.sleep(SEEN_WITHIN)
        ready = [site.probe("ready") for _ in range(10)]
        assert {(answer.status, len(answer.body) <= 64) for answer in ready} == {(503, True)}
        assert max(answer.seconds for answer in ready) <= 0.6
        assert site.probe("live").status == 200
        pages = at_once([partial(profile, site)] * 16)
        assert {page.status for page in pages} == {503}
        assert max(page.seconds for page in pages) < 3
    wait_until(lambda: site.probe("ready").status == 200, "it is ready again", seconds=2)
    assert {page.status for page in at_once([partial(profile, site)] * 16)} == {302}


def test_killing_every_session_fails_not_one_page(site: Site, database: Database) -> None:
    at_once([partial(profile, site)] * 32)
    database.end_sessions()
    pages, probes = [partial(profile, site)] * 32, [partial(site.probe, "ready")] * 8
    assert [answer.status for answer in at_once([*pages, *probes])] == [302] * 32 + [200] * 8


def test_while_every_worker_is_stuck_the_health_process_answers_all(sites: dict[str, Site], database: Database) -> None:
    port = str(free_port())
    environment = database.environment | {"HEALTH_PORT": port}
    stuck = sites["threads"].processes()
    with Program(f"{ROOT}/manage.py", "health", "serve", environment=environment) as program:
        program.wait_for("health.serving")
        for pid in stuck:
            os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(OSError, match="timed out"):
                sites["threads"].probe("live", timeout=0.5)
            probe = Site(int(port), program).probe
            answers = [probe(name) for _ in range(50) for name in ("live", "ready")]
        finally:
            for pid in stuck:
                os.kill(pid, signal.SIGCONT)
    assert {answer.status for answer in answers} == {200}
    assert sorted(answer.seconds for answer in answers)[98] < 0.5
