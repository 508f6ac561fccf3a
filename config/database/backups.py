"""Backups: one file that `pg_dump` wrote, and beside it a manifest that says what must come out of it again.

A backup is made, proven and restored with PostgreSQL's own programs. The manifest counts the rows of every table in
the very snapshot that is dumped, so that what a restore brings back can be compared row for row; the audit trail
proves itself by its seals. Sessions are left out: whoever was signed in signs in again after a restore.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

import auditlog
from auditlog import verifying
from auditlog.models import Seal
from config.database import programs
from config.database.operations import scratch_database
from config.database.programs import ProgramError
from config.database.roles import as_owner, grant_runtime_rights, owner_connection
from config.progress import Tell, silent

FORMAT = 1  # of the manifest
_LOCK_WAIT = "60s"
_PIECE = 1 << 20  # bytes
_ABANDONED_AFTER = 86_400.0  # seconds since anything was written to it
_DUMPING = re.compile(r"dumping contents of table|processing data for table")
_TABLES = """
SELECT format('%I.%I', nspname, relname), relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = 'public' AND relkind IN ('r', 'p') AND NOT relispartition ORDER BY relname
"""
_PIECES = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
_SEALS = "SELECT count(*), coalesce(encode((array_agg(digest ORDER BY id DESC))[1], 'hex'), '') FROM auditlog_seal"


class BackupError(Exception):
    """A backup cannot be made, found, believed or restored; the message says why, and what to do next."""


@dataclass(frozen=True)
class Manifest:
    """What a backup holds; `rows` are counted in the snapshot that was dumped, `sha256` and `bytes` are the file's."""

    made_at: str  # ISO 8601, UTC
    database: str
    server: int  # the major version, as are the next
    program: int
    migrations: list[str]
    rows: dict[str, int]
    seals: int
    newest_seal: str
    bytes: int
    sha256: str
    format: int = FORMAT


@dataclass(frozen=True)
class Backup:
    """A file of `pg_dump` in its own compressed format, with its manifest beside it."""

    path: Path
    manifest: Manifest

    @property
    def facts(self) -> dict[str, Any]:
        return {"file": str(self.path), **asdict(self.manifest)}


@dataclass(frozen=True)
class Proof:
    """What came out of a backup: each table that differs with the rows (wanted, found), and what the seals say."""

    rows: int
    differing: dict[str, tuple[int, int]]
    trail: verifying.Report

    @property
    def ok(self) -> bool:
        return not self.differing and self.trail.ok

    @property
    def facts(self) -> dict[str, Any]:
        return {"ok": self.ok, "rows": self.rows, "differing": self.differing, "trail": self.trail.facts()}

    def lines(self) -> Iterator[str]:
        """What a person reads: the verdict on rows and seals, with all that is wrong."""
        if not self.differing:
            yield f"{self.rows:,} rows, as many in every table as were backed up."
        for table, (wanted, found) in self.differing.items():
            yield f"{table}: {found:,} rows, but {wanted:,} were backed up."
        trail = self.trail
        if trail.ok:
            sealed = f"{trail.seals:,} seals over {trail.records:,} records"
            yield f"The audit trail verifies: {sealed}, {trail.unsealed:,} not sealed yet."
        yield from (f"The audit trail is broken: {finding}." for finding in trail.findings)


# Making


def make(directory: Path, *, tell: Tell = silent) -> Backup:
    """Write a backup of the whole database into `directory`, readable by its owner alone.

    Raises BackupError, and leaves nothing behind; so does an interruption. The site runs on meanwhile.
    """
    now = datetime.now(UTC)
    with owner_connection() as owner, _failures_said():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = owner.settings_dict["NAME"]
        path = directory / f"{name}-{now:%Y%m%dT%H%M%SZ}.dump"
        unfinished = path.with_suffix(".part")
        os.close(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            with _snapshot(owner) as snapshot:
                facts = _facts(owner, tell)
                program = programs.find("pg_dump", at_least=facts["server"])
                _dump(program, unfinished, snapshot, owner, tell)
            facts |= {"bytes": unfinished.stat().st_size, "sha256": _digest(unfinished, tell)}
            manifest = Manifest(made_at=now.isoformat(), database=name, program=programs.major_of(program), **facts)
            # Before the file, which is a backup as soon as it has its name.
            _write(path.with_suffix(".json"), json.dumps(asdict(manifest), indent=2) + "\n")
            unfinished.rename(path)
            _sync(directory)
        finally:
            unfinished.unlink(missing_ok=True)
    return Backup(path, manifest)


@contextmanager
def _snapshot(owner: BaseDatabaseWrapper) -> Iterator[str]:
    """What is committed now, for this connection and, by its name, for a program."""
    with owner.cursor() as cursor:
        cursor.execute(
            "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;"
            "SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0;"
            "SELECT pg_export_snapshot()"
        )
        (name,) = cursor.fetchone()
        yield name
        cursor.execute("ROLLBACK")


def _facts(owner: BaseDatabaseWrapper, tell: Tell) -> dict[str, Any]:
    with owner.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int / 10000")
        (server,) = cursor.fetchone()
        cursor.execute(_SEALS)
        seals, newest = cursor.fetchone()
    return {
        "server": server,
        "migrations": sorted(f"{app}.{name}" for app, name in MigrationRecorder(owner).applied_migrations()),
        "rows": _count(owner, tell),
        "seals": seals,
        "newest_seal": newest,
    }


def _count(owner: BaseDatabaseWrapper, tell: Tell) -> dict[str, int]:
    """The rows of every table whose rows are kept."""
    left_out = _left_out()
    found = {}
    with owner.cursor() as cursor:
        cursor.execute(_TABLES)
        tables = [(quoted, name) for quoted, name in cursor.fetchall() if name not in left_out]
        for number, (quoted, name) in enumerate(tables):
            tell("counting", number, len(tables))
            cursor.execute(f"SELECT count(*) FROM {quoted}")  # noqa: S608 - quoted by the server
            (found[name],) = cursor.fetchone()
    return found


def _left_out() -> list[str]:
    """Tables whose rows no backup holds, by an attribute of their app's configuration."""
    return [table for app in apps.get_app_configs() for table in getattr(app, "not_backed_up", ())]


def _dump(program: Path, path: Path, snapshot: str, owner: BaseDatabaseWrapper, tell: Tell) -> None:
    left_out = [f"--exclude-table-data=public.{table}" for table in _left_out()]
    with owner_connection() as other:  # the first one is in a transaction that has to stay
        with other.cursor() as cursor:
            cursor.execute(_PIECES)
            (pieces,) = cursor.fetchone()
        options = ("--format=custom", "--verbose", f"--snapshot={snapshot}", f"--lock-wait-timeout={_LOCK_WAIT}")
        programs.run(
            program, *options, *left_out, f"--file={path}", connection=other, tell=_counted(tell, "dumping", pieces)
        )


def _counted(tell: Tell, what: str, of: int) -> Callable[[str], None]:
    """For the lines of a program, each of which about a table's rows is a step."""
    done = 0

    def hear(line: str) -> None:
        nonlocal done
        if _DUMPING.search(line):
            done += 1
            tell(what, min(done, of), of)

    return hear


# Finding


def every(directory: Path) -> list[Backup]:
    """The backups in `directory`, the newest first; what has no manifest is none."""
    found = []
    for path in directory.glob("*.dump"):
        try:
            found.append(read(path))
        except BackupError:
            continue
    return sorted(found, key=lambda backup: backup.manifest.made_at, reverse=True)


def read(path: Path) -> Backup:
    """The backup in the file `path`. Raises BackupError."""
    try:
        facts: Any = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        manifest = Manifest(**facts)
    except FileNotFoundError:
        raise BackupError(f"{path} has no manifest ({path.stem}.json) beside it; copy both files together.") from None
    except (OSError, ValueError, TypeError) as error:
        raise BackupError(f"The manifest of {path} cannot be read; use another backup.") from error
    if manifest.format != FORMAT:
        raise BackupError(f"{path} was made by another version of Gatehouse; restore it with that one.")
    return Backup(path, manifest)


def remove_old(directory: Path, *, keep: int) -> list[Backup]:
    """Remove all but the newest `keep` backups of each database, and return them; what killed ones left goes too."""
    removed, kept = [], dict[str, int]()
    for left in directory.glob("*.part"):
        if time.time() - left.stat().st_mtime > _ABANDONED_AFTER:
            left.unlink(missing_ok=True)
    for backup in every(directory):
        database = backup.manifest.database
        kept[database] = kept.get(database, 0) + 1
        if kept[database] > keep:
            backup.path.unlink()
            backup.path.with_suffix(".json").unlink()
            removed.append(backup)
    return removed


def check(backup: Backup, *, tell: Tell = silent) -> None:
    """Raises BackupError unless the file is, byte for byte, the one that was written."""
    path, manifest = backup.path, backup.manifest
    try:
        is_whole = path.stat().st_size == manifest.bytes and _digest(path, tell) == manifest.sha256
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}.") from error
    if not is_whole:
        raise BackupError(f"{path} is not what was written: its checksum differs. Use another backup.")


# Restoring


def prove(backup: Backup, *, tell: Tell = silent) -> Proof:
    """Restore it into a scratch database of the same server, look at what came out, and drop that again.

    Raises BackupError when it cannot be restored at all.
    """
    check(backup, tell=tell)
    with _failures_said(), as_owner(), scratch_database("proof"):
        _load(backup, tell)
        return _proof(backup, tell)


def restore(backup: Backup, *, tell: Tell = silent) -> Proof:
    """Bring the empty database that is configured to what the backup holds: all of it, or nothing.

    Raises BackupError when it is not empty, or the backup is broken or newer than this code.
    """
    check(backup, tell=tell)
    with _failures_said(), as_owner():
        with connection.cursor() as cursor:
            cursor.execute(_TABLES)
            if cursor.fetchone():
                raise BackupError(
                    f"“{connection.settings_dict['NAME']}” is not empty, and a restore replaces nothing. Make an empty "
                    "database and name it in DATABASE_URL and DATABASE_DIRECT_URL, or, for the embedded server, stop "
                    "Gatehouse and move .postgres away."
                )
        _load(backup, tell)
        grant_runtime_rights(DEFAULT_DB_ALIAS)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        proof = _proof(backup, tell)
        about = {"made_at": backup.manifest.made_at, "sha256": backup.manifest.sha256, "rows": proof.rows}
        auditlog.record("restore_backup", "database", label=backup.path.name, new=about)
    return proof


def _load(backup: Backup, tell: Tell) -> None:
    manifest = backup.manifest
    known = MigrationLoader(None).disk_migrations
    if strange := [each for each in manifest.migrations if tuple(each.split(".", 1)) not in known]:
        raise BackupError(
            f"{backup.path} has the migration {strange[0]}, which this code does not know. Restore it with the code "
            "that made it, or a newer one."
        )
    with owner_connection() as owner:
        owner.settings_dict = owner.settings_dict | {"NAME": connection.settings_dict["NAME"]}
        owner.ensure_connection()
        server = owner.connection.info.server_version // 10_000
        program = programs.find("pg_restore", at_least=max(server, manifest.program))
        options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-acl", "--verbose")
        hear = _counted(tell, "restoring", len(manifest.rows))
        programs.run(program, *options, backup.path, connection=owner, tell=hear)


def _proof(backup: Backup, tell: Tell) -> Proof:
    wanted, found = backup.manifest.rows, _count(connections[DEFAULT_DB_ALIAS], tell)
    tables = wanted.keys() | found.keys()
    differing = {
        table: (wanted.get(table, 0), found.get(table, 0))
        for table in sorted(tables)
        if wanted.get(table, 0) != found.get(table, 0)
    }
    seals = max(1, Seal.objects.count())
    done = 0

    def sealed(records: int) -> None:
        nonlocal done
        done += 1
        tell("verifying", done, seals)

    trail = verifying.verify(expect=backup.manifest.newest_seal, progress=sealed)
    return Proof(sum(found.values()), differing, trail)


# Files


@contextmanager
def _failures_said() -> Iterator[None]:
    try:
        yield
    except ProgramError as error:
        raise BackupError(str(error)) from error
    except OSError as error:
        raise BackupError(f"{error.filename or 'A file'}: {error.strerror}. Correct that, then try again.") from error


def _digest(path: Path, tell: Tell) -> str:
    digest, size, done = hashlib.sha256(), max(1, path.stat().st_size), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
            done += len(piece)
            tell("checking", done, size)
    return digest.hexdigest()


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """Let the new names outlive a crash of the machine."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
