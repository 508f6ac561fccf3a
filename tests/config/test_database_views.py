"""Views of the database that migrations make: with whose rights they show what, and that they can be taken back."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, migrations
from django.db.migrations.state import ProjectState
from django.utils import timezone

from config.database.roles import as_owner
from config.database_views import CreateView, DropView, refreshed_at

NAME = "a view's name"
PLAIN = {"name": NAME, "sql": "SELECT 7 AS number, '100%' AS share"}
COUNTED: dict[str, Any] = PLAIN | {"materialised": True, "unique": ["number", "share"]}
_FOUND = "SELECT relkind, reloptions FROM pg_class WHERE relname = %s"


@pytest.fixture
def owner(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Whoever migrates; nothing of it stays."""
    with django_db_blocker.unblock(), as_owner():
        connection.set_autocommit(False)
        yield
        connection.rollback()
        connection.set_autocommit(True)


def apply(operation: CreateView, *, backwards: bool = False) -> None:
    migration = type("Migration", (migrations.Migration,), {"operations": [operation]})("0001_test", "tasks")
    with connection.schema_editor(atomic=False) as editor:
        move = migration.unapply if backwards else migration.apply
        move(ProjectState(), editor)


def found() -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(_FOUND, [NAME])
        return list(cursor.fetchall())


@pytest.mark.parametrize(
    ("options", "kind"), [(PLAIN, ("v", ["security_invoker=true"])), (COUNTED, ("m", None))], ids=["plain", "counted"]
)
def test_a_view_is_made_and_taken_back_and_taken_away_and_given_back(owner: None, options: Any, kind: Any) -> None:
    create, drop = CreateView(**options), DropView(**options)
    for operation, backwards, is_there in (
        (create, False, True),
        (create, True, False),
        (drop, True, True),
        (drop, False, False),
    ):
        apply(operation, backwards=backwards)
        assert found() == ([kind] if is_there else [])
    assert (create.describe(), drop.describe()) == (f"Create the view {NAME}", f"Drop the view {NAME}")


def test_a_counted_view_knows_since_when_and_has_an_index_to_be_refreshed_by(owner: None) -> None:
    apply(CreateView(**COUNTED))
    since = refreshed_at(NAME)
    assert since is not None and timezone.now() - since < timedelta(minutes=5)
    with connection.cursor() as cursor:
        cursor.execute(f'REFRESH MATERIALIZED VIEW CONCURRENTLY "{NAME}"')
        cursor.execute(f'SELECT * FROM "{NAME}"')  # noqa: S608 - a name of ours
        assert cursor.fetchall() == [(7, "100%")]


@pytest.mark.parametrize("options", [PLAIN | {"materialised": True}, PLAIN | {"unique": ["number"]}])
def test_what_could_not_be_refreshed_is_refused(options: Any) -> None:
    with pytest.raises(ValueError, match="unique columns"):
        CreateView(**options)
