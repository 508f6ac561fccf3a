"""The text that Prometheus reads: what it says is true, its labels are bounded, and it comes in time."""

from __future__ import annotations

import shutil
import subprocess
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from auditlog.delivering import deliver
from config import figures as of_site
from config.database import retry
from healthcheck import statistics
from healthcheck.metrics import figures, prometheus
from healthcheck.metrics.figures import Family, labelled
from healthcheck.metrics.prometheus import count_retry, exposition, strangers_line
from healthcheck.metrics.tallies import Tallies
from healthcheck.models import Figure
from healthcheck.overall import overall
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
END_PINGS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'gatehouse-health'
"""
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def asked_anew(counted: Tallies) -> None:
    """Counts from nothing, and no answer of an earlier test."""
    prometheus._asked.forget()
    statistics._shared.forget()
    overall.forget()


def samples() -> Samples:
    families = text_string_to_metric_families(exposition().decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def sample(name: str, **labels: str) -> float | None:
    return samples().get((f"gatehouse_{name}", frozenset(labels.items())))


def test_requests_are_counted_by_route_method_and_class_of_status(client: Client) -> None:
    login = "accounts/login/"
    for _time in range(3):
        client.get("/accounts/login/")
    client.post("/accounts/login/", {})
    assert sample("requests_total", route=login, method="GET", status="2xx") == 3
    assert sample("requests_total", route=login, method="POST", status="4xx") == 1
    assert sample("request_seconds_count", route=login) == 4
    assert sample("request_seconds_bucket", route=login, le="+Inf") == 4
    assert (sample("request_seconds_sum", route=login) or 0) > 0


def test_what_strangers_can_make_up_is_no_label(client: Client) -> None:
    for number in range(20):
        client.get(f"/made-up-{number}/")
        client.generic(f"MADEUP{number}", "/accounts/login/")
    made = [labels for name, labels in samples() if name == "gatehouse_requests_total"]
    assert len(made) == 2
    assert sample("requests_total", route="none", method="GET", status="4xx") == 20
    assert "MADEUP" not in exposition().decode()


def test_a_slow_answer_is_in_the_buckets_above_it_only(counted: Tallies, rf: Any) -> None:
    request = rf.get("/made-up/")
    request.resolver_match = None
    for seconds in (0.005, 0.7, 99.0):
        prometheus._count_request(request, 200, seconds)
    buckets = {
        le: sample("request_seconds_bucket", route="none", le=le) for le in ("0.01", "0.5", "1.0", "10.0", "+Inf")
    }
    assert buckets == {"0.01": 1, "0.5": 1, "1.0": 2, "10.0": 2, "+Inf": 3}
    assert sample("request_seconds_sum", route="none") == pytest.approx(99.705)


def test_statements_are_shown_by_operation_and_table_never_by_their_text() -> None:
    list(Group.objects.filter(name="nobody"))
    list(Group.objects.filter(pk=4711))
    assert sample("database_statements_total", operation="select", table="auth_group") == 2
    assert "WHERE" not in exposition().decode()


def test_retries_are_counted_by_reason() -> None:
    for hook in retry.on_retry:
        hook("deadlock")
    count_retry("something made up")
    assert sample("database_retries_total", reason="deadlock") == 1
    assert sample("database_retries_total", reason="serialization") == 0
    assert sample("database_retries_total", reason="other") == 1


def test_the_database_says_how_it_is() -> None:
    found = samples()
    names = {name for name, _labels in found}
    assert (sample("database_sessions_used", limit="server") or 0) >= 1
    assert (sample("database_table_bytes", table="auth_group") or 0) > 0
    for name in ("lock_waits", "oldest_transaction_seconds", "replication_lag_seconds", "frozen_age", "bytes"):
        assert f"gatehouse_database_{name}" in names


def test_the_checks_say_how_they_are() -> None:
    assert sample("up") == 1
    assert sample("check_status", check="database", host="") == 0
    assert strangers_line() == b"gatehouse_up 1\n"


def test_events_of_accounts_and_records_are_counted_from_zero_on() -> None:
    while deliver():  # what tests before this one have left
        pass
    Figure.objects.all().delete()
    assert sample("audit_records_total", resource="auth.group", action="delete") == 0
    assert sample("account_events_total", event="login_failed") == 0
    Group.objects.create(name="one")
    Group.objects.create(name="two")
    Group.objects.filter(name__in=["one", "two"]).delete()
    deliver()
    prometheus._asked.forget()
    assert sample("audit_records_total", resource="auth.group", action="create") == 2
    assert sample("audit_records_total", resource="auth.group", action="delete") == 2


def test_the_worker_and_its_jobs_show_and_the_trail_too() -> None:
    of_site.beat()
    of_site.measure_trail()
    assert (sample("worker_beat_timestamp_seconds") or 0) > 1e9
    assert sample("jobs", state="ready") == 0
    assert sample("jobs_oldest_seconds") == 0
    assert sample("audit_triggers_missing") == 0
    assert (sample("audit_partitions_ahead") or 0) > 20


def test_an_app_joins_with_one_call_and_its_mistake_costs_only_what_apps_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_families", figures.families())
    cats = "SELECT jsonb_build_object('colour', 'black'), 9::float8"
    figures.register(Family(name="cats", help="Cats in the house.", sql=cats))
    with pytest.raises(ValueError, match="already"):
        figures.register(Family(name="cats", help="More cats."))
    for name in ("up", "database_bytes", "requests", "Cats", "cats'); DROP TABLE cats"):
        with pytest.raises(ValueError, match="name of its own"):
            figures.register(Family(name=name, help="No cats."))
    assert sample("cats", colour="black") == 9
    figures.register(Family(name="dogs", help="Dogs.", sql="SELECT '{}'::jsonb, 1 / 0"))
    prometheus._asked.forget()
    with capture_logs() as lines:
        found = samples()
    assert ("gatehouse_cats", frozenset({("colour", "black")})) not in found
    assert ("gatehouse_database_lock_waits", frozenset()) in found
    assert "metrics.figures_unknown" in [line["event"] for line in lines]


def test_there_are_only_so_many_labels_of_a_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "MOST_LABELS", 3)
    figures._known.clear()
    for number in range(6):
        figures.increase({("cats", labelled(name=f"cat {number}")): 1})
    figures.increase({("cats", labelled(name=f"cat {number}")): 1 for number in range(10)})
    values = {figure.labels["name"]: figure.value for figure in Figure.objects.filter(name="cats")}
    figures._known.clear()
    assert values == {"cat 0": 2, "cat 1": 2, "cat 2": 2, "other": 10}


def test_a_figure_that_is_put_replaces_the_one_before() -> None:
    for value in (3.0, 2.0):
        figures.put({("moods", ()): value})
    assert Figure.objects.get(name="moods").value == 2


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_nothing_to_say_against_it(client: Client) -> None:
    client.get("/accounts/login/")
    of_site.beat()
    of_site.measure_trail()
    count_retry("deadlock")
    done = subprocess.run(["promtool", "check", "metrics"], input=exposition(), capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_while_the_database_is_away_what_processes_count_is_shown_all_the_same(client: Client) -> None:
    client.get("/accounts/login/")
    assert sample("up") == 1
    port = connection.settings_dict["PORT"]
    with connection.cursor() as cursor:
        connection.settings_dict["PORT"] = "1"
        try:
            cursor.execute(END_PINGS)
            wait_until(lambda: strangers_line() == b"gatehouse_up 0\n", "it is seen")
            found = samples()
        finally:
            connection.settings_dict["PORT"] = port
    assert found["gatehouse_up", frozenset()] == 0
    assert ("gatehouse_check_status", frozenset({("check", "database"), ("host", "")})) in found
    assert any(name == "gatehouse_requests_total" for name, _labels in found)
    assert not any(name == "gatehouse_database_lock_waits" for name, _labels in found)
    wait_until(lambda: strangers_line() == b"gatehouse_up 1\n", "it is well again")
