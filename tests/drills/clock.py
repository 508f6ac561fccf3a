"""A clock that jumps, for PostgreSQL and for processes of ours: Debian's libfaketime, told by a file what to add."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from config.embedded_postgres import _name
from tests.live import Database, wait_until

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
# libfaketime computes the end of Python's sleep wrongly where it leaves the monotonic clock alone.
_SLEEP = "import select, time\ntime.sleep = lambda seconds: select.select([], [], [], seconds)\n"


@dataclass(frozen=True)
class Clock:
    """`environment` puts a process under it; only the clock on the wall jumps, not the monotonic one."""

    directory: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "PYTHONPATH": str(self.directory),
        }

    def jump(self, hours: int) -> None:
        """Be so many hours ahead of the true time; processes see it within two seconds."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{hours:+d}h")
        new.chmod(0o644)
        new.replace(self._file)

    def restart(self, database: Database) -> None:
        """Kill the server and start it under this clock."""
        database.kill()
        cluster = database.cluster
        under = ["env", *(f"{name}={value}" for name, value in self.environment.items())]
        options = ["-D", "data", "-l", "server.log", "-w", "-o", f"-c cluster_name={_name(cluster._home)}"]
        start: list[str | Path] = [*under, cluster.binaries / "pg_ctl", "start", *options]
        # Not before the last processes of the killed one have ended.
        wait_until(lambda: not cluster._account.run(*start, cwd=cluster._home).returncode, "the server starts")

    @property
    def _file(self) -> Path:
        return self.directory / "ahead"


@contextmanager
def new_clock() -> Iterator[Clock]:
    with TemporaryDirectory(prefix="gatehouse-clock-") as made:
        directory = Path(made)
        directory.chmod(0o755)  # the server runs under another account
        (directory / "sitecustomize.py").write_text(_SLEEP)
        clock = Clock(directory)
        clock.jump(0)
        yield clock
