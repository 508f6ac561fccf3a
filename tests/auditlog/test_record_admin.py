"""The trail in the admin: the list with its filters, a record's page, and that nobody writes there."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django.fixtures import Settings

from accounts.models import User
from auditlog import acting_as, reading
from auditlog.describing import name_actions
from auditlog.events import record
from auditlog.models import Record
from auditlog.reading import PAGE
from tests.auditlog.conftest import browser_of, text_of
from tests.factories import UserFactory
from tests.hostapp.models import Tag, Thing

pytestmark = pytest.mark.django_db
LIST = "/admin/auditlog/record/"


def newest(**about: Any) -> Record:
    found = Record.objects.filter(**about).order_by("-id").first()
    assert found is not None
    return found


def page_of(one: Record, more: str = "change/") -> str:
    return f"{LIST}{one.pk}/{more}"


def listed(browser: Client, **filters: Any) -> list[str]:
    """The labels of the objects that the list shows under these filters."""
    answer = browser.get(LIST, filters)
    assert answer.status_code == 200
    return [one.object for one in answer.context["records"] if one.record.action != "read"]


def reads() -> list[dict[str, Any]]:
    return [one.new for one in Record.objects.filter(action="read").order_by("id")]


def test_the_list_shows_who_did_what_to_what_from_where(keepers_browser: Client, keeper: User) -> None:
    ada = UserFactory.create(username="ada")
    with acting_as(keeper, on_behalf_of=ada):
        Tag.objects.create(name="red <b>")
    keepers_browser.get(LIST)
    page = keepers_browser.get(LIST).content.decode()
    for text in ("keeper", "on behalf of ada", "created", "red &lt;b&gt;", "trail-added", "192.0.2.7"):
        assert text in page
    assert "red <b>" not in page


def test_a_list_without_records_says_so(keepers_browser: Client) -> None:
    assert "No record matches." in keepers_browser.get(LIST, {"action": "purge"}).content.decode()


def test_each_filter_narrows_the_list(keepers_browser: Client, keeper: User) -> None:
    ada = UserFactory.create(username="ada")
    with acting_as(ada):
        red = Tag.objects.create(name="red")
    Thing.objects.create(name="one").delete()
    browser_of(ada).get("/accounts/profile/")
    keepers_browser.post("/accounts/profile/", {"full_name": "Kay", "version": 1})
    made, saved = newest(object_label="red"), newest(object_label="keeper", action="update")
    red_only = [
        {"actor": "ADA", "resource": "hostapp.tag"},
        {"actor": str(ada.pk), "action": "create", "resource": "hostapp.tag"},
        {"resource": "hostapp.tag"},
        {"resource": "hostapp.tag", "object": str(red.pk)},
        {"q": str(made.pk), "resource": "hostapp.tag"},
        {"since": made.at.strftime("%Y-%m-%d %H:%M:%S.%f"), "resource": "hostapp.tag"},
    ]
    for filters in red_only:
        assert listed(keepers_browser, **filters) == ["red"], filters
    assert listed(keepers_browser, action="delete") == ["one"]
    assert listed(keepers_browser, request=str(saved.request)) == ["keeper"]
    assert listed(keepers_browser, address="192.0.2.7", action="update") == ["keeper"]
    assert listed(keepers_browser, origin="bulk", resource="hostapp.tag") == []
    assert listed(keepers_browser, until=made.at.strftime("%Y-%m-%d %H:%M:%S.%f"), resource="hostapp.tag") == []
    assert "red" in listed(keepers_browser, transaction=f"{made.epoch}.{made.transaction}")
    assert listed(keepers_browser, transaction=f"{made.epoch + 1}.{made.transaction}") == []


def test_a_moment_is_read_in_utc_whatever_the_sites_time_zone(keepers_browser: Client, settings: Settings) -> None:
    Tag.objects.create(name="red")
    settings.TIME_ZONE = "America/New_York"
    at = newest(object_label="red").at.strftime("%Y-%m-%d %H:%M:%S.%f")
    assert listed(keepers_browser, since=at, resource="hostapp.tag") == ["red"]
    assert listed(keepers_browser, until=at, resource="hostapp.tag") == []


@pytest.mark.parametrize(
    "filters",
    [
        {"request": "x"},
        {"address": "999.1.1.1"},
        {"since": "yesterday"},
        {"transaction": "1"},
        {"transaction": "9999999999999999999.1"},
        {"action": "no_such"},
        {"object": "1"},
        {"q": "x" * 300},
    ],
)
def test_a_filter_that_makes_no_sense_is_explained_and_finds_nothing(
    keepers_browser: Client, filters: dict[str, str]
) -> None:
    answer = keepers_browser.get(LIST, filters)
    assert answer.status_code == 200
    assert b"errorlist" in answer.content
    assert answer.context["records"] == []


@pytest.mark.parametrize(
    "query", ["older=x", "newer=1-1", "oldest=", "q=%F0%9F%99%88", "username__regex=[", "p=-1&all=&o=9.9", "q='%22--"]
)
def test_odd_questions_are_answered(keepers_browser: Client, query: str) -> None:
    assert keepers_browser.get(f"{LIST}?{query}").status_code == 200


def test_the_filters_offer_the_events_that_other_apps_have_named(keepers_browser: Client) -> None:
    name_actions({"gate_opened": "opened the gate"})
    record("gate_opened", "gate", label="north")
    assert listed(keepers_browser, action="gate_opened") == ["north"]
    assert "opened the gate" in keepers_browser.get(LIST).content.decode()


def test_pages_keep_the_filters(keepers_browser: Client) -> None:
    Tag.objects.bulk_create(Tag(name=f"tag {number:03}") for number in range(PAGE + 1))
    first = keepers_browser.get(LIST, {"resource": "hostapp.tag"})
    assert len(first.context["records"]) == PAGE
    older = f"?resource=hostapp.tag&amp;older={first.context['page'].older}"
    assert older in first.content.decode()
    second = keepers_browser.get(LIST + older.replace("&amp;", "&"))
    assert [one.object for one in second.context["records"]] == ["tag 000"]


def test_a_list_of_a_full_page_costs_as_many_queries_as_one_of_a_single_record(keepers_browser: Client) -> None:
    def cost() -> int:
        with CaptureQueriesContext(connection) as asked:
            keepers_browser.get(LIST, {"resource": "hostapp.thing"})
        return len(asked)

    Thing.objects.create(name="one")
    cost()  # the session, content types
    alone = cost()
    Thing.objects.bulk_create(Thing(name=str(number)) for number in range(PAGE))
    assert cost() == alone


def test_nothing_is_counted(keepers_browser: Client) -> None:
    with CaptureQueriesContext(connection) as asked:
        keepers_browser.get(LIST)
    assert [query["sql"] for query in asked if "COUNT(" in query["sql"].upper()] == []


# A record's page


def test_a_records_page_shows_who_what_when_from_where_and_why(keepers_browser: Client, keeper: User) -> None:
    ada = UserFactory.create(username="ada", full_name="Ada <i>")
    with acting_as(keeper, on_behalf_of=ada, reason="she asked"):
        ada.full_name, ada.is_active = "Ada L.", False
        ada.save()
    found = newest(object_label="ada", action="update")
    page = text_of(keepers_browser.get(page_of(found)))
    assert f'title="{found.at:%Y-%m-%d %H:%M:%S.%f} UTC"' in page
    for text in (
        "keeper",
        "on behalf of ada",
        "she asked",
        "<del>Ada &lt;i&gt;</del>",
        "<ins>Ada L.</ins>",
        "<del>yes</del>",
        "<ins>no</ins>",
        f"/admin/accounts/user/{ada.pk}/change/",
        f"{LIST}{found.pk}/history/",
        f"?transaction={found.epoch}.{found.transaction}",
        f"?actor={keeper.pk}",
    ):
        assert text in page, text


def test_a_browsers_name_is_escaped_bounded_and_on_one_line(keeper: User) -> None:
    browser = browser_of(keeper)
    browser.post("/accounts/profile/", {"full_name": "Kay", "version": 1}, HTTP_USER_AGENT="<script>\t" + "x" * 400)
    found = newest(action="update", object_label="keeper")
    page = browser.get(page_of(found)).content.decode()
    assert "&lt;script&gt;\\x09xxx" in page
    assert "x" * 300 not in page
    assert f"?request={found.request}" in page


def test_a_record_outlives_its_object_and_its_actor(keepers_browser: Client) -> None:
    ada = UserFactory.create(username="ada")
    with acting_as(ada):
        tag = Tag.objects.create(name="red")
    ada.groups.clear()
    ada.delete()
    tag.delete()
    page = keepers_browser.get(page_of(newest(object_label="red", action="create"))).content.decode()
    assert "ada" in page
    assert "red" in page


@pytest.mark.parametrize("key", ["0", "x", "9" * 30, "-1", "1/2", "_00"])
@pytest.mark.parametrize("more", ["change/", "history/", "restore/"])
def test_a_record_that_is_not_there_leads_back_to_the_list(keepers_browser: Client, key: str, more: str) -> None:
    answer = keepers_browser.get(f"{LIST}{key}/{more}")
    assert answer.status_code in (302, 400)
    if answer.status_code == 302:
        assert answer["Location"].startswith("/admin/")


def test_a_secret_is_on_no_page(keepers_browser: Client) -> None:
    ada = UserFactory.create(username="ada")
    found = newest(object_label="ada", action="create")
    for path in (LIST, page_of(found), page_of(found, "history/"), f"/admin/accounts/user/{ada.pk}/history/"):
        page = keepers_browser.get(path).content.decode()
        assert ada.password not in page
        assert found.after["password"]["masked"] not in page
    assert "not shown" in keepers_browser.get(page_of(found)).content.decode()


# Who may, and what is kept of it


def test_only_who_may_read_the_trail_sees_it(auditors_browser: Client, supports_browser: Client) -> None:
    Tag.objects.create(name="red")
    path = page_of(newest(object_label="red"))
    assert [auditors_browser.get(each).status_code for each in (LIST, path)] == [200, 200]
    assert [supports_browser.get(each).status_code for each in (LIST, path)] == [403, 403]
    assert Client().get(LIST).status_code == 302


def test_nobody_writes_there(keepers_browser: Client) -> None:
    Tag.objects.create(name="red")
    found = newest(object_label="red")
    before = Record.objects.count()
    assert keepers_browser.get(f"{LIST}add/").status_code == 403
    assert keepers_browser.post(f"{LIST}add/", {"action": "x"}).status_code == 403
    assert keepers_browser.post(page_of(found, "delete/"), {"post": "yes"}).status_code == 403
    assert keepers_browser.post(LIST, {"action": "delete_selected", "_selected_action": found.pk}).status_code == 200
    assert keepers_browser.post(page_of(found), {"action": "x"}).status_code == 200
    assert Record.objects.exclude(action="read").count() == before
    assert newest(pk=found.pk).action == "create"


def test_each_look_is_recorded_once_with_what_was_asked(auditors_browser: Client) -> None:
    Tag.objects.create(name="red")
    found = newest(object_label="red")
    for path in (f"{LIST}?resource=hostapp.tag", page_of(found), page_of(found, "history/")):
        auditors_browser.get(path)
    assert reads() == [
        {"page": "list", "resource": "hostapp.tag"},
        {"page": "record", "record": found.pk},
        {"page": "history", "resource": "hostapp.tag", "object": found.object_id},
    ]
    (first, *_rest) = Record.objects.filter(action="read").order_by("id")
    assert (first.actor_label, first.address, first.origin) == ("auditor", "192.0.2.7", "event")


def test_moments_are_read_in_the_order_of_ids(keepers_browser: Client) -> None:
    for name in ("a", "b", "c"):
        Tag.objects.create(name=name)
    assert listed(keepers_browser, resource="hostapp.tag") == ["c", "b", "a"]
    assert reading.newest(reading.Query()).records[0].action == "read"
