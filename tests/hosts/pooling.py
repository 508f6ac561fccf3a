"""The documented PgBouncer in front of a database of the test's own."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from config.embedded_postgres import OWNER_ROLE, PORT, RUNTIME_ROLE
from tests.hosts.files import EXAMPLES
from tests.live import ROOT, Database, Standby, free_port, is_alive, wait_until

_TIMEOUT = f"ALTER ROLE {RUNTIME_ROLE} SET "
_ADMIN = "pgbouncer"


@dataclass
class Pooler:
    """A running PgBouncer; `environment` leads a process of ours through it, and its owner past it."""

    database: Database
    standby: Standby
    place: Path
    program: str
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    _processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        directly = f"/{self.database.name}?host={self.database.cluster.socket_directory()}"
        through = f"postgresql://{RUNTIME_ROLE}:{self.password}@127.0.0.1:{self.port}"
        return {
            "DATABASE_URL": f"{through}/gatehouse",
            "DATABASE_REPLICA_URLS": f"{through}/gatehouse_standby",
            "DATABASE_DIRECT_URL": f"postgresql://{OWNER_ROLE}@{directly}",
            "DATABASE_POOLER": "transaction",
        }

    def start(self, *options: str) -> None:
        """Start it; with the option ``-R`` in the place of the one that runs, whose connections it takes over."""
        account = self.database.cluster._account
        user: dict[str, Any] = {}
        if os.geteuid() != account.uid:  # it refuses root, as PostgreSQL does
            user = {"user": account.uid, "group": account.gid, "extra_groups": []}
        command = [self.program, *options, str(self.place / "pgbouncer.ini")]
        with (self.place / "said").open("ab") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said, cwd=self.place, **user)
        self._processes.append(process)
        wait_until(lambda: process.poll() is not None or self._is_up(), "PgBouncer answers", seconds=20)
        assert process.poll() is None, (self.place / "said").read_text()

    def _is_up(self) -> bool:
        with contextlib.suppress(psycopg2.OperationalError):
            return bool(self.ask("SHOW VERSION"))
        return False

    def take_over(self) -> None:
        """Restart it without losing a connection."""
        before = self._processes[-1]
        self.start("-R")
        wait_until(lambda: not is_alive(before.pid), "the former one is gone", seconds=20)
        before.wait(5)

    def ask(self, command: str) -> list[dict[str, Any]]:
        """Say something to its console; the rows of the answer."""
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, dbname="pgbouncer", user=_ADMIN, password=self.password, connect_timeout=5
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(command)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
        finally:
            connection.close()

    def stop(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait(20)


@contextlib.contextmanager
def pooled(database: Database, standby: Standby) -> Iterator[Pooler]:
    """Run PgBouncer as documented in front of both, with the documented timeouts on the role."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("no pgbouncer on this machine")
    for statement in documented_timeouts():
        database.rows(statement)
    account = database.cluster._account
    place = account.temporary_directory()
    pooler = Pooler(database, standby, place, program)
    logins = "".join(f'"{name}" "{pooler.password}"\n' for name in (RUNTIME_ROLE, _ADMIN))
    account.write(place / "userlist.txt", logins)
    account.write(place / "pgbouncer.ini", as_shipped(pooler))
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.stop()
        shutil.rmtree(place)


def as_shipped(pooler: Pooler) -> str:
    """The documented configuration with this machine's places."""
    text, place = (EXAMPLES / "pgbouncer.ini").read_text(), pooler.place
    servers = [
        f"host={database.cluster.socket_directory()} port={PORT} dbname={database.name}\n"
        for database in (pooler.database, pooler.standby)
    ]
    for shipped, here in (
        ("host=primary port=5432 dbname=gatehouse\n", servers[0]),
        ("host=standby port=5432 dbname=gatehouse\n", servers[1]),
        ("listen_addr = *", "listen_addr = 127.0.0.1"),
        ("listen_port = 6432", f"listen_port = {pooler.port}"),
        ("unix_socket_dir = /run/postgresql", f"unix_socket_dir = {place}"),
        ("/etc/pgbouncer/userlist.txt", str(place / "userlist.txt")),
    ):
        assert text.count(shipped) == 1, shipped
        text = text.replace(shipped, here)
    return text


def documented_timeouts() -> list[str]:
    """The statements that put the timeouts on the role: a pooler cannot pass them on."""
    files = (ROOT / "docs" / "operations.md", EXAMPLES / "primary.sh")
    manual, script = ([line for line in file.read_text().splitlines() if line.startswith(_TIMEOUT)] for file in files)
    assert manual == script
    assert len(manual) == 3
    return manual
