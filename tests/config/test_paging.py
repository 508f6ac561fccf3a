"""Pages by key: every row once, in order, whatever comes and goes, and at one statement each."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django.utils.http import urlsafe_base64_encode

from config.paging import Page, page_of
from tests.factories import UserFactory
from tests.hostapp.machines.models import Machine, Metric
from tests.hostapp.models import Word

pytestmark = pytest.mark.django_db
MANY = 10_000
# Ten have the same time, so that the key has to tell them apart.
_FILL = """
INSERT INTO machines_metric (machine_id, at, processor, memory)
SELECT m.id, %s - (n / 10) * interval '1 minute', n %% 100 / 100.0, 0
FROM machines_machine m, generate_series(0, %s) n WHERE m.name = 'm' || n %% 10
"""


@pytest.fixture
def machine(db: None) -> Machine:
    owner = UserFactory.create()
    made: list[Machine] = Machine.objects.bulk_create([Machine(owner=owner, name=f"m{number}") for number in range(10)])
    with connection.cursor() as cursor:
        cursor.execute(_FILL, [timezone.now(), MANY - 1])
    return made[0]


def pages(first: Page[Metric], direction: str) -> list[Page[Metric]]:
    """`first`, and those behind it in that direction."""
    found = [first]
    while place := getattr(found[-1], direction):
        found.append(page_of(Metric.objects.all(), {direction: place}, by="at", size=500))
    return found


def test_ten_thousand_rows_are_walked_forth_and_back_at_a_statement_a_page(
    machine: Machine, django_assert_num_queries: Callable[[int], AbstractContextManager[object]]
) -> None:
    wanted = list(Metric.objects.order_by("-at", "-pk"))
    with django_assert_num_queries(20):
        forth = pages(page_of(Metric.objects.all(), {}, by="at", size=500), "older")
    assert [row.pk for page in forth for row in page.rows] == [row.pk for row in wanted]
    assert all(len(page.rows) == 500 for page in forth) and not forth[0].newer
    with django_assert_num_queries(21):  # the last step finds less than a page, and asks for the first one
        back = pages(page_of(Metric.objects.all(), {"oldest": "1"}, by="at", size=500), "newer")
    assert back[0].older == ""
    assert [page.rows for page in back] == [page.rows for page in reversed(forth)]


def test_a_page_that_would_be_shorter_is_the_first(machine: Machine) -> None:
    rows = Metric.objects.all()
    first = page_of(rows, {}, by="at")
    second = page_of(rows, {"older": first.older}, by="at", size=20)
    assert len(first.rows) == 50
    before = page_of(rows, {"newer": second.newer}, by="at", size=60)
    assert (before.rows[:50], len(before.rows), before.newer) == (first.rows, 60, "")


def test_rows_that_come_and_go_between_two_pages_shift_none(machine: Machine) -> None:
    rows = Metric.objects.all()
    first, wanted = page_of(rows, {}, by="at", size=20), list(rows.order_by("-at", "-pk")[20:40])
    Metric.objects.filter(pk__in=[row.pk for row in first.rows[5:]]).delete()  # the one that the place names, too
    later = timezone.now() + timedelta(minutes=1)
    Metric.objects.create(machine=machine, at=later, processor=0, memory=0)
    assert page_of(rows, {"older": first.older}, by="at", size=20).rows == wanted


def test_by_its_key_alone(machine: Machine) -> None:
    own = Metric.objects.filter(machine=machine)
    first = page_of(own, {}, by="id", size=10)
    second = page_of(own, {"older": first.older}, by="id", size=10)
    assert all(one.pk > other.pk for one, other in pairwise([*first.rows, *second.rows]))


def test_a_page_in_the_middle_is_a_piece_of_an_index(machine: Machine) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE machines_metric")
    middle = pages(page_of(Metric.objects.all(), {}, by="at", size=500), "older")[9]
    for asked in ({"older": middle.older}, {"newer": middle.newer}):
        with CaptureQueriesContext(connection) as captured:
            page_of(Metric.objects.all(), asked, by="at")
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN (ANALYZE) {captured.captured_queries[0]['sql']}")
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert "machines_metric_at" in plan and "Seq Scan" not in plan
        assert sum(map(int, re.findall(r"rows=([0-9]+)[^)]*loops", plan))) < 500, plan


PLACES = [
    "nonsense",
    "x\0y",
    "1\0" + "2026-01-01",
    "1\0",
    "\0",
    "99999999999999999999\0" + "9999-99-99",
    "1\0" + "2026-01-01T00:00:00",
    "\0\0\0",
]


def test_an_odd_place_is_the_first_page(machine: Machine) -> None:
    first = page_of(Metric.objects.all(), {}, by="at")
    for place in [*PLACES, *(urlsafe_base64_encode(place.encode()) for place in PLACES)]:
        for direction in ("older", "newer"):
            assert page_of(Metric.objects.all(), {direction: place}, by="at") == first, place


def test_a_key_may_be_any_text_and_a_place_any_bytes() -> None:
    Word.objects.bulk_create([Word(code=code) for code in ("a", "a~b", "~", "a~")])
    seen: list[str] = []
    place = ""
    while len(seen) < 5 and (place or not seen):
        page = page_of(Word.objects.all(), {"older": place}, by="code", size=1)
        seen += [word.code for word in page.rows]
        place = page.older
    assert seen == list(Word.objects.order_by("-code").values_list("code", flat=True))
    for odd in ("a~b", "a\0b\0c", "\0\0"):
        asked = {"older": urlsafe_base64_encode(odd.encode())}
        assert page_of(Word.objects.all(), asked, by="code") == page_of(Word.objects.all(), {}, by="code"), odd


def test_of_nothing_there_is_an_empty_page() -> None:
    assert (
        page_of(Metric.objects.none(), {"oldest": ""}, by="at")
        == Page([])
        == page_of(Metric.objects.none(), {}, by="at")
    )
