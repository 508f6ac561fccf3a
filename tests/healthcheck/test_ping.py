"""The bounded question: over connections that went stale, to several hosts, and by names that nobody resolves."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from time import monotonic

import pytest
from django.db import connections

from healthcheck import addresses
from healthcheck.ping import NoAnswer, Ping
from healthcheck.session import Session
from tests.healthcheck.relay import Relay, be_configured
from tests.live import free_port, wait_until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def relay() -> Iterator[Relay]:
    with Relay() as made:
        yield made


@pytest.fixture
def ping() -> Iterator[Ping]:
    made = Ping()
    yield made
    made.close()


def sessions(asking: str) -> int:
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query = %s", [asking])
        return int(cursor.fetchone()[0])


def seconds_of(ping: Ping, seconds: float) -> float:
    began = monotonic()
    assert ping.ask("SELECT 1", seconds) == [(1,)]
    return monotonic() - began


def test_a_kept_connection_that_was_ended_is_opened_again(ping: Ping) -> None:
    ((pid,),) = ping.ask("SELECT pg_backend_pid()", 5)
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s)", [pid])
    assert ping.ask("SELECT 1", 5) == [(1,)]


def test_a_kept_connection_is_used_again(ping: Ping) -> None:
    assert ping.ask("SELECT pg_backend_pid()", 5) == ping.ask("SELECT pg_backend_pid()", 5)


def test_a_kept_connection_that_went_silent_is_replaced_within_the_deadline(
    ping: Ping, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_configured(monkeypatch, "127.0.0.1", relay.port)
    assert ping.ask("SELECT 1", 5) == [(1,)]
    relay.forget_connections()
    assert 0.25 <= seconds_of(ping, 0.5) < 0.5
    assert relay.connections == 2


def test_a_slow_answer_is_no_answer_and_leaves_nothing(ping: Ping) -> None:
    before = len(os.listdir("/proc/self/fd"))
    question = "SELECT pg_sleep(2) /* and nobody waits */"
    began = monotonic()
    with pytest.raises(NoAnswer, match="TimeoutError"):
        ping.ask(question, 0.1)
    assert 0.1 <= monotonic() - began < 0.2
    assert len(os.listdir("/proc/self/fd")) == before
    wait_until(lambda: sessions(question) == 0, "the server ends the session")
    assert ping.ask("SELECT 1", 5) == [(1,)]


def test_a_question_that_the_server_refuses_costs_no_connection(ping: Ping) -> None:
    ((pid,),) = ping.ask("SELECT pg_backend_pid()", 5)
    with pytest.raises(NoAnswer, match="UndefinedTable"):
        ping.ask("SELECT * FROM not_there", 5)
    assert ping.ask("SELECT pg_backend_pid()", 5) == [(pid,)]


def test_an_answer_that_is_not_there_yet_can_be_fetched_later(ping: Ping) -> None:
    ping.begin("SELECT 1, pg_sleep(0.2)", 5)
    assert ping.answer(patience=0.01) is None
    assert ping.answer(patience=5) == [(1, "")]


@pytest.mark.parametrize("first", ["silent", "refusing"])
def test_a_dead_host_before_the_living_one_does_not_use_up_the_deadline(
    first: str, ping: Ping, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Relay() as silent:
        silent.silent = True
        dead = silent.port if first == "silent" else free_port()
        be_configured(monkeypatch, "127.0.0.1,127.0.0.1", f"{dead},{relay.port}")
        assert seconds_of(ping, 0.5) < 0.5
    assert relay.connections == 1


def test_a_name_leads_to_each_of_its_addresses(ping: Ping, relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    be_configured(monkeypatch, "localhost", relay.port)
    assert ping.ask("SELECT 1", 5) == [(1,)]


def test_a_resolver_that_hangs_costs_a_moment_and_no_more_than_one_thread(
    ping: Ping, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_configured(monkeypatch, "localhost", relay.port)
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30) and [])
    threads = threading.active_count()
    began = monotonic()
    for _ in range(4):
        with pytest.raises(NoAnswer):
            ping.ask("SELECT 1", 0.5)
    assert monotonic() - began < 0.5
    assert threading.active_count() == threads + 1
    over.set()
    wait_until(lambda: threading.active_count() == threads, "the thread ends with the resolver", seconds=5)


def test_a_session_of_ones_own_waits_for_no_resolver_and_tries_each_address_in_turn(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()
    be_configured(monkeypatch, "127.0.0.1,localhost", f"1,{relay.port}")
    session = Session("default", "tests")
    with monkeypatch.context() as hanging:
        hanging.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30) and [])
        began = monotonic()
        with pytest.raises(NoAnswer):
            session.ask("SELECT 1", seconds=0.5)
        assert monotonic() - began < 0.5
        over.set()
    wait_until(lambda: answers(session), "another address is tried", 3)
    session.close()


def answers(session: Session) -> bool:
    try:
        return session.ask("SELECT 1", seconds=0.5) == [(1,)]
    except NoAnswer:
        return False


def test_while_the_resolver_hangs_the_last_known_addresses_hold(
    ping: Ping, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    be_configured(monkeypatch, "localhost", relay.port)
    assert ping.ask("SELECT 1", 5) == [(1,)]
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(30) and [])
    relay.forget_connections()
    assert seconds_of(ping, 0.5) < 0.5
    over.set()


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("", "", [("", "", None)]),
        ("/run/a,/run/b", "5432", [("/run/a", "5432", None), ("/run/b", "5432", None)]),
        ("10.0.0.1,::1", "1,2", [("10.0.0.1", "1", None), ("::1", "2", None)]),
        ("nobody.invalid", "1", []),
    ],
)
def test_hosts_are_taken_one_by_one(host: str, port: str, expected: list[tuple[str, str, str | None]]) -> None:
    found = addresses.Addresses().targets({"host": host, "port": port})
    assert [(each["host"], each["port"], each.get("hostaddr")) for each in found] == expected
