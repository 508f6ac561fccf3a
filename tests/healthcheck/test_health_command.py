"""``manage.py health``: what it prints, for people and programs, and how it exits."""

from __future__ import annotations

import hashlib
import json
import re
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command

from healthcheck import looking, registry
from healthcheck.models import Reading
from healthcheck.overall import overall
from healthcheck.readiness import Reading as Ready
from healthcheck.readiness import readiness
from healthcheck.registry import Check
from healthcheck.results import Result, Status
from tests.live import manage

NOWHERE = {"DATABASE_URL": "postgresql://nobody:secret-word@127.0.0.1:1/none", "EMAIL_URL": "smtp://127.0.0.1:1"}


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, settings: Any) -> dict[str, Result]:
    """What the checks find when they are run; one is of the site, one of its hosts."""
    found = {"site": Result(Status.PASS, "ok", 1.25, "s"), "host": Result(Status.PASS)}
    checks = [
        Check(name="site", label="Site", run=lambda: found["site"]),
        Check(name="host", label="Host", run=lambda: found["host"], scope="host"),
    ]
    monkeypatch.setattr(registry, "_checks", {check.name: check for check in checks})
    settings.HEALTH_HOST = "here"
    overall.forget()
    return found


def health(*arguments: str) -> tuple[int, str]:
    """The exit code and what was printed."""
    overall.forget()
    said = StringIO()
    try:
        call_command("health", *arguments, stdout=said)
    except SystemExit as end:
        return int(str(end.code)), said.getvalue()
    return 0, said.getvalue()


def reading(name: str, status: str, *, seconds_ago: float = 5, **columns: Any) -> None:
    at = datetime.now(UTC) - timedelta(seconds=seconds_ago)
    Reading.objects.create(check_name=name, status=status, code="slow", milliseconds=2, at=at, **columns)


def be(code: str) -> Ready:
    return Ready(code, datetime.now(UTC), time.monotonic())


@pytest.mark.django_db(transaction=True)
def test_it_tells_the_last_readings_with_their_ages_and_runs_none(found: dict[str, Result]) -> None:
    found["site"] = Result(Status.FAIL, "must_not_be_run")
    reading("site", "pass", value=1.25, unit="s")
    reading("host", "warn", host="there", seconds_ago=130)
    code, said = health()
    assert code == 0
    lines = re.sub(r" \d s$", " few s", said, flags=re.M).splitlines()
    assert [line.split() for line in lines] == [
        ["CHECK", "HOST", "STATUS", "CODE", "VALUE", "AGE"],
        ["database", "pass", "ok", "few", "s"],
        ["migrations", "pass", "ok", "few", "s"],
        ["draining", "pass", "ok", "few", "s"],
        ["site", "pass", "slow", "1.25", "s", "few", "s"],
        ["host", "there", "warn", "slow", "2", "min"],
        ["In", "all:", "warn"],
    ]


@pytest.mark.django_db(transaction=True)
def test_it_runs_every_check_when_told_to(found: dict[str, Result]) -> None:
    reading("site", "fail")
    code, said = health("--run", "--json")
    assert code == 0
    facts = json.loads(said)
    assert (facts["status"], facts["code"], facts["readings_known"]) == ("pass", "ok", True)
    (site,) = [check for check in facts["checks"] if check["check"] == "site"]
    assert (site["status"], site["value"], site["unit"]) == ("pass", 1.25, "s")
    (host,) = [check for check in facts["checks"] if check["check"] == "host"]
    assert host["host"] == "here"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("result", "arguments", "code"),
    [
        (Status.PASS, ["--strict"], 0),
        (Status.WARN, [], 0),
        (Status.WARN, ["--strict"], 2),
        (Status.FAIL, [], 0),  # it only warns: the site can serve
        (Status.FAIL, ["--strict"], 2),
    ],
)
def test_a_warning_counts_only_when_it_is_strict(
    found: dict[str, Result], result: Status, arguments: list[str], code: int
) -> None:
    found["site"] = Result(result)
    assert health("--run", *arguments)[0] == code


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("code", ["database", "migrations", "draining"])
def test_a_site_that_is_not_ready_fails(found: dict[str, Result], code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "current", partial(be, code))
    assert health()[0] == 1
    exit_code, said = health("--run", "--json")
    assert (exit_code, json.loads(said)["code"]) == (1, code)


@pytest.mark.django_db(transaction=True)
def test_it_waits_until_the_site_is_ready_and_no_longer(
    found: dict[str, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    ready_at = time.monotonic() + 0.5
    monkeypatch.setattr(readiness, "current", lambda: be("ok" if time.monotonic() >= ready_at else "database"))
    began = time.monotonic()
    assert health("--wait", "30")[0] == 0
    assert 0.5 <= time.monotonic() - began < 5
    monkeypatch.setattr(readiness, "current", partial(be, "database"))
    began = time.monotonic()
    assert health("--wait", "0.3")[0] == 1
    assert 0.3 <= time.monotonic() - began < 2


def test_who_waits_asks_seldomer_and_at_odd_times(monkeypatch: pytest.MonkeyPatch) -> None:
    now, pauses = [0.0], list[float]()

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(looking, "monotonic", lambda: now[0])
    monkeypatch.setattr(looking, "sleep", sleep)
    monkeypatch.setattr(readiness, "current", partial(be, "database"))
    assert not looking.wait_until_ready(60)
    assert now[0] == pytest.approx(60)
    bounds = [0.2, 0.4, 0.8, 1.6, 3.2, *[5.0] * len(pauses)]
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(pauses[:-1], bounds, strict=False))
    assert len({round(pause, 6) for pause in pauses}) > len(pauses) / 2


def test_a_token_is_fresh_and_its_digest_is_what_the_settings_need() -> None:
    tokens = set()
    for _time in range(2):
        said = StringIO()
        call_command("health", "token", "--json", stdout=said)
        facts = json.loads(said.getvalue())
        assert facts["digest"] == hashlib.sha256(facts["token"].encode()).hexdigest()
        tokens.add(facts["token"])
    assert len(tokens) == 2
    assert min(map(len, tokens)) >= 43


def test_an_absent_database_is_told_without_a_traceback_or_a_password() -> None:
    done = manage("health", "--json", "--wait", "0.5", environment=NOWHERE)
    assert done.returncode == 1, done.stderr
    facts = json.loads(done.stdout)
    assert (facts["status"], facts["code"], facts["readings_known"]) == ("fail", "database", False)
    assert "Traceback" not in done.stderr
    assert "secret-word" not in done.stdout + done.stderr


def test_bad_settings_are_no_answer() -> None:
    done = manage("health", environment=NOWHERE | {"HEALTH_DISK_LIMITS": "95,80"})
    assert (done.returncode, done.stdout) == (3, "")
    assert "HEALTH_DISK_LIMITS: must be" in done.stderr
