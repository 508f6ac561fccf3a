"""One site for all drills: a durable PostgreSQL on a small disk of its own, gunicorn with two processes, a worker."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.db import connections

from config.embedded_postgres import EmbeddedPostgres
from tests.auditlog.storage.database import used_by_django
from tests.drills import ledger, load
from tests.drills.load import Load
from tests.live import ROOT, Answer, Database, Program, Site, lay_files, running_site, wait_until

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

MEGABYTES = 256
TOKEN = "a-token-of-the-monitoring"
# Little room for the log, so that a full disk is met, and few connections, so that they can all be taken.
SMALL = """
fsync = on
synchronous_commit = on
full_page_writes = on
min_wal_size = '32MB'
max_wal_size = '48MB'
max_connections = 60
"""


@dataclass
class House:
    """What is running. `disk` is where the database's own disk is; None where nobody may mount one."""

    database: Database
    site: Site
    environment: dict[str, str]
    disk: Path | None
    blocker: DjangoDbBlocker
    link: str
    programs: ExitStack
    workers: list[Program] = field(default_factory=list)

    def start_worker(self) -> None:
        self.workers.append(self.programs.enter_context(new_worker(self.environment)))

    @contextmanager
    def drill(self, name: str, site: Site | None = None) -> Iterator[Load]:
        """Load around the block, which does the harm; afterwards nothing is lost, halved or doubled."""
        site = site or self.site
        try:
            with load.under_load(site, self.database, self.link, name) as running:
                yield running
        except AssertionError as error:
            error.add_note("\n".join(line for line in site.program.says().splitlines() if '"error"' in line)[-6000:])
            raise
        self.compare(running)
        assert [program.process.poll() for program in (site.program, *self.workers)] == [None, None]

    def compare(self, running: Load) -> None:
        with self.blocker.unblock(), used_by_django(self.database):
            ledger.compare(self.database, running.notes)
            for connection in connections.all():
                connection.close()

    def health(self) -> tuple[int, dict[str, str]]:
        """The status of the health page, and the code of each check that does not pass."""
        answer = ask(self.site, "/health/")
        checks = json.loads(answer.body).get("checks", [])
        return answer.status, {each["check"]: each["code"] for each in checks if each["status"] != "pass"}


def new_worker(environment: dict[str, str]) -> Program:
    return Program(f"{ROOT}/manage.py", "worker", "--interval=0.2", environment=environment)


def ask(site: Site, path: str) -> Answer:
    return site.browser(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10).get(path)


@pytest.fixture(scope="module")
def house(django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ExitStack() as stack:
        database, disk = stack.enter_context(own_small_database())
        environment = database.environment | {
            "EMAIL_URL": "dummymail://",
            "INVITATIONS_PER_DAY": "100000",
            "INVITATIONS_PER_DAY_OF_SITE": "100000",
            "HEALTH_METRICS_DIRECTORY": str(tmp_path_factory.mktemp("metrics")),
            "HEALTH_DISK_PATHS": str(disk or ROOT),
            "HEALTH_TOKEN_DIGESTS": hashlib.sha256(TOKEN.encode()).hexdigest(),
        }
        with django_db_blocker.unblock(), used_by_django(database):
            link = load.prepare()
        site = stack.enter_context(running_site(environment))
        house = House(database, site, environment, disk, django_db_blocker, link, stack)
        house.start_worker()
        yield house


@contextmanager
def own_small_database() -> Iterator[tuple[Database, Path | None]]:
    """A durable server whose files, log and sockets are on a disk of their own, if we may mount one."""
    cluster = EmbeddedPostgres.throwaway_cluster()
    above = cluster._home.parent
    account = cluster._account
    options = f"size={MEGABYTES}m,mode=0700,uid={account.uid},gid={account.gid}"
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", above], capture_output=True)
    try:
        lay_files(cluster)
        with (cluster._home / "data" / "postgresql.auto.conf").open("a") as settings:
            settings.write(SMALL)
        cluster.ensure_running()
        database = Database(cluster)
        assert database.value("SHOW fsync") == "on"
        yield database, above if mounted.returncode == 0 else None
    finally:
        cluster.stop()
        if mounted.returncode == 0:
            # The server's keeper has files there for another moment.
            wait_until(
                lambda: subprocess.run(["umount", above], capture_output=True).returncode == 0, "it is unmounted"
            )
        shutil.rmtree(above, ignore_errors=True)
