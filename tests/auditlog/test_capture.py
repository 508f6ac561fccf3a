"""Every path by which a row is written leaves exactly the records that `paths` promises, with or without signals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.core.signals import got_request_exception, request_finished, request_started
from django.db import connection
from django.db.backends.signals import connection_created
from django.db.models.signals import m2m_changed, post_delete, post_init, post_save, pre_delete, pre_init, pre_save
from pytest_django.plugin import DjangoDbBlocker

from auditlog import Actor
from auditlog.signals import failed, recorded, writing, written
from tests.auditlog.paths import DOORS, PATHS, VISITOR, Written
from tests.auditlog.world import Entry, Trail, actor_of, as_ada, committed_world

SIGNALS = [
    pre_init, post_init, pre_save, post_save, pre_delete, post_delete, m2m_changed, writing, written, failed, recorded,
    request_started, request_finished, got_request_exception, user_logged_in, user_logged_out, user_login_failed,
    connection_created,
]  # fmt: skip


@pytest.fixture(autouse=True)
def world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock(), committed_world():
        yield


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_each_path_leaves_exactly_the_records_it_promises(path: Written) -> None:
    trail = Trail()
    with as_ada():
        path.do()
    assert in_order(path, trail.entries()) == in_order(path, path.expected)


@pytest.mark.parametrize("path", DOORS, ids=lambda path: path.name)
def test_each_door_says_who_came_through_it(path: Written) -> None:
    trail = Trail()
    path.do()
    assert trail.entries() == [known(entry) for entry in path.expected]


@pytest.mark.parametrize("path", [*PATHS, *DOORS], ids=lambda path: path.name)
def test_without_any_signal_each_path_leaves_the_same_values(path: Written) -> None:
    trail = Trail()
    with no_signals(), as_ada():
        path.do()
    entries = in_order(path, trail.entries())
    assert [unsaid(entry) for entry in entries] == [unsaid(entry) for entry in in_order(path, path.expected)]
    for entry in entries:
        assert (entry.actor.kind, entry.origin) in {("database", "sql"), ("database", "outside")}


@contextmanager
def no_signals() -> Iterator[None]:
    """No receiver of anybody hears anything, on connections that are made meanwhile."""
    connection.close()
    kept = [(signal, signal.receivers) for signal in SIGNALS]
    try:
        for signal in SIGNALS:
            signal.receivers = []
            signal.sender_receivers_cache.clear()
        yield
    finally:
        for signal, receivers in kept:
            signal.receivers = receivers
            signal.sender_receivers_cache.clear()
        connection.close()


def in_order(path: Written, entries: list[Entry]) -> list[Entry]:
    return entries if path.in_order else sorted(entries, key=repr)


def known(entry: Entry) -> Entry:
    return entry.by(actor_of()) if entry.actor == VISITOR else entry


def unsaid(entry: Entry) -> Entry:
    """What the database knows by itself: all but who acts, and whether the application took a door or its own SQL."""
    origin = entry.origin if entry.origin == "outside" else "sql"
    return replace(entry, origin=origin, actor=Actor("database"))
