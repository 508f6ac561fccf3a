"""``manage.py database`` on real servers: the suite's own, and scratch databases on it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from config.database import embedded
from config.embedded_postgres import OWNER_ROLE, PORT, RUNTIME_ROLE, SUPERUSER

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(not embedded.is_embedded(), reason="makes databases on the suite's own server")


def execute(statement: str, database: str = "postgres", role: str = SUPERUSER) -> list[tuple[object, ...]]:
    connection = psycopg2.connect(host=embedded.socket_directory(), port=PORT, user=role, dbname=database)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def address(role: str, database: str) -> str:
    return f"postgresql://{role}@/{database}?host={embedded.socket_directory()}&port={PORT}"


class Manage:
    """Runs ``manage.py`` against a database of its own, as a configured server with two roles."""

    def __init__(self, database: str) -> None:
        self.database = database

    def __call__(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        addresses = {
            "DATABASE_URL": address(RUNTIME_ROLE, self.database),
            "DATABASE_DIRECT_URL": address(OWNER_ROLE, self.database),
        }
        return subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env={**os.environ, **addresses, **environment},
            input=stdin,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def manage() -> Iterator[Manage]:
    name = f"scratch_{secrets.token_hex(4)}"
    execute(f"CREATE DATABASE {name} OWNER {OWNER_ROLE}")
    yield Manage(name)
    execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def migrated() -> Iterator[Manage]:
    name = f"scratch_{secrets.token_hex(4)}"
    execute(f"CREATE DATABASE {name} OWNER {OWNER_ROLE}")
    manage = Manage(name)
    assert manage("database", "upgrade").returncode == 0
    yield manage
    execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_upgrade_reports_each_step_and_is_safe_to_run_again(manage: Manage) -> None:
    first = manage("database", "upgrade")
    assert "Applying accounts.0001_create_users... OK" in first.stdout
    assert "Applying accounts.0002_guard_users_by_triggers... OK" in first.stdout
    assert "No migrations to apply" in manage("database", "upgrade").stdout
    assert json.loads(manage("database", "upgrade", "--json").stdout) == {"applied": []}


def test_two_hosts_may_upgrade_at_once(manage: Manage) -> None:
    hosts = [
        subprocess.Popen(
            [sys.executable, "manage.py", "database", "upgrade"],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": address(OWNER_ROLE, manage.database)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [host.communicate(timeout=120)[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0, 0], outputs
    assert sorted("Applying accounts.0001" in output for output in outputs) == [False, True]


def test_status_tells_a_program_what_is_there(migrated: Manage) -> None:
    facts = json.loads(migrated("database", "status", "--json").stdout)
    assert facts["running"] is True
    assert facts["server"] == "configured"
    assert facts["database"] == migrated.database
    assert facts["role"] == RUNTIME_ROLE
    assert facts["two_roles"] is True
    assert facts["migrations_missing"] == 0


def test_status_counts_missing_migrations_on_an_empty_database(manage: Manage) -> None:
    assert json.loads(manage("database", "status", "--json").stdout)["migrations_missing"] > 20


def test_a_server_that_is_down_is_said_and_never_replaced_by_the_embedded_one(tmp_path: Path) -> None:
    nowhere = {"DATABASE_URL": "postgresql://somebody@127.0.0.1:1/nothing", "DATABASE_DIRECT_URL": ""}
    status = Manage("nothing")("database", "status", "--json", **nowhere)
    assert status.returncode == 1
    assert json.loads(status.stdout)["running"] is False
    upgrade = Manage("nothing")("database", "upgrade", **nowhere)
    assert upgrade.returncode == 1
    assert upgrade.stderr.startswith("The database does not answer, or refuses: ")
    assert "Traceback" not in upgrade.stderr


def test_verify_finds_nothing_in_a_fresh_schema_and_leaves_no_scratch_database(migrated: Manage) -> None:
    result = migrated("database", "verify")
    assert (result.returncode, result.stdout) == (0, "The schema is what the migrations make.\n")
    assert (f"{migrated.database}_verify",) not in execute("SELECT datname::text FROM pg_database")


DAMAGES = [
    (
        "ALTER TABLE accounts_user DROP CONSTRAINT accounts_user_email_not_stale",
        "missing",
        "constraint accounts_user_email",
    ),
    ("DROP INDEX accounts_user_email", "missing", "index CREATE UNIQUE INDEX accounts_user_email"),
    ("ALTER TABLE accounts_user ADD COLUMN shoe_size int", "unexpected", "column accounts_user.shoe_size integer"),
    ("ALTER TABLE accounts_user ALTER COLUMN bio DROP NOT NULL", "unexpected", "column accounts_user.bio text"),
    ("DROP TRIGGER accounts_touch_user ON accounts_user", "missing", "trigger CREATE TRIGGER accounts_touch_user"),
    ("ALTER TABLE accounts_user DISABLE TRIGGER auditlog_on_delete", "unexpected", "(disabled)"),
    (
        "DROP TRIGGER auditlog_append_only_truncate ON auditlog_record_default",
        "missing",
        "trigger of every partition of auditlog_record: CREATE TRIGGER auditlog_append_only_truncate",
    ),
    ("CREATE TABLE stray (id int)", "unexpected", "column stray.id integer"),
    ("CREATE VIEW stray_view AS SELECT 1", "unexpected", "view stray_view"),
    ("CREATE POLICY stray ON accounts_user USING (true)", "unexpected", "policy stray on accounts_user for *"),
    ("ALTER TABLE accounts_user ENABLE ROW LEVEL SECURITY", "unexpected", "row security on accounts_user"),
    ("CREATE FUNCTION stray() RETURNS int LANGUAGE sql AS 'SELECT 1'", "unexpected", "function stray()"),
]


def test_verify_names_what_differs(manage: Manage) -> None:
    assert manage("migrate", "-v0").returncode == 0
    for damage, _kind, _named in DAMAGES:
        execute(damage, manage.database)
    result = manage("database", "verify", "--json")
    assert result.returncode == 1
    differences = json.loads(result.stdout)
    unnamed = [damage for damage, kind, named in DAMAGES if not any(named in line for line in differences[kind])]
    assert unnamed == []
    lines = manage("database", "verify").stdout.splitlines()
    assert lines == [f"{kind:<10}  {line}" for kind in ("missing", "unexpected") for line in differences[kind]]
    # The constraint, the index, the column of its old kind, and three triggers; nothing else is missed.
    assert len(differences["missing"]) == 6


def test_reset_refuses_a_server_that_is_not_ours_and_asks_for_the_name(migrated: Manage) -> None:
    refused = migrated("database", "reset", "--yes")
    assert refused.returncode == 1
    assert "did not start" in refused.stderr
    asked = migrated("database", "reset", "--force", stdin="no\n")
    assert asked.returncode == 1
    assert "Nothing was changed" in asked.stderr
    assert json.loads(migrated("database", "status", "--json").stdout)["migrations_missing"] == 0


def test_a_forced_reset_empties_the_database(manage: Manage) -> None:
    manage("migrate", "-v0")
    execute("CREATE TABLE stray (id int)", manage.database, OWNER_ROLE)
    assert manage("database", "reset", "--force", stdin=f"{manage.database}\n").returncode == 0
    assert execute("SELECT to_regclass('stray')", manage.database) == [(None,)]
    assert json.loads(manage("database", "status", "--json").stdout)["migrations_missing"] == 0


def test_init_prepares_an_empty_database(manage: Manage) -> None:
    result = manage("database", "init")
    assert result.returncode == 0
    assert result.stdout.endswith("The schema is what the migrations make.\n")


def test_shell_runs_psql_of_our_own_server_as_either_role(tmp_path: Path) -> None:
    for options, role in ((["--owner"], OWNER_ROLE), ([], RUNTIME_ROLE)):
        shell = subprocess.run(
            [sys.executable, "manage.py", "database", "shell", *options],
            cwd=ROOT,
            env=dict(os.environ),
            input="SELECT current_user;",
            capture_output=True,
            text=True,
        )
        assert role in shell.stdout


def test_production_refuses_a_server_that_can_lose_acknowledged_commits(manage: Manage) -> None:
    production = {
        "ENVIRONMENT": "production",
        "BASE_URL": "https://gatehouse.example",
        "EMAIL_URL": "smtp://localhost",
        "BCRYPT_ROUNDS": "12",
        "TRUSTED_PROXIES": "1",
    }
    refused = manage("migrate", "-v0", **production)
    assert refused.returncode == 1
    assert "synchronous_commit=off" in refused.stderr
    assert manage("migrate", "-v0").returncode == 0
