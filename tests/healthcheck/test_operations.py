"""Operations are asked for, done once by a worker, followed, and recorded."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from threading import Barrier
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult
from pytest_django.fixtures import Settings

from accounts.models import Session, User
from auditlog.models import Record
from config.worker import Worker
from healthcheck import operations
from healthcheck.models import Run
from healthcheck.operations import AlreadyOpen, Asker, Failed, Operation, Progress, State, migrating
from healthcheck.operations.maintenance import lock_key, own_session
from healthcheck.operations.migrating import Plan, Step
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "direct"])

TOKEN = "an-operators-token"
ADDRESS = {"optimize": "/health/database/optimize", "migrations": "/health/database/migrations",
           "cleanup": "/health/cleanup"}  # fmt: skip
SOMEBODY = Asker("command", "manage", "root")


def test_telling_progress_keeps_the_session_at_whose_lock_two_hosts_that_migrate_meet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run.objects.create(operation="migrations", state=State.RUNNING, asked_by_kind="command")
    monkeypatch.setitem(connection.settings_dict, "CONN_MAX_AGE", 0)
    connection.close()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")
    operations._progress_of(run)(0, 1, "accounts.0001")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()")
        assert cursor.fetchone() == (1,)
    connection.close()


@pytest.fixture
def operator() -> User:
    user = UserFactory.create(username="operator", is_staff=True)
    user.groups.set(Group.objects.filter(name="Administrator"))
    return user


@pytest.fixture
def page(operator: User) -> Client:
    """The operator's browser."""
    browser = Client()
    browser.force_login(operator, "accounts.backends.IdentityBackend")
    return browser


@pytest.fixture
def program(settings: Settings) -> Client:
    """A program with an operator's token, as strictly looked at as a browser."""
    settings.HEALTH_OPERATOR_TOKEN_DIGESTS = [sha256(TOKEN.encode()).hexdigest()]
    return Client(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {TOKEN}"})


def work() -> None:
    """Let a worker do all that is queued."""
    Worker(once=True).run()


@pytest.fixture
def drill(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """An operation that notes its arguments; it fails as they say."""
    done: list[Mapping[str, Any]] = []

    def run(progress: Progress, arguments: Mapping[str, Any]) -> dict[str, Any]:
        done.append(arguments)
        progress(1, 2, "half")
        if arguments.get("fail") == "foreseen":
            raise Failed("too_wet", {"drops": 7})
        return {"drops": 1 // (not arguments.get("fail"))}

    monkeypatch.setattr(operations, "_operations", {})
    operations.register(Operation(name="drill", label="Drill", permission="healthcheck.run_drill", run=run))
    return done


def last_run() -> Run:
    return Run.objects.latest("asked_at")


# --- what a run goes through


def test_a_run_waits_runs_and_tells_what_it_did(drill: list[Any]) -> None:
    run = operations.start("drill", asked_by=SOMEBODY, arguments={"depth": 3})
    assert (run.state, drill) == (State.QUEUED, [])
    work()
    run.refresh_from_db()
    assert drill == [{"depth": 3}]
    assert (run.state, run.code, run.result) == (State.DONE, "", {"drops": 1})
    assert run.progress == {"done": 1, "of": 2, "now": "half"}
    assert run.began_at is not None
    assert run.ended_at is not None
    assert run.asked_at <= run.began_at <= run.ended_at


@pytest.mark.parametrize(("how", "code", "result"), [("foreseen", "too_wet", {"drops": 7}), ("otherwise", "error", {})])
def test_a_run_that_fails_says_why_and_is_not_tried_again(
    drill: list[Any], how: str, code: str, result: dict[str, Any]
) -> None:
    operations.start("drill", asked_by=SOMEBODY, arguments={"fail": how})
    work()
    run = last_run()
    assert (run.state, run.code, run.result, len(drill)) == (State.FAILED, code, result, 1)
    assert not DBTaskResult.objects.ready().exists()


def test_a_second_one_is_refused_while_the_first_waits_or_runs_and_not_after(drill: list[Any]) -> None:
    first = operations.start("drill", asked_by=SOMEBODY)
    with pytest.raises(AlreadyOpen) as refused:
        operations.start("drill", asked_by=SOMEBODY)
    assert refused.value.run == first
    work()
    assert operations.start("drill", asked_by=SOMEBODY) != first


def test_of_many_who_ask_at_once_one_is_heard(drill: list[Any]) -> None:
    together = Barrier(8)

    def ask(_: int) -> bool:
        try:
            together.wait(10)
            operations.start("drill", asked_by=SOMEBODY)
        except AlreadyOpen:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 1
    assert Run.objects.count() == DBTaskResult.objects.count() == 1


def test_a_job_that_is_handed_out_twice_is_done_once(drill: list[Any]) -> None:
    run = operations.start("drill", asked_by=SOMEBODY)
    operations.carry_out(run.pk)
    operations.carry_out(run.pk)
    assert len(drill) == 1


@pytest.fixture
def running(drill: list[Any]) -> Iterator[Run]:
    """A run that another worker does, as far as can be seen from here."""
    run = operations.start("drill", asked_by=SOMEBODY)
    with own_session() as session, session.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [lock_key("drill")])
        Run.objects.update(state=State.RUNNING, began_at=timezone.now())
        yield run


def test_while_its_worker_lives_a_run_is_left_to_it(running: Run, drill: list[Any]) -> None:
    operations.carry_out(running.pk)
    operations.settle()
    assert (last_run().state, drill) == (State.RUNNING, [])
    with pytest.raises(AlreadyOpen):
        operations.start("drill", asked_by=SOMEBODY)


def test_a_run_whose_worker_died_is_failed_by_the_next_look_and_not_begun_again(drill: list[Any]) -> None:
    run = operations.start("drill", asked_by=SOMEBODY)
    Run.objects.update(state=State.RUNNING, began_at=timezone.now())
    found = operations.find(run.pk)
    assert found is not None
    assert (found.state, found.code) == (State.FAILED, "interrupted")
    assert found.ended_at is not None
    work()  # the job is still there, as one that was handed out again
    assert (last_run().state, drill) == (State.FAILED, [])
    assert [action for action, *_rest in records()] == ["ask_operation", "end_operation"]


def test_two_operations_of_one_name_are_refused(drill: list[Any]) -> None:
    with pytest.raises(ValueError, match="drill"):
        operations.register(operations.operations()["drill"])


# --- who asks, and what is recorded


def records() -> list[tuple[str, str | None, str | None, dict[str, Any] | None]]:
    """Of the last run; the trail is not emptied between tests."""
    found = Record.objects.filter(resource="healthcheck.run", object_id=last_run().pk).order_by("id")
    return [(each.action, each.actor_kind, each.actor_label, each.new) for each in found]


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_permitted_person_is_answered_202_with_the_place_to_look(page: Client, slash: str) -> None:
    answer = page.post(ADDRESS["cleanup"] + slash)
    assert answer.status_code == 202
    assert answer["Location"] == f"/health/jobs/{last_run().pk}/"
    assert page.get(answer["Location"]).json()["state"] == "queued"
    again = page.post(ADDRESS["cleanup"] + slash)
    assert (again.status_code, again["Location"]) == (409, answer["Location"])
    assert again.json()["error"] == "already_running"


def test_clean_up_by_endpoint_says_what_it_did_and_is_recorded(page: Client, operator: User) -> None:
    Session.objects.create(key_digest="old", data="", expires_at=timezone.now())
    page.post(ADDRESS["cleanup"])
    work()
    facts = page.get(f"/health/jobs/{last_run().pk}").json()
    assert (facts["state"], facts["result"]["deleted"]["sessions"]) == ("done", 1)
    assert facts["asked_by"] == "operator"
    asked, ended = records()
    assert asked == ("ask_operation", "user", "operator", None)
    assert ended[:3] == ("end_operation", "user", "operator")
    assert ended[3] is not None
    assert (ended[3]["state"], ended[3]["deleted"]["sessions"]) == ("done", 1)
    assert set(Record.objects.filter(object_id=last_run().pk).values_list("actor_id", flat=True)) == {str(operator.pk)}


def test_a_program_needs_its_token_only(program: Client) -> None:
    assert program.post(ADDRESS["cleanup"]).status_code == 202
    run = last_run()
    assert run.asked_by_label == "token " + sha256(TOKEN.encode()).hexdigest()[:8]
    assert program.get(f"/health/jobs/{run.pk}").json()["operation"] == "cleanup"
    assert records() == [("ask_operation", "token", run.asked_by_label, None)]


def test_a_person_needs_the_token_of_a_form_too(operator: User) -> None:
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(operator, "accounts.backends.IdentityBackend")
    assert browser.post(ADDRESS["cleanup"]).status_code == 403
    basic = browser.post(ADDRESS["cleanup"], headers={"Authorization": "Basic abc"})
    assert basic.status_code == 403
    assert not Run.objects.exists()


@pytest.mark.parametrize("address", ADDRESS.values())
def test_who_may_not_starts_nothing(address: str, settings: Settings) -> None:
    settings.HEALTH_TOKEN_DIGESTS = [sha256(b"for-looking").hexdigest()]
    stranger, member = Client(), Client()
    member.force_login(UserFactory.create(), "accounts.backends.IdentityBackend")
    assert stranger.post(address).status_code == 401
    assert stranger.post(address, headers={"Authorization": "Bearer wrong"})["WWW-Authenticate"] == "Bearer"
    assert stranger.post(address, headers={"Authorization": "Bearer for-looking"}).status_code == 403
    assert member.post(address).status_code == 403
    assert not Run.objects.exists()


def test_strangers_learn_nothing_of_runs(page: Client) -> None:
    page.post(ADDRESS["cleanup"])
    assert Client().get(f"/health/jobs/{last_run().pk}").status_code == 404
    assert page.get(f"/health/jobs/{uuid.uuid4()}").status_code == 404
    assert Client().get(ADDRESS["migrations"]).json().keys() == {"status"}


def test_optimize_and_clean_up_are_started_and_not_looked_at(page: Client) -> None:
    for name in ("optimize", "cleanup"):
        answer = page.get(ADDRESS[name])
        assert (answer.status_code, answer["Allow"]) == (405, "POST, OPTIONS")
        assert page.options(ADDRESS[name])["Allow"] == "POST, OPTIONS"
    assert page.options(ADDRESS["migrations"])["Allow"] == "GET, HEAD, POST, OPTIONS"
    assert page.post(f"/health/jobs/{uuid.uuid4()}").status_code == 405


# --- optimize


def test_optimize_vacuums_and_analyzes_every_table() -> None:
    before = analyzed()
    run = operations.start("optimize", asked_by=SOMEBODY)
    work()
    run.refresh_from_db()
    assert (run.state, run.result["locked"], run.result["failed"]) == (State.DONE, [], [])
    after = analyzed()
    assert run.result["tables"] == len(after)
    assert all(after[table] == before[table] + 1 for table in after)


def analyzed() -> dict[str, int]:
    """How often each table was vacuumed and analyzed by hand, the less of both."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_force_next_flush(), pg_stat_clear_snapshot()")
        cursor.execute(
            "SELECT relid::regclass::text, least(vacuum_count, analyze_count)"
            " FROM pg_stat_user_tables JOIN pg_class ON pg_class.oid = relid WHERE relkind IN ('r', 'm')"
        )
        return dict(cursor.fetchall())


# --- migrations


@pytest.fixture
def keeper() -> Client:
    browser = Client()
    user = UserFactory.create(username="keeper", is_superuser=True)
    browser.force_login(user, "accounts.backends.IdentityBackend")
    return browser


PENDING = Plan((Step("accounts.9999_paint_the_gate", ("Raw SQL operation",)),))


@pytest.fixture
def pending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrating, "plan", lambda: PENDING)


def test_the_plan_is_shown_with_its_name(keeper: Client, pending: None) -> None:
    assert keeper.get(ADDRESS["migrations"]).json() == {
        "plan": PENDING.digest,
        "enabled": True,
        "steps": [{"migration": "accounts.9999_paint_the_gate", "operations": ["Raw SQL operation"]}],
    }


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"plan": "0123456789abcdef"},
        {"plan": ["x"]},
        [],
        "nonsense",
        b"\xff",
        b"{",
        b"[" * 10_000,
        {"plan": {"a": 1}},
        None,
    ],
)
def test_a_plan_that_is_not_the_one_is_refused(keeper: Client, pending: None, body: Any) -> None:
    answer = keeper.post(ADDRESS["migrations"], body, content_type="application/json")
    assert (answer.status_code, answer.json()) == (409, {"error": "plan_changed"})
    assert not Run.objects.exists()


def test_without_migrations_to_apply_there_is_nothing_to_do(keeper: Client) -> None:
    digest = keeper.get(ADDRESS["migrations"]).json()["plan"]
    answer = keeper.post(ADDRESS["migrations"], {"plan": digest})
    assert (answer.status_code, answer.json()) == (409, {"error": "nothing_to_do"})


def test_where_they_are_off_nobody_applies_migrations(keeper: Client, pending: None, settings: Settings) -> None:
    settings.HEALTH_MIGRATIONS = False
    answer = keeper.post(ADDRESS["migrations"], {"plan": PENDING.digest})
    assert (answer.status_code, answer.json()) == (403, {"error": "migrations_off"})


def test_who_may_clean_up_may_not_migrate(page: Client, pending: None) -> None:
    assert page.post(ADDRESS["migrations"], {"plan": PENDING.digest}).status_code == 403


def test_a_worker_with_another_plan_applies_nothing(keeper: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as newer_code:
        newer_code.setattr(migrating, "plan", lambda: PENDING)
        assert keeper.post(ADDRESS["migrations"], {"plan": PENDING.digest}).status_code == 202
    work()
    assert (last_run().state, last_run().code) == (State.FAILED, "plan_changed")


def test_plans_differ_by_what_their_migrations_do() -> None:
    other = Plan((Step("accounts.9999_paint_the_gate", ("Raw SQL operation", "Raw SQL operation")),))
    assert len({PENDING.digest, other.digest, Plan(()).digest}) == 3


# --- the admin console


def test_the_console_starts_what_its_user_may_start(page: Client) -> None:
    listed = page.get("/admin/healthcheck/run/").content.decode()
    assert "/start/cleanup/" in listed
    assert "/start/optimize/" in listed
    assert "/start/migrations/" not in listed
    assert "csrfmiddlewaretoken" in page.get("/admin/healthcheck/run/start/cleanup/").content.decode()
    answer = page.post("/admin/healthcheck/run/start/cleanup/", follow=True)
    assert answer.redirect_chain == [(f"/admin/healthcheck/run/{last_run().pk}/change/", 302)]
    assert "A worker will do it now" in answer.content.decode()
    assert "Follow that run" in page.post("/admin/healthcheck/run/start/cleanup/", follow=True).content.decode()
    work()
    assert "done" in page.get(f"/admin/healthcheck/run/{last_run().pk}/change/").content.decode()
    assert page.get("/admin/healthcheck/run/start/migrations/").status_code == 403
    assert page.get("/admin/healthcheck/run/start/nothing/").status_code == 404


def test_the_console_shows_the_plan_and_applies_no_other(keeper: Client, pending: None) -> None:
    User.objects.update(is_staff=True)
    keeper.force_login(User.objects.get(username="keeper"))  # who becomes staff signs in again
    place = "/admin/healthcheck/run/start/migrations/"
    shown = keeper.get(place).content.decode()
    assert "accounts.9999_paint_the_gate" in shown
    assert f'value="{PENDING.digest}"' in shown
    assert "The plan has changed" in keeper.post(place, {"plan": "another"}, follow=True).content.decode()
    assert keeper.post(place, {"plan": PENDING.digest}).status_code == 302
    assert last_run().arguments == {"plan": PENDING.digest}
