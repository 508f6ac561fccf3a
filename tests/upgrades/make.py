"""Make the dump of a release: ``python -m tests.upgrades.make NAME COMMIT`` from the project's directory.

The release is unpacked, gets an environment of its own with its own requirements, migrates an empty database of a
throw-away server and fills it by its own code (`fill`). Beside the dump lies what it holds.
"""

from __future__ import annotations

import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from config.embedded_postgres import SUPERUSER
from tests.live import PASSWORD, Database, own_database

HERE = Path(__file__).parent
WORKED = 10.0  # seconds that the release's worker has for mails, seals and history
# Keys of nobody: with them the dumps' seals verify, and what is encrypted in them can be read.
KEYS = {"SECRET_KEY": "of-the-dumps-in-tests-upgrades-and-of-nothing-else-in-the-world"}
_TABLES = """
SELECT relname FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.upgrades.make", description=__doc__)
    parser.add_argument("name", help="of the release, like issue-7")
    parser.add_argument("commit", help="a commit or tag")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="gatehouse-release-") as directory,
        own_database(migrated=False) as database,
    ):
        release = Path(directory) / "release"
        release.mkdir()
        archive = subprocess.run(["git", "archive", options.commit], check=True, capture_output=True).stdout
        subprocess.run(["tar", "x", "-C", release], check=True, input=archive)
        _fill(release, _python(Path(directory) / "environment", release), database)
        _write(options.name, options.commit, database)


def _python(environment: Path, release: Path) -> Path:
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin/python"
    pip: list[str | Path] = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "-r",
        release / "requirements.txt",
    ]
    subprocess.run(pip, check=True)
    return python


def _fill(release: Path, python: Path, database: Database) -> None:
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment |= {**database.environment, **KEYS, "PASSWORD": PASSWORD, "ENVIRONMENT": "development"}
    environment |= {"BCRYPT_ROUNDS": "4", "PASSWORD_HISTORY": "3", "DJANGO_SETTINGS_MODULE": "config.settings"}
    environment |= {"PYTHONPATH": str(release), "DEBUG": "on", "LOG_LEVEL": "warning"}

    def run(*arguments: str | Path) -> None:
        subprocess.run([python, *arguments], check=True, cwd=release, env=environment)

    run("manage.py", "migrate", "--verbosity=0")
    run(HERE / "fill.py")
    worker = subprocess.Popen([python, "manage.py", "worker"], cwd=release, env=environment)
    time.sleep(WORKED)
    worker.terminate()
    worker.wait(60)


def _write(name: str, commit: str, database: Database) -> None:
    program, socket = database.cluster.binaries / "pg_dump", str(database.cluster.socket_directory())
    # As text: in pg_dump's own format the many weeks of the trail would take ten times the space.
    dump: list[str | Path] = [program, "--format=plain", "--host", socket, "--username", SUPERUSER, database.name]
    text = subprocess.run(dump, check=True, capture_output=True).stdout
    (HERE / f"{name}.sql.xz").write_bytes(lzma.compress(text, preset=9))
    facts: dict[str, Any] = {"commit": commit, "rows": rows_of(database)}
    (HERE / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")


def rows_of(database: Database) -> dict[str, int]:
    """Count the rows of every table."""
    tables = [table for (table,) in database.rows(_TABLES)]
    return {table: database.value(f"SELECT count(*) FROM {table}") for table in tables}  # noqa: S608


if __name__ == "__main__":
    main()
