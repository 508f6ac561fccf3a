"""The checks, against real things that are well and that are not."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg2
import pytest
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connection, connections
from django.test import RequestFactory
from django.utils import timezone
from django_tasks_db.models import DBTaskResult
from psycopg2 import sql
from structlog.testing import capture_logs

import auditlog
from accounts import jobs
from config import health
from config.env import Environment, Faults
from config.worker import MOST_ATTEMPTS
from healthcheck import checks, operations, registry, runner
from healthcheck.metrics import figures
from healthcheck.ping import NoAnswer
from healthcheck.registry import Check
from healthcheck.results import Result, Status
from tests.factories import UserFactory

PASS, WARN, FAIL = Status


def limited(settings: Any, **limits: tuple[float, float]) -> None:
    settings.HEALTH_LIMITS = settings.HEALTH_LIMITS | limits


# The database


@contextmanager
def a_session(alias: str) -> Iterator[Any]:
    connection = psycopg2.connect(**connections[alias].get_connection_params())
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


@pytest.mark.django_db(transaction=True)
def test_connections_are_counted_by_state() -> None:
    before = checks.sessions()
    with ExitStack() as stack:
        for _session in range(20):
            stack.enter_context(a_session("direct"))
        busy = stack.enter_context(a_session("default"))
        busy.autocommit = False
        busy.cursor().execute("SELECT 1")
        after = checks.sessions()
    # Other tests' sessions come and go. The owner's state is not for the runtime role to see: they count as idle.
    assert 10 <= after.idle - before.idle <= 30
    assert after.idle_in_transaction >= 1
    assert after.active >= 1
    assert after.most == 197  # max_connections less what is reserved for superusers
    result = checks.connections()
    assert (result.status, result.code, result.unit) == (PASS, "ok", "%")


@pytest.mark.django_db(transaction=True)
def test_connections_warn_and_fail_near_what_the_server_may_have(settings: Any) -> None:
    limited(settings, connections=(0.1, 100))
    assert checks.connections().status is WARN
    limited(settings, connections=(0.01, 0.1))
    assert (checks.connections().status, checks.connections().code) == (FAIL, "near_limit")


@pytest.mark.django_db(transaction=True)
def test_connections_heed_the_limit_of_the_database() -> None:
    database = sql.Identifier(connections["default"].settings_dict["NAME"])
    alter = sql.SQL("ALTER DATABASE {} CONNECTION LIMIT {}")
    with a_session("direct") as owner, owner.cursor() as cursor:
        cursor.execute(alter.format(database, sql.Literal(20)))
        try:
            assert 5 <= checks.sessions().share <= 100
        finally:
            cursor.execute(alter.format(database, sql.Literal(-1)))
    assert checks.sessions().share < 20


@pytest.mark.django_db(transaction=True)
def test_the_response_time_of_the_database_is_that_of_one_question(settings: Any) -> None:
    result = checks.response()
    assert result.value is not None and 0 < result.value < 400
    limited(settings, response=(0.0001, 1000))
    assert (checks.response().status, checks.response().code) == (WARN, "slow")


@pytest.mark.django_db(transaction=True)
def test_without_replicas_there_is_nothing_to_tell() -> None:
    assert checks.replicas() == Result(PASS, "none")


@pytest.mark.django_db(transaction=True)
def test_a_replica_that_is_none_or_is_away_is_told(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.HEALTH_REPLICAS = ["default"]
    assert checks.replicas() == Result(WARN, "no_replica")
    settings.HEALTH_REPLICAS = ["default", "away"]
    away = connections.settings["default"] | {"HOST": "127.0.0.1", "PORT": "1", "OPTIONS": {}}
    monkeypatch.setitem(connections.settings, "away", away)
    with pytest.raises(NoAnswer):
        checks.replicas()


# Cache, mail, disk


def test_a_cache_that_keeps_and_forgets_passes() -> None:
    result = checks.cache()
    assert (result.status, result.code, result.unit) == (PASS, "ok", "ms")


def test_a_cache_that_loses_what_it_was_given_fails(settings: Any) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    assert checks.cache() == Result(PASS, "none")
    settings.CACHES = {"default": {"BACKEND": "tests.healthcheck.caches.Forgetful"}}
    assert checks.cache() == Result(FAIL, "lost_value")
    settings.CACHES = {"default": {"BACKEND": "tests.healthcheck.caches.Stubborn"}}
    assert checks.cache() == Result(FAIL, "kept_deleted")


class MailServer(socketserver.ThreadingTCPServer):
    """Greets, and answers each command by what `answers` has for its first word."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, greeting: str, **answers: str) -> None:
        self.greeting, self.answers = greeting, answers
        self.heard: list[str] = []
        super().__init__(("127.0.0.1", 0), _MailSession)


class _MailSession(socketserver.StreamRequestHandler):
    server: MailServer

    def handle(self) -> None:
        self._say(self.server.greeting)
        while self.server.greeting and (line := self.rfile.readline().decode().strip()):
            word = line.split()[0]
            self.server.heard.append(word)
            self._say(self.server.answers.get(word.lower(), "250 done"))
        if not self.server.greeting:
            self.rfile.readline()  # until the other side has had enough

    def _say(self, line: str) -> None:
        if line:
            self.wfile.write(f"{line}\r\n".encode())


@contextmanager
def mail_server(settings: Any, greeting: str = "220 ready", **answers: str) -> Iterator[MailServer]:
    with MailServer(greeting, **answers) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        use_mail_server(settings, server.server_address[1])
        try:
            yield server
        finally:
            server.shutdown()


def use_mail_server(settings: Any, port: int) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False


def test_a_mail_server_that_talks_passes_and_gets_no_mail(settings: Any) -> None:
    with mail_server(settings) as server:
        result = checks.mail()
    assert (result.status, result.code, result.unit) == (PASS, "ok", "s")
    assert [word.lower() for word in server.heard] == ["ehlo", "quit"]


def test_a_mail_server_that_is_silent_does_not_hold_the_check(settings: Any) -> None:
    limited(settings, mail=(0.1, 1))
    began = time.monotonic()
    with mail_server(settings, greeting=""):
        assert checks.mail() == Result(FAIL, "timeout")
    assert time.monotonic() - began < 8  # EMAIL_TIMEOUT is ten


def test_what_is_wrong_with_a_mail_server_is_told_by_a_code(settings: Any) -> None:
    with mail_server(settings, greeting="554 no"):
        assert checks.mail() == Result(FAIL, "refused_to_talk")
    assert checks.mail() == Result(FAIL, "refused")  # it is gone
    with mail_server(settings, ehlo="250-hello\r\n250 AUTH PLAIN", auth="535 no"):
        settings.EMAIL_HOST_USER, settings.EMAIL_HOST_PASSWORD = "user", "wrong"
        assert checks.mail() == Result(FAIL, "login_refused")
    with mail_server(settings, ehlo="250-hello\r\n250 STARTTLS", starttls="220 go"):
        settings.EMAIL_USE_TLS = True
        assert checks.mail() == Result(FAIL, "tls_failed")
    settings.EMAIL_HOST = "nowhere.invalid"
    assert checks.mail() == Result(FAIL, "unknown_host")


def test_mail_in_files_needs_a_directory_that_can_be_written(settings: Any, tmp_path: Path) -> None:
    settings.EMAIL_BACKEND = "config.mail_preview.MailDirectoryBackend"
    settings.MAIL_DIRECTORY = tmp_path / "not" / "there" / "yet"
    assert checks.mail() == Result(PASS)
    (tmp_path / "not").write_text("a file in the way")
    assert checks.mail() == Result(FAIL, "not_writable")
    settings.EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"
    assert checks.mail() == Result(PASS, "no_server")


def test_the_fullest_disk_counts_and_a_missing_one_fails(settings: Any, tmp_path: Path) -> None:
    def found(*paths: str) -> Result:
        settings.HEALTH_DISK_PATHS = list(paths)
        return checks.disk()

    places = [str(tmp_path), "/dev", "/proc"]  # of the last there is nothing to fill
    shares = [found(place).value or 0.0 for place in places]
    fullest = found(*places)
    assert (fullest.unit, fullest.value) == ("%", max(shares))
    assert 0 < max(shares) < 100
    limited(settings, disk=(max(shares) - 0.05, 100))
    assert found(*places).status is WARN
    assert found(*places).code in ("filling", "many_files")
    assert found(str(tmp_path), str(tmp_path / "gone")) == Result(FAIL, "missing")


# The project's own


@pytest.mark.django_db
def test_the_audit_trail_passes_warns_and_fails(settings: Any) -> None:
    assert (health.audit().status, health.audit().code) == (PASS, "ok")
    limited(settings, audit_partitions=(1000, 1))
    assert (health.audit().status, health.audit().code) == (WARN, "partitions_run_out")
    auditlog.record("read", "test")
    limited(settings, audit_sealing=(-2, -1))
    assert (health.audit().status, health.audit().code) == (FAIL, "sealing_late")


@pytest.mark.django_db(transaction=True)
def test_a_missing_trigger_fails() -> None:
    with a_session("direct") as owner, owner.cursor() as cursor:
        cursor.execute(
            "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger"
            " WHERE tgrelid = 'accounts_user'::regclass AND tgname ~ 'auditlog' LIMIT 1"
        )
        name, definition = cursor.fetchone()
        cursor.execute(sql.SQL("DROP TRIGGER {} ON accounts_user").format(sql.Identifier(name)))
        try:
            assert health.audit() == Result(FAIL, "triggers_differ", 1)
        finally:
            cursor.execute(definition)
    assert health.audit().status is PASS


def waiting_job(**columns: Any) -> None:
    jobs.send_mail_to_address.enqueue("password_reset", "somebody@example.com")
    newest = DBTaskResult.objects.order_by("-enqueued_at")[:1].get()
    DBTaskResult.objects.filter(pk=newest.pk).update(**columns)


@pytest.mark.django_db
def test_a_job_that_nobody_does_is_late_since_it_could_be_done() -> None:
    now = timezone.now()
    assert health.worker() == Result(PASS, "ok", 0.0, "s")
    waiting_job(enqueued_at=now - timedelta(hours=2), run_after=now + timedelta(minutes=1))
    assert health.worker() == Result(PASS, "ok", 0.0, "s")
    waiting_job(enqueued_at=now - timedelta(hours=2), run_after=now - timedelta(seconds=70))
    late = health.worker()
    assert (late.status, late.code) == (WARN, "late")
    assert late.value == pytest.approx(70, abs=5)
    waiting_job(enqueued_at=now - timedelta(minutes=11))
    assert health.worker().status is FAIL
    assert health.worker().value == pytest.approx(660, abs=5)


@pytest.mark.django_db
def test_an_operation_that_waits_for_another_to_end_is_not_late() -> None:
    """They have a thread of their own, which one of them may hold for an hour."""
    waiting_job(enqueued_at=timezone.now() - timedelta(hours=2), queue_name=operations.QUEUE)
    assert health.worker() == Result(PASS, "ok", 0.0, "s")
    with connection.cursor() as cursor:
        cursor.execute(figures.families()["jobs_oldest_seconds"].sql)
        assert cursor.fetchone()[1] == 0


@pytest.mark.django_db
def test_a_job_that_was_given_up_is_told_for_a_day() -> None:
    given_up = {"status": "FAILED", "worker_ids": ["worker"] * MOST_ATTEMPTS}
    waiting_job(**given_up, finished_at=timezone.now() - timedelta(hours=25))
    waiting_job(status="FAILED", worker_ids=["worker"], finished_at=timezone.now())  # is tried again
    assert health.worker().status is PASS
    waiting_job(**given_up, finished_at=timezone.now() - timedelta(hours=23))
    assert health.worker() == Result(WARN, "given_up", 1, "jobs")


@pytest.mark.django_db
def test_a_role_that_is_not_as_the_code_declares_it_warns() -> None:
    assert health.roles_in_step() == Result(PASS, "ok", 0)
    Group.objects.get(name="Support").permissions.clear()
    assert health.roles_in_step() == Result(WARN, "roles_differ", 1)


@pytest.mark.django_db
def test_one_role_for_everything_passes_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert health.configuration() == Result(PASS, "ok")
    monkeypatch.setitem(connections["direct"].settings_dict, "USER", connections["default"].settings_dict["USER"])
    assert health.configuration() == Result(PASS, "one_role")


@pytest.mark.django_db
def test_a_server_that_loses_what_it_acknowledged_is_unfit_for_production(settings: Any) -> None:
    settings.DEVELOPMENT = False
    assert health.configuration() == Result(FAIL, "unfit_server")  # the tests' own has fsync off


def records_for(user: Any) -> dict[str, Any]:
    request = RequestFactory().get("/health/audit")
    request.user = user
    return health.recent_records(request)


@pytest.mark.django_db
def test_everybody_sees_their_own_records_and_an_auditor_all_of_them() -> None:
    member, stranger = UserFactory.create(), UserFactory.create()
    member.full_name = "Ada Lovelace"
    member.save()
    (changed, created) = records_for(member)["records"]
    assert (created["title"], created["by"], changed["title"]) == ("Account created", "", "Your account was changed")
    assert any("Ada Lovelace" in detail for detail in changed["details"])

    auditor = UserFactory.create(username="auditor", is_staff=True)
    auditor.groups.set(Group.objects.filter(name="Auditor"))
    seen = records_for(auditor)["records"]
    assert {record["object"] for record in seen} >= {member.username, stranger.username, "auditor"}
    (read, *_rest) = records_for(auditor)["records"]
    assert (read["action"], read["resource"]) == ("read", "auditlog.record")


def test_nobody_sees_nothing() -> None:
    assert records_for(SimpleNamespace(is_authenticated=False)) == {}


# Running them


def a_check(run: Callable[[], Result], **options: Any) -> Check:
    return Check(name="sample", label="Sample", run=run, **options)


def test_every_check_of_the_site_is_registered() -> None:
    known = registry.checks()
    assert known.keys() >= {"response", "connections", "replicas", "cache", "mail", "disk", "audit", "worker"}
    assert {name for name, check in known.items() if check.scope == "host"} == {"clock", "backups", "disk"}


def test_what_a_check_raises_is_a_failure_and_goes_to_the_log() -> None:
    def broken() -> Result:
        raise ValueError("secret-word")

    with capture_logs() as lines:
        outcome = runner.run_check(a_check(broken))
    assert outcome.result == Result(FAIL, "error")
    assert [(line["event"], line["check"]) for line in lines] == [("health.check_failed", "sample")]


@pytest.mark.parametrize("error", [NoAnswer("TimeoutError"), OperationalError()], ids=["ping", "orm"])
def test_a_check_that_the_database_does_not_answer_says_so(error: Exception) -> None:
    def unanswered() -> Result:
        raise error

    with capture_logs() as lines:
        assert runner.run_check(a_check(unanswered)).result == Result(FAIL, "no_answer")
    assert [line["event"] for line in lines] == ["health.check_unanswered"]


def test_a_check_that_hangs_is_told_holds_one_thread_and_keeps_no_other_waiting() -> None:
    hold = threading.Event()
    begun: list[int] = []

    def hanging() -> Result:
        begun.append(1)
        hold.wait(30)
        return Result(PASS)

    slow = a_check(hanging, seconds=0.1, every=0.2)
    quick = Check(name="quick", label="Quick", run=lambda: Result(PASS), every=0.01)
    running = runner.Runner()
    found: list[tuple[str, str]] = []
    try:
        while len(found) < 200 and sum(code == "timeout" for _, code in found) < 2:
            running.begin([slow, quick])
            found += [(outcome.check.name, outcome.result.code) for outcome in running.collect()]
            threading.Event().wait(0.01)
        assert found.count(("sample", "timeout")) == 2  # when its time is up, and when it would be due again
        assert found.count(("quick", "ok")) > 3
        assert len(begun) == 1
    finally:
        hold.set()
    # What it found too late does not count; the next run does.
    found.clear()
    while not found:
        running.begin([slow])
        found += [(outcome.check.name, outcome.result.code) for outcome in running.collect()]
        threading.Event().wait(0.01)
    assert found == [("sample", "ok")]
    assert len(begun) == 2


def test_all_checks_at_once_take_as_long_as_the_slowest() -> None:
    hold = threading.Event()
    slow = a_check(lambda: Result(PASS, "late") if hold.wait(30) else Result(PASS), seconds=0.2)
    quick = Check(name="quick", label="Quick", run=lambda: Result(WARN, "odd"))
    found = runner.run_once([slow, quick])
    hold.set()
    assert [(outcome.check.name, outcome.result.code) for outcome in found] == [("sample", "timeout"), ("quick", "odd")]


# Limits


@pytest.mark.parametrize(
    "text", ["80", "80,95,99", "95,80", "80,80", "eighty,95", "-1,95", "nan,95", "80,nan", "80,inf"], ids=str
)
def test_limits_that_make_no_sense_are_refused_by_name(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEALTH_DISK_LIMITS", text)
    env = Environment()
    env.limits("HEALTH_DISK_LIMITS", (80, 95))
    with pytest.raises(Faults) as refused:
        env.raise_faults()
    assert refused.value.lines == [
        "HEALTH_DISK_LIMITS: must be the number that warns and the greater one that fails, like 80,95."
    ]


def test_limits_are_read_and_fall_where_less_is_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    env = Environment()
    assert env.limits("HEALTH_DISK_LIMITS", (80, 95)) == (80, 95)
    monkeypatch.setenv("HEALTH_DISK_LIMITS", "70.5, 90")
    assert env.limits("HEALTH_DISK_LIMITS", (80, 95)) == (70.5, 90)
    assert env.values["HEALTH_DISK_LIMITS"] == [70.5, 90]
    monkeypatch.setenv("HEALTH_AUDIT_PARTITIONS_LIMITS", "4,2")
    assert env.limits("HEALTH_AUDIT_PARTITIONS_LIMITS", (8, 1)) == (4, 2)
    env.raise_faults()
    monkeypatch.setenv("HEALTH_AUDIT_PARTITIONS_LIMITS", "2,4")
    env.limits("HEALTH_AUDIT_PARTITIONS_LIMITS", (8, 1))
    with pytest.raises(ImproperlyConfigured, match="the smaller one that fails, like 8,1"):
        env.raise_faults()
