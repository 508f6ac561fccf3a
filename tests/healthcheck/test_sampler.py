"""The sampler, look by look: what it runs, writes, keeps and fills in."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from structlog.testing import capture_logs

from healthcheck import registry, sampler
from healthcheck.models import ConnectionSample, Incident, Reading, Sample
from healthcheck.ping import NoAnswer
from healthcheck.readiness import Reading as Ready
from healthcheck.readiness import readiness
from healthcheck.registry import Check
from healthcheck.results import Result, Status
from healthcheck.sampler import Sampler
from tests.live import wait_until

# It writes over a session of its own.
pytestmark = pytest.mark.django_db(transaction=True)

PASS, WARN, FAIL = Result(Status.PASS, "ok", 1.0, "s"), Result(Status.WARN, "slow"), Result(Status.FAIL, "broken")


class World:
    """What the samplers of a test find: two checks, and a database that can be away for them."""

    def __init__(self) -> None:
        self.found = {"site": PASS, "host": PASS}
        self.runs: list[str] = []
        self.ready = "ok"

    def run(self, name: str) -> Result:
        self.runs.append(name)
        return self.found[name]

    def is_ready(self) -> Ready:
        return Ready(self.ready, datetime.now(UTC), time.monotonic())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, settings: Any) -> World:
    world = World()
    checks = [
        Check(name="site", label="Site", run=partial(world.run, "site"), every=0),
        Check(name="host", label="Host", run=partial(world.run, "host"), every=0, scope="host"),
    ]
    monkeypatch.setattr(registry, "_checks", {check.name: check for check in checks})
    monkeypatch.setattr(readiness, "of_database", world.is_ready)
    settings.HEALTH_HOST = "here"
    return world


@pytest.fixture
def samplers() -> Iterator[Callable[..., Sampler]]:
    made: list[Sampler] = []

    def make(**options: Any) -> Sampler:
        made.append(Sampler(**options))
        return made[-1]

    yield make
    for each in made:
        each._session.close()


def look(sampler: Sampler, until: Callable[[], object] = lambda: True) -> None:
    """Look, and again until what the checks found has come."""

    def looked() -> object:
        sampler.look()
        return until()

    wait_until(looked, "the look shows it", seconds=10)


def readings() -> dict[tuple[str, str], str]:
    return {(row.check_name, row.host): row.status for row in Reading.objects.exclude(check_name="overall")}


def host_is(status: str) -> bool:
    return readings().get(("host", "here")) == status


def incidents() -> list[tuple[str, str, str, str, bool]]:
    found = Incident.objects.order_by("began_at", "check_name")
    return [(row.check_name, row.host, row.status, row.code, row.ended_at is not None) for row in found]


def samples() -> list[tuple[str, dict[str, str]]]:
    return [(row.status, row.codes) for row in Sample.objects.order_by("at")]


def test_a_look_writes_readings_a_sample_of_the_minute_and_the_connections(
    world: World, samplers: Callable[..., Sampler]
) -> None:
    look(samplers(), lambda: len(readings()) == 2)
    assert readings() == {("site", ""): "pass", ("host", "here"): "pass"}
    site = Reading.objects.get(check_name="site")
    assert (site.code, site.value, site.unit) == ("ok", 1.0, "s")
    (sample,) = Sample.objects.all()
    assert (sample.status, sample.codes, sample.at.second, sample.at.microsecond) == ("pass", {}, 0, 0)
    assert datetime.now(UTC) - sample.at < timedelta(minutes=1, seconds=10)
    assert sample.milliseconds is not None and 0 < sample.milliseconds < 1000
    (connections,) = ConnectionSample.objects.all()
    assert (connections.at, connections.most) == (sample.at, 197)
    assert incidents() == []


def test_the_long_words_of_one_check_cost_no_other_its_reading(world: World, samplers: Callable[..., Sampler]) -> None:
    world.found["site"] = Result(Status.WARN, "w" * 100, 1, "u" * 100)
    look(samplers(), lambda: len(readings()) == 2)
    site = Reading.objects.get(check_name="site")
    assert (site.code, site.unit) == ("w" * 64, "u" * 16)


def test_what_is_bad_is_an_incident_until_it_passes_with_its_worst_state(
    world: World, samplers: Callable[..., Sampler]
) -> None:
    sampler = samplers()
    began = datetime.now(UTC)
    for found, status in ((WARN, "warn"), (FAIL, "fail"), (WARN, "warn")):
        world.found["host"] = found
        look(sampler, partial(host_is, status))
    # The whole only warns: no check but those of readiness can make it fail.
    assert incidents() == [("host", "here", "fail", "broken", False), ("overall", "", "warn", "host", False)]
    assert samples()[-1] == ("warn", {"host": "slow"})
    world.found["host"] = PASS
    look(sampler, partial(host_is, "pass"))
    assert [row[4] for row in incidents()] == [True, True]
    row = Incident.objects.get(check_name="host")
    assert row.ended_at is not None and began <= row.began_at < row.ended_at <= datetime.now(UTC)
    world.found["host"] = WARN
    look(sampler, partial(host_is, "warn"))
    assert [row for row in incidents() if row[0] == "host"] == [
        ("host", "here", "fail", "broken", True),
        ("host", "here", "warn", "slow", False),
    ]


def test_the_sample_of_a_minute_is_its_worst_state(world: World, samplers: Callable[..., Sampler]) -> None:
    sampler = samplers(minute=3600.0)  # which an hour is for this test
    look(sampler, lambda: len(readings()) == 2)
    assert samples() == [("pass", {})]
    world.ready = "migrations"
    look(sampler)
    world.ready = "ok"
    world.found["site"] = WARN
    look(sampler, lambda: readings()[("site", "")] == "warn")
    assert samples() == [("fail", {"migrations": "not_applied"})]
    away_for(world, 0.05, sampler)
    look(sampler)
    assert samples() == [("fail", {"migrations": "not_applied", "database": "no_answer"})]
    assert Sample.objects.get().milliseconds is not None  # it did answer before


def test_that_a_check_has_not_been_run_lately_is_no_incident(world: World, samplers: Callable[..., Sampler]) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=9)
    Reading.objects.create(check_name="site", status="fail", code="broken", milliseconds=1, at=long_ago)
    sampler = samplers()
    sampler._runner.begin = lambda checks: None  # type: ignore[method-assign]
    sampler.look()
    assert samples() == [("pass", {})]
    assert incidents() == []


def test_a_drained_host_warns_and_is_named(
    world: World, samplers: Callable[..., Sampler], settings: Any, tmp_path: Path
) -> None:
    settings.HEALTH_DRAIN_FILE = str(tmp_path / "draining")
    sampler = samplers()
    (tmp_path / "draining").touch()
    sampler.look()
    assert incidents() == [
        ("draining", "here", "warn", "draining", False),
        ("overall", "", "warn", "draining", False),
    ]
    (tmp_path / "draining").unlink()
    sampler.look()
    assert [row[4] for row in incidents()] == [True, True]


# Several of them


def test_one_of_all_runs_the_checks_of_the_site_and_writes_until_it_ends(
    world: World, samplers: Callable[..., Sampler]
) -> None:
    first, second = samplers(), samplers()
    look(first, lambda: len(readings()) == 2)
    world.runs.clear()
    look(second, lambda: "host" in world.runs)
    assert "site" not in world.runs
    world.found["host"] = WARN
    look(second, partial(host_is, "warn"))
    assert incidents() == []  # the first writes them
    first.look()
    assert [row[0] for row in incidents()] == ["host", "overall"]
    first._session.close()
    world.found["host"] = PASS
    world.runs.clear()
    look(second, lambda: second._holds and host_is("pass") and "site" in world.runs)
    assert [row[4] for row in incidents()] == [True, True]
    assert Sample.objects.count() <= 2  # one a minute


def test_one_that_hangs_loses_the_lock_and_writes_nothing_afterwards(
    world: World, samplers: Callable[..., Sampler]
) -> None:
    stuck, other = samplers(look_every=0.1), samplers(look_every=0.1)  # the server waits for half a second
    stuck.look()
    assert stuck._holds
    look(other, lambda: other._holds)
    world.ready = "migrations"
    with pytest.raises(NoAnswer):
        stuck.look()
    assert stuck._session.is_open is False
    assert incidents() == []
    look(other)
    stuck.look()
    assert [row[0] for row in incidents()] == ["migrations", "overall"]
    assert (stuck._holds, other._holds) == (False, True)


def away_for(world: World, seconds: float, *samplers: Sampler) -> None:
    """Let the database be away for the samplers, who go on looking."""
    world.ready = "database"
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for each in samplers:
            each.look()
        time.sleep(0.02)
    world.ready = "ok"


@pytest.mark.parametrize("survivor", [0, 1])
def test_an_outage_is_filled_in_once_by_whoever_gets_the_lock(
    world: World, samplers: Callable[..., Sampler], survivor: int
) -> None:
    both = [samplers(minute=0.25), samplers(minute=0.25)]
    look(both[0], lambda: len(readings()) == 2)
    both[1].look()
    began = datetime.now(UTC)
    away_for(world, 1.0, *both)
    ended = datetime.now(UTC)
    assert Sample.objects.filter(status="fail").count() == 0
    both[survivor].look()
    both[1 - survivor].look()
    both[survivor].look()

    failed = Sample.objects.filter(status="fail").order_by("at")
    moments = [sample.at for sample in failed]
    assert 4 <= len(moments) <= 6
    assert {later - earlier for earlier, later in pairwise(moments)} == {timedelta(seconds=0.25)}
    assert all(sample.codes == {"database": "no_answer"} for sample in failed)
    assert {sample.milliseconds for sample in failed[1:]} == {None}  # in the first, it did answer before
    assert [(row[0], row[2], row[4]) for row in incidents()] == [("database", "fail", True), ("overall", "fail", True)]
    for row in Incident.objects.all():
        assert row.ended_at is not None
        assert abs(row.began_at - began) < timedelta(seconds=1)
        assert abs(row.ended_at - ended) < timedelta(seconds=1)


def test_what_another_has_written_is_not_written_again(world: World, samplers: Callable[..., Sampler]) -> None:
    """The second was cut off from the database while the first, and the site, were well."""
    first, cut_off = samplers(minute=0.25), samplers(minute=0.25)
    look(first, lambda: len(readings()) == 2)
    away_for(world, 0.6, cut_off)
    first.look()
    first._session.close()
    cut_off.look()
    assert cut_off._holds
    assert incidents() == []
    assert {status for status, _codes in samples()} == {"pass"}


def test_what_was_bad_before_an_outage_stays_one_incident(world: World, samplers: Callable[..., Sampler]) -> None:
    sampler = samplers()
    world.found["site"] = WARN
    look(sampler, lambda: readings().get(("site", "")) == "warn")
    away_for(world, 0.1, sampler)
    sampler.look()
    assert [(row[0], row[4]) for row in incidents()] == [("overall", False), ("site", False), ("database", True)]


def test_what_a_check_found_in_an_outage_is_not_told_afterwards(
    world: World, samplers: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler, begun, hold = samplers(), Event(), Event()

    def unlucky() -> Result:
        begun.set()
        hold.wait(10)
        return Result(Status.FAIL, "no_answer")

    check = Check(name="site", label="Site", run=unlucky, every=3600)
    monkeypatch.setattr(registry, "_checks", {"site": check})
    sampler.look()
    assert begun.wait(10)
    away_for(world, 0.05, sampler)
    hold.set()
    look(sampler, lambda: ("site", "") in readings())  # it was run again, not after an hour
    assert Reading.objects.get(check_name="site").at > Incident.objects.get(check_name="database").began_at


def test_a_clock_that_is_put_back_after_an_outage_costs_no_reading(
    world: World, samplers: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=3)

    sampler = samplers()
    with monkeypatch.context() as patched:
        patched.setattr("healthcheck.sampler.datetime", Ahead)
        away_for(world, 0.05, sampler)
    look(sampler, lambda: ("site", "") in readings())


def test_a_long_outage_does_not_fill_the_memory(
    world: World, samplers: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sampler, "_KEPT", 5)
    kept = samplers(minute=0.01)
    away_for(world, 0.3, kept)
    assert len(kept._observed) == 5


def test_there_is_a_log_line_for_each_change_and_none_for_the_rest(
    world: World, samplers: Callable[..., Sampler]
) -> None:
    sampler = samplers(minute=0.1)
    with capture_logs() as lines:
        look(sampler, lambda: len(readings()) == 2)
        away_for(world, 0.3, sampler)
        for _look in range(5):
            sampler.look()
    changes = [line for line in lines if line["event"] == "health.changed"]
    assert [(line["status"], line["codes"], line["log_level"]) for line in changes] == [
        ("fail", {"database": "no_answer"}, "warning"),
        ("pass", {}, "info"),
    ]


def test_what_goes_wrong_does_not_end_it_and_is_told_once(
    world: World, samplers: Callable[..., Sampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    running = samplers(look_every=0.01)
    looks: list[int] = []

    def broken(*arguments: object) -> None:
        looks.append(1)
        raise ZeroDivisionError("of a check")

    monkeypatch.setattr(sampler, "judged", broken)
    with capture_logs() as lines:
        running.start()
        wait_until(lambda: len(looks) > 5, "it has looked again", seconds=10)
        monkeypatch.undo()
        began = time.monotonic()
        running.stop()
    assert time.monotonic() - began < 2
    assert [line["error"] for line in lines if line["event"] == "sampler.failed"] == ["ZeroDivisionError"]
    assert not running._session.is_open
