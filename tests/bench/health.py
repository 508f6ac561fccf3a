"""What a probe costs the machine, the database's part included, against the barest view that Django has."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from time import monotonic

from tests.bench.figures import Figure
from tests.live import (
    ROOT,
    Browser,
    Database,
    Program,
    descendants,
    free_port,
    processor_time,
    wait_until,
)

ROUNDS = 5
SECONDS = 2.0  # of one round
CLIENTS = 4
ENDS = {"live": "/health/live", "ready": "/health/ready", "json": "/json", "select": "/select"}


@dataclass(frozen=True)
class Site:
    """One gunicorn process with threads, and the database behind it."""

    port: int
    program: Program
    database: Database

    def cost(self, path: str) -> tuple[float, float]:
        """Return the processor seconds per answer, and the answers per second, under as much load as it takes."""
        before, began = self._spent(), monotonic()
        command = [sys.executable, "-m", "tests.bench.load", str(self.port), path, str(CLIENTS), str(SECONDS)]
        answered = int(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout)
        return (self._spent() - before) / answered, answered / (monotonic() - began)

    def _spent(self) -> float:
        server = self.database.cluster.status().pid
        assert server is not None
        roots = (self.program.pid, server)
        spent = 0.0
        for pid in [pid for root in roots for pid in (root, *descendants(root))]:
            with contextlib.suppress(OSError):  # autovacuum comes and goes
                spent += processor_time(pid)
        return spent


@contextlib.contextmanager
def _site(application: str, gunicorn: str, settings: str, path: str, database: Database) -> Iterator[Site]:
    port = free_port()
    command = ["-m", "gunicorn", "--config", f"python:{gunicorn}", "--max-requests", "0", application]
    environment = {"BIND": "127.0.0.1", "PORT": str(port), "WEB_PROCESSES": "1", "DJANGO_SETTINGS_MODULE": settings}
    environment |= database.environment
    with Program(*command, environment=environment) as program:
        wait_until(lambda: program.process.poll() is not None or _is_up(port, path), "the site answers")
        assert program.process.poll() is None, program.says()
        yield Site(port, program, database)


def _is_up(port: int, path: str) -> bool:
    with contextlib.suppress(OSError):
        return Browser(port, timeout=5).get(path).status == 200
    return False


def probes(database: Database) -> list[Figure]:
    ours = ("config.wsgi:application", "config.gunicorn", "config.settings", ENDS["ready"])
    bare = ("tests.bench.bare:application", "tests.bench.bare_gunicorn", "tests.bench.bare_settings", ENDS["select"])
    with _site(*ours, database) as site, _site(*bare, database) as yardstick:
        places = {"live": site, "ready": site, "json": yardstick, "select": yardstick}
        for name, place in places.items():
            place.cost(ENDS[name])  # opens connections, fills caches
        rounds = [{name: place.cost(ENDS[name]) for name, place in places.items()} for _ in range(ROUNDS)]
        questions = _questions(site)
    live = median(each["live"][0] / each["json"][0] for each in rounds)
    ready = median(each["ready"][0] / each["select"][0] for each in rounds)
    speed = median(each["ready"][1] / each["json"][1] for each in rounds)
    return [
        *(Figure(f"{name}, processor time", median(each[name][0] for each in rounds) * 1e6, "µs", 0) for name in ENDS),
        Figure("liveness to a bare JSON view", live, at_most=0.60),
        Figure("readiness to a bare view with SELECT 1", ready, at_most=0.30),
        Figure("readiness to a bare JSON view, answers a second", speed, at_least=1.0),
        Figure("questions a second of a process under load", questions, "1/s", at_most=1.0),
    ]


def _questions(site: Site) -> float:
    """How often the process asks the database under full load, by the log of the server."""
    for setting in ("log_line_prefix = '%a|'", "log_statement = 'all'"):
        site.database.rows(f"ALTER SYSTEM SET {setting}")
    site.database.rows("SELECT pg_reload_conf()")
    log = site.database.cluster.status().data_directory.parent / "server.log"
    site.cost(ENDS["ready"])
    before, began = _asked(log.read_text()), monotonic()
    for _ in range(3):
        site.cost(ENDS["ready"])
    # The first one may have been due since before.
    return (_asked(log.read_text()) - before - 1) / (monotonic() - began)


def _asked(log: str) -> int:
    return log.count("gatehouse-health|LOG:  statement:")
