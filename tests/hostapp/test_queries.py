"""The history of queries, what is popular in it, and when it is forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from accounts import exporting, life_cycle
from accounts.models import User
from auditlog.models import Record
from config import retention, schedule
from config.database.roles import owner_connection
from config.database_views import refresh, refreshed_at
from tests.factories import UserFactory
from tests.hostapp.queries import services
from tests.hostapp.queries.models import Kind, PopularQuery, Query, Status
from tests.live import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.hostapp.urls")]
VIEW = "queries_popular"


def query(owner: User, text: str, *, days: float = 0, milliseconds: int = 10) -> Query:
    at = timezone.now() - timedelta(days=days)
    return Query(
        owner=owner, text=text, kind=Kind.SEARCH, status=Status.OK, milliseconds=milliseconds, at=at
    )  # fmt: skip


def test_a_page_shows_ones_own_queries_only(browser: Client, owner: User, colleague: User) -> None:
    services.remember(owner, "what I asked", kind=Kind.REPORT, status=Status.FAILED, milliseconds=1234)
    services.remember(colleague, "what they asked", kind=Kind.SEARCH, status=Status.OK, milliseconds=5)
    page = browser.get("/host/queries/").content.decode()
    assert "what I asked" in page and "1234" in page
    assert "what they asked" not in page
    assert browser.get("/host/queries/?older=nonsense").status_code == 200


def test_the_trail_keeps_the_words_apart_for_who_is_erased(owner: User, colleague: User) -> None:
    services.remember_many([query(owner, "how to leave"), query(colleague, "how to stay")])
    record = Record.objects.get(resource="queries.query", personal__new__text="how to leave")
    assert (record.origin, record.object_label, "text" in (record.new or {})) == ("bulk", "search", False)
    assert [one["text"] for one in exporting._parts["queries"](owner)] == ["how to leave"]
    life_cycle.erase(owner, acting_user=None)
    assert [one.text for one in Query.objects.all()] == ["how to stay"]
    trail = repr([(record.before, record.after) for record in Record.objects.filter(resource="queries.query")])
    assert "how to stay" in trail and "how to leave" not in trail


def test_they_are_kept_for_90_days(owner: User) -> None:
    services.remember_many([query(owner, "young", days=89.9), query(owner, "old", days=90.1)])
    assert retention.summary(retention.clean_up([retention.rules()["queries"]])) == {"queries": 1}
    assert [one.text for one in Query.objects.all()] == ["young"]
    gone = Record.objects.get(resource="queries.query", action="delete")
    assert (gone.before["text"], gone.reason) == ("old", "kept long enough")


# What is popular


@pytest.fixture
def asked(transactional_db: None) -> Iterator[list[User]]:
    """Three people who ask the same, two who ask something else, and one who asks it often."""
    people = [UserFactory.create() for _person in range(3)]
    weeks = [(1, 8), (2, 9), (3, 10)]
    services.remember_many(
        [
            *(query(person, "weather", days=day, milliseconds=day) for person in people for day in (1, 2, 8)),
            *(query(person, "new", days=day) for person in people for day in (1, 3)),
            *(query(person, "old", days=day) for person, days in zip(people, weeks, strict=True) for day in days * 3),
            *(query(person, "of two", days=1) for person in people[:2]),
            *(query(people[0], "of one", days=1) for _time in range(50)),
        ]
    )
    yield people
    Query.objects.all().delete()
    refresh(VIEW)  # it outlives what it was counted from


@pytest.mark.django_db(transaction=True, databases=["default", "direct"])
def test_what_three_people_ask_is_counted_beside_its_readers(asked: list[User]) -> None:
    (keep_fresh,) = [work for work in schedule._work if work.__name__ == f"keep_{VIEW}_fresh"]
    Query.objects.filter(text="weather", milliseconds=2).update(milliseconds=5)
    assert not keep_fresh()  # it was counted when it was made, or after
    _age()
    with transaction.atomic():
        assert list(PopularQuery.objects.popular()) == []  # and this reader's lock on the view is held to the end
        at_once([keep_fresh])
    found = [(one.text, one.runs, one.runs_before, one.people) for one in PopularQuery.objects.popular()]
    assert found == [("old", 9, 9, 3), ("new", 6, 0, 3), ("weather", 6, 3, 3)]
    assert [one.text for one in PopularQuery.objects.trending()] == ["new", "weather"]
    assert PopularQuery.objects.get(text="weather").median_milliseconds == 3  # of 1, 1, 1, 5, 5 and 5
    since = refreshed_at(VIEW)
    assert since is not None and timezone.now() - since < timedelta(minutes=5)
    assert not keep_fresh()


def _age() -> None:
    """Let it be 16 minutes since the view was counted."""
    past = (timezone.now() - timedelta(minutes=16)).isoformat()
    with owner_connection() as owner, owner.cursor() as cursor:
        cursor.execute(f"COMMENT ON MATERIALIZED VIEW {VIEW} IS %s", [past])


def test_the_page_shows_what_is_popular(browser: Client) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = %s", [VIEW])
        assert cursor.fetchall() == [
            ("CREATE UNIQUE INDEX queries_popular_key ON public.queries_popular USING btree (text, kind)",)
        ]
    assert "Popular this week" in browser.get("/host/queries/").content.decode()
