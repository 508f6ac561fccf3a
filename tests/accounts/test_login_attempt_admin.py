"""Login attempts in the admin console, and unlocking people there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import LoginAttempt, User
from auditlog.models import Record
from tests.accounts.conftest import failures, let_pass, sign_in, text_of
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/loginattempt/"
USERS = "/admin/accounts/user/"
ELSEWHERE = {"REMOTE_ADDR": "2001:db8::1"}


def listed(browser: Client, query: str = "") -> list[Any]:
    response = browser.get(LIST + query)
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def unlock(browser: Client, *users: User) -> str:
    fields = {"action": "unlock", "_selected_action": [str(user.pk) for user in users], "index": "0"}
    return text_of(browser.post(USERS, fields, follow=True))


@pytest.fixture
def supporter(db: None) -> Client:
    """A browser of staff who may change members and look at attempts, but is no superuser."""
    user = UserFactory.create(username="supporter", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=["change_user", "view_user", "view_loginattempt"]))
    browser = Client()
    browser.force_login(user)
    return browser


def test_it_shows_who_was_tried_from_where_newest_first_and_who_is_locked(admins_browser: Client, owner: User) -> None:
    failures(Client(), 1, "nobody", **ELSEWHERE)
    failures(Client(), 5)
    page = text_of(admins_browser.get(LIST))
    rows = listed(admins_browser)
    assert [row.account for row in rows] == [str(owner.pk)] * 5 + ["name:nobody"]
    assert "name:" not in page
    assert [row.locked_until is not None for row in rows] == [True] * 5 + [False]
    assert f'<a href="{USERS}{owner.pk}/change/">owner</a>' in page
    assert "2001:db8::/64" in page


def test_a_late_page_looks_for_the_locks_of_its_own_rows_only(admins_browser: Client) -> None:
    # A lock costs half a millisecond a row; on the way to the last page of an attack that is seconds.
    LoginAttempt.objects.bulk_create(
        LoginAttempt(account=f"nobody-{number % 40}", network="192.0.2.1", device="") for number in range(200)
    )
    with CaptureQueriesContext(connection) as seen:
        rows = listed(admins_browser, "?p=3")
    assert [row.locked_until is not None for row in rows] == [True] * 50
    assert [query["sql"] for query in seen if "OFFSET" in query["sql"] and "locked_until" in query["sql"]] == []


@pytest.mark.parametrize(
    ("limit", "tries"),
    [
        ("LOGIN_FAILURE_LIMIT", [("owner", "192.0.2.1")] * 4),
        ("LOGIN_FAILURES_PER_ACCOUNT", [("owner", f"192.0.2.{number}") for number in range(4)]),
        ("LOGIN_FAILURES_PER_NETWORK", [(f"nobody-{number}", "192.0.2.1") for number in range(4)]),
    ],
)
def test_locked_now_lists_one_try_for_every_lock_that_stands(
    admins_browser: Client, owner: User, settings: Any, limit: str, tries: list[tuple[str, str]]
) -> None:
    setattr(settings, limit, 4)
    failures(Client(), 3, "somebody", REMOTE_ADDR="198.51.100.1")
    for name, address in tries:
        assert failures(Client(), 1, name, REMOTE_ADDR=address) == [422]
    (last,) = listed(admins_browser, "?locked=yes")
    assert last.pk == LoginAttempt.objects.latest("pk").pk
    assert last.locked_until is not None
    let_pass(minutes=30)
    assert listed(admins_browser, "?locked=yes") == []


def test_a_known_browser_that_is_locked_is_listed_too(admins_browser: Client, owner: User) -> None:
    known = Client()
    sign_in(known, "owner")
    known.post("/accounts/logout/")
    failures(known, 2)
    failures(known, 3, **ELSEWHERE)
    (last,) = listed(admins_browser, "?locked=yes")
    assert last.device and last.locked_until is not None


@pytest.mark.parametrize(
    ("term", "found"),
    [
        ("owner", 2),
        ("OWNER@example.com", 2),
        ("own", 0),
        ("nobody", 1),
        ("2001:db8::ffff", 1),
        ("2001:db8::/64", 1),
        ("127.0.0.1", 2),
        ("%00", None),
    ],
)
def test_it_is_searched_by_whole_names_and_networks(
    admins_browser: Client, owner: User, term: str, found: int | None
) -> None:
    failures(Client(), 2)
    failures(Client(), 1, "nobody", **ELSEWHERE)
    response = admins_browser.get(f"{LIST}?q={term}")
    assert (response.status_code, found) == (400, None) or len(response.context["cl"].result_list) == found


def test_fifty_rows_take_as_many_queries_as_one(
    admins_browser: Client, owner: User, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    LoginAttempt.objects.bulk_create(
        LoginAttempt(account=str(UserFactory.create().pk), network="192.0.2.1", device="") for _row in range(50)
    )
    with django_assert_max_num_queries(7):
        assert len(listed(admins_browser)) == 50


def test_nobody_adds_edits_or_deletes_there(admins_browser: Client, owner: User) -> None:
    failures(Client(), 1)
    attempt = LoginAttempt.objects.get()
    assert admins_browser.get(f"{LIST}add/").status_code == 403
    assert admins_browser.post(f"{LIST}{attempt.pk}/change/", {"account": "x"}).status_code == 403
    assert admins_browser.post(f"{LIST}{attempt.pk}/delete/", {"post": "yes"}).status_code == 403
    assert admins_browser.get(f"{LIST}{attempt.pk}/change/").status_code == 200
    form = {"action": "delete_selected", "_selected_action": [str(attempt.pk)], "post": "yes"}
    admins_browser.post(LIST, form)
    assert LoginAttempt.objects.get() == attempt


def test_without_the_permission_it_is_closed_and_axes_shows_nothing_of_its_own(
    supporter: Client, admins_browser: Client, owners_browser: Client
) -> None:
    assert supporter.get(LIST).status_code == 200
    assert owners_browser.get(LIST).status_code == 302
    assert admins_browser.get("/admin/axes/").status_code == 404


def test_selected_users_are_unlocked(admins_browser: Client, administrator: User, owner: User, colleague: User) -> None:
    for name in ("owner", "colleague"):
        failures(Client(), 5, name)
    failures(Client(), 5, **ELSEWHERE)
    assert "1 user can sign in again." in unlock(admins_browser, owner)
    (record,) = Record.objects.filter(resource="accounts.user", object_id=str(owner.pk), action="unlocked")
    assert (record.actor_kind, record.actor_id, record.new) == ("user", str(administrator.pk), {"attempts": 10})
    assert [failures(Client(), 1, name)[0] for name in ("owner", "colleague")] == [422, 429]


def test_staff_unlock_members_and_not_other_staff(supporter: Client, owner: User, administrator: User) -> None:
    for name in ("owner", "keeper"):
        failures(Client(), 5, name)
    assert "1 user can sign in again." in unlock(supporter, owner, administrator)
    assert [failures(Client(), 1, name)[0] for name in ("owner", "keeper")] == [422, 429]


def test_who_may_only_look_unlocks_nobody(owner: User) -> None:
    failures(Client(), 5)
    user = UserFactory.create(username="looker", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_user"))
    browser = Client()
    browser.force_login(user)
    unlock(browser, owner)
    assert failures(Client(), 1) == [429]
