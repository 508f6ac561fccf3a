"""Operations with real workers: killed in the middle, beside mails, over HTTP, with somebody in the way."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

import psycopg2
import pytest

from config.scratch import Program
from tests.live import Answer, Database, Site, manage, own_database, running_site, wait_until

TOKEN = "an-operators-token"
PLAN = "/health/database/migrations"
OPTIMIZE = "/health/database/optimize"
CLEANUP = "/health/cleanup"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


@pytest.fixture(scope="module")
def environment(database: Database) -> dict[str, str]:
    return database.environment | {"HEALTH_OPERATOR_TOKEN_DIGESTS": sha256(TOKEN.encode()).hexdigest()}


@pytest.fixture(scope="module")
def site(environment: dict[str, str]) -> Iterator[Site]:
    with running_site(environment, processes=1) as running:
        yield running


def ask(site: Site, method: str, path: str, **arguments: str) -> Answer:
    body = json.dumps(arguments) if arguments else None
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    return site.browser().request(method, path, body, headers)


def start(site: Site, path: str, **arguments: str) -> str:
    """Ask for an operation; returns where to look.

    While a worker starts on a busy machine the database may not answer within the second of a health page. That is a
    503, which tells whoever asked to come again.
    """
    answers: list[Answer] = []

    def is_heard() -> bool:
        answers.append(ask(site, "POST", path, **arguments))
        return answers[-1].status != 503

    wait_until(is_heard, "the site hears what it is asked for")
    assert answers[-1].status == 202, answers[-1].body
    return answers[-1].location


def facts(site: Site, place: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(site, "GET", place).body)
    return found


def ended(site: Site, place: str) -> dict[str, Any]:
    wait_until(lambda: facts(site, place)["state"] in ("done", "failed"), "the operation ends")
    return facts(site, place)


@contextlib.contextmanager
def worker(environment: dict[str, str]) -> Iterator[Program]:
    with Program("manage.py", "worker", "--interval=0.1", environment=environment) as running:
        yield running


@contextlib.contextmanager
def somebody_else(database: Database) -> Iterator[Any]:
    """A session in whose transaction something stands in the way."""
    other = psycopg2.connect(host=str(database.cluster.socket_directory()), dbname=database.name, user="postgres")
    with contextlib.closing(other):
        yield other


def test_optimize_leaves_what_is_locked_and_builds_broken_indexes_anew(
    site: Site, database: Database, environment: dict[str, str]
) -> None:
    broken = "healthcheck_incident_began"
    database.rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", broken)
    with somebody_else(database) as other, worker(environment):
        other.cursor().execute("LOCK TABLE django_session")
        run = ended(site, start(site, OPTIMIZE))
    assert (run["state"], run["result"]["locked"], run["result"]["failed"]) == ("done", ["django_session"], [])
    assert run["result"]["indexes"] == [broken]
    assert database.value("SELECT indisvalid FROM pg_index WHERE indexrelid = %s::regclass", broken)
    assert database.value("SELECT vacuum_count FROM pg_stat_user_tables WHERE relname = 'accounts_user'") == 1


def test_migrations_are_planned_read_and_applied_over_http(
    site: Site, database: Database, environment: dict[str, str]
) -> None:
    applied = "SELECT name FROM django_migrations WHERE app = 'accounts' ORDER BY name DESC"
    (newest,), (before,), *_rest = database.rows(applied)
    assert manage("migrate", "accounts", before, environment=environment).returncode == 0
    wait_until(lambda: site.probe("ready").status == 503, "the site knows")
    plan = json.loads(ask(site, "GET", PLAN).body)
    assert [step["migration"] for step in plan["steps"]] == [f"accounts.{newest}"]
    with worker(environment):
        run = ended(site, start(site, PLAN, plan=plan["plan"]))
    assert (run["state"], run["result"]) == ("done", {"applied": [f"accounts.{newest}"]})
    wait_until(lambda: site.probe("ready").status == 200, "the site is ready")


def test_mails_go_out_while_an_operation_runs_and_a_killed_worker_leaves_a_failed_run(
    site: Site, database: Database, environment: dict[str, str]
) -> None:
    broken = "healthcheck_run_asked"
    database.rows("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", broken)
    with somebody_else(database) as other, worker(environment) as first:
        # An index that is built anew waits for those who may still read as it was before.
        other.cursor().execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM accounts_user")
        place = start(site, OPTIMIZE)
        wait_until(lambda: facts(site, place).get("progress", {}).get("now") == broken, "it has come to the index")
        manage("create_user", "ada", "ada@example.com", environment=environment)
        mails = "SELECT status FROM django_tasks_database_dbtaskresult WHERE task_path LIKE '%send_mail_to_user'"
        wait_until(lambda: database.rows(mails) == [("SUCCESSFUL",)], "the mail goes out")
        assert facts(site, place)["state"] == "running"
        first.process.kill()
        first.process.wait()
        run = ended(site, place)
    assert (run["state"], run["code"]) == ("failed", "interrupted")
