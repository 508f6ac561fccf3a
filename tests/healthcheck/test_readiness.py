"""The verdict that all probes of a process share: one question a second, and nobody waits for more than one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import pytest
from django.db import connections
from pytest_django.fixtures import Settings

from accounts.rehearsal import in_parallel
from healthcheck import readiness as module
from healthcheck.draining import drain, end_drain
from healthcheck.readiness import Readiness
from tests.healthcheck.relay import Relay, be_configured
from tests.live import wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def readiness() -> Iterator[Readiness]:
    made = Readiness()
    yield made
    made.close()


@pytest.fixture
def relay(monkeypatch: pytest.MonkeyPatch) -> Iterator[Relay]:
    with Relay() as made:
        be_configured(monkeypatch, "127.0.0.1", made.port)
        yield made


def wait_for_a_new_question(readiness: Readiness) -> None:
    wait_until(lambda: monotonic() - readiness._asked >= module.SHARED_SECONDS, "the reading is old", seconds=5)


def test_a_drained_host_is_not_ready_from_the_next_probe_on_until_the_drain_ends(
    readiness: Readiness, tmp_path: Path, settings: Settings
) -> None:
    settings.HEALTH_DRAIN_FILE = str(tmp_path / "draining")
    end_drain()  # of a host that is none is no error
    assert readiness.current().code == "ok"
    drain()
    drain()
    assert readiness.current().code == "draining"
    assert readiness.of_database().code == "ok"
    end_drain()
    assert readiness.current().code == "ok"


def test_whoever_asks_without_a_lock_is_never_told_an_old_reading(readiness: Readiness) -> None:
    """Whatever is written first, no moment in between lets an old reading pass for a known one."""
    told: list[float] = []

    class Watched(Readiness):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if hasattr(self, "_last_code") and (reading := self.known()):
                told.append(reading.age)

    watched = Watched()
    assert watched.current().code == "ok"
    watched._reading = replace(watched._reading, taken=monotonic() - 3600)
    watched._asked = monotonic() - 3600
    told.clear()
    assert watched.current().code == "ok"
    assert watched.known()
    watched._asked, watched._is_open = monotonic() - 3600, True
    watched.close()
    assert watched.known() is None
    assert max(told, default=0) < 1


def test_a_question_whose_answer_nobody_came_for_in_time_says_nothing_about_the_database(
    readiness: Readiness, relay: Relay
) -> None:
    assert readiness.current().code == "ok"
    wait_for_a_new_question(readiness)
    readiness._ping.close()  # to connect anew takes several turns, for which somebody has to be there
    relay.silent = True
    assert readiness.current().code == "ok"  # as the last reading has it
    relay.silent = False
    sleep(module.CHECK_SECONDS + 0.1)
    assert readiness.current().code == "ok"


def test_threads_that_wait_share_one_question_and_wait_for_no_second(readiness: Readiness, relay: Relay) -> None:
    relay.silent = True
    began = monotonic()
    readings = in_parallel([readiness.current] * 16)
    assert monotonic() - began < 0.6
    assert {reading.code for reading in readings} == {"database"}
    assert relay.connections == 1


def test_a_probe_does_not_wait_while_the_last_reading_is_good_enough(readiness: Readiness, relay: Relay) -> None:
    assert readiness.current().code == "ok"
    relay.silent = True
    wait_for_a_new_question(readiness)
    began = monotonic()
    assert [readiness.current().code for _ in range(10)] == ["ok"] * 10
    assert monotonic() - began < 0.1
    # A second and a half after the outage began it is told, whoever has to wait for it.
    sleep(max(0.0, readiness._reading.taken + 1.31 - monotonic()))
    assert readiness.current().code == "database"
    # Half a second more for a machine that is busy; without a bound it would be for ever.
    assert module.CHECK_SECONDS - 0.1 <= monotonic() - readiness._asked <= module.CHECK_SECONDS + 0.5
    # From then on nobody waits at all, as long as probes come.
    wait_for_a_new_question(readiness)
    began = monotonic()
    assert {readiness.current().code for _ in range(10)} == {"database"}
    assert monotonic() - began < 0.1


def test_an_outage_costs_one_connection_a_second(readiness: Readiness, relay: Relay) -> None:
    relay.silent = True
    began = monotonic()
    while monotonic() - began < 2.2:
        readiness.current()
        sleep(0.01)
    assert relay.connections == 3


def test_a_server_that_comes_back_is_seen_within_a_second(readiness: Readiness, relay: Relay) -> None:
    relay.silent = True
    assert readiness.current().code == "database"
    relay.silent = False
    wait_until(lambda: readiness.current().code == "ok", "it is ready", seconds=1)


def test_an_answer_that_nobody_fetched_in_time_is_not_believed(readiness: Readiness, relay: Relay) -> None:
    assert readiness.current().code == "ok"
    wait_for_a_new_question(readiness)
    relay.silent = True
    readiness.current()  # asks, and does not wait
    relay.silent = False
    sleep(module.SHARED_SECONDS)  # the answer has come meanwhile
    relay.silent = True
    assert readiness.current().code == "database"


def test_a_database_without_any_table_answers_and_wants_migrations(
    readiness: Readiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = connections["default"].settings_dict
    empty = {"OPTIONS": given["OPTIONS"] | {"options": "-c search_path=nowhere"}}
    monkeypatch.setattr(connections["default"], "settings_dict", given | empty)
    assert readiness.current().code == "migrations"
