"""What looking for people costs at the server when there are a million of them, or as many as ``SIZE`` says."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from time import perf_counter

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from config import dashboard
from config.paging import CappedPaginator
from tests.bench.figures import Figure
from tests.bench.people import SELDOM_NAME, SIZE, name_of

START = "/admin/"
LIST = "/admin/accounts/user/"
TURNS = 5
MOST_OF_A_PAGE = 100.0  # milliseconds
_INDEXES = """
SELECT relname, pg_relation_size(oid) FROM pg_class
WHERE relname IN ('accounts_user_full_name', 'accounts_user_family_name') ORDER BY relname
"""


def page_times() -> list[Figure]:
    """Planning and execution of every statement of a page of the admin, by the server's own clock.

    The table is full of people already (`accounts_at_scale.fill`).
    """
    browser = Client()
    browser.force_login(User.objects.create_superuser("keeper", "keeper@example.com"))
    somebody = User.objects.get(username=name_of(SIZE // 2))
    last = CappedPaginator.COUNT_CAP // 50
    pages = {
        "list": "",
        "list, page 100": "?p=100",
        f"list, last page ({last})": f"?p={last}",
        "list, oldest first": "?o=7",
        "list of the active": "?state=active",
        "list of the deactivated": "?state=deactivated",
        "list of who will be erased": "?state=scheduled",
        "list of the erased": "?state=erased",
        "list of staff": "?is_staff__exact=1",
        "search of a username": f"?q={somebody.username}",
        "search of the beginning of many usernames": "?q=anna.",
        "search of an address": f"?q={somebody.email}",
        "search of one letter": "?q=a",
        "search of a full name": f"?q={SELDOM_NAME}",
        "search of the beginning of many full names": "?q=Anna+S",
        "search of a family name that many have": "?q=Schmidt",
        "search of a name among the deactivated": "?q=Schmidt&state=deactivated",
        "search of a name among staff": "?q=Schmidt&is_staff__exact=1",
        "search of a whole id": f"?q={somebody.pk}",
        "search of what nobody is called": "?q=xxxxxx",
    }
    lists = (_figure(browser, name, LIST + query) for name, query in pages.items())
    return [*start_pages(browser), *lists, *_sizes()]


def start_pages(browser: Client) -> Iterator[Figure]:
    """The first page of the console: its statements, and the whole answer by the clock on the wall.

    The second also has what the health checks ask by connections of their own.
    """
    for days in dashboard.RANGES:
        yield _figure(browser, f"start page of {days} days", f"{START}?days={days}")
    times = []
    for _turn in range(TURNS):
        began = perf_counter()
        browser.get(START)
        times.append(1000 * (perf_counter() - began))
    yield Figure("start page, the whole answer", median(times), "ms", 1)


def _figure(browser: Client, name: str, address: str) -> Figure:
    with CaptureQueriesContext(connection) as asked:
        answer = browser.get(address)
    assert answer.status_code == 200, f"{address}: {answer.status_code}"
    statements = [each["sql"] for each in asked if each["sql"].startswith(("SELECT", "(SELECT"))]
    times = [sum(map(_at_the_server, statements)) for _turn in range(TURNS)]
    return Figure(f"{name} ({len(statements)} statements)", median(times), "ms", 1, at_most=MOST_OF_A_PAGE)


def _at_the_server(statement: str) -> float:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY, FORMAT JSON) {statement}")
        ((plan,),) = cursor.fetchone()
    return float(plan["Planning Time"] + plan["Execution Time"])


def _sizes() -> list[Figure]:
    with connection.cursor() as cursor:
        cursor.execute(_INDEXES)
        return [Figure(f"index {name}, of a person", size / SIZE, "bytes", 0) for name, size in cursor.fetchall()]
