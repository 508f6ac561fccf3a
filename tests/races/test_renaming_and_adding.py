"""An administrator's change at the same moment as another one, or as a signup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pytest
from django.db import connections

from accounts import services
from accounts.errors import MESSAGES, AccountError
from accounts.models import User
from tests.live import (
    PASSWORD,
    Answer,
    Browser,
    Database,
    Site,
    at_once,
    manage,
    open_signups,
    own_database,
    running_site,
)

ADD = "/admin/accounts/user/add/"
ROUNDS = 10
NEWCOMERS = 8


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


@pytest.fixture(scope="module")
def site(database: Database) -> Iterator[Site]:
    with running_site(database.environment) as running:
        yield running


@pytest.fixture(scope="module")
def administrator(site: Site, database: Database) -> Browser:
    """A browser in which a superuser is signed in to the admin."""
    made = manage(
        "create_user",
        "keeper",
        "keeper@example.com",
        "--superuser",
        environment=database.environment | {"GATEHOUSE_PASSWORD": PASSWORD},
    )
    assert made.returncode == 0, made.stderr
    browser = site.browser()
    form = browser.open_form("/admin/login/")
    answer = browser.post("/admin/login/?next=/admin/", form | {"username": "keeper", "password": PASSWORD})
    assert answer.status == 302
    return browser


def save_user(administrator: Browser, path: str, username: str, email: str) -> Answer:
    """Fill in and save the admin's form, in a tab of its own: a tab shares the session, not our dictionary."""
    tab = replace(administrator, cookies=dict(administrator.cookies))
    fields = {"username": username, "email": email, "full_name": "", "is_active": "on", "_save": "Save"}
    return tab.post(path, tab.open_form(path) | fields)


def test_an_administrator_who_adds_a_user_twice_at_once_adds_one(administrator: Browser, database: Database) -> None:
    for number in range(ROUNDS):
        username = f"colleague{number}"
        add = partial(save_user, administrator, ADD, username, f"{username}@example.com")
        saved, refused = sorted(at_once([add, add]), key=lambda answer: -answer.status)
        assert (saved.status, refused.status) == (302, 200)
        # The other one may arrive between the form's look at the name and its look at the address.
        assert any(str(MESSAGES[code]) in refused.body for code in ("username_taken", "email_taken"))
        assert database.value("SELECT count(*) FROM accounts_user WHERE username_canonical = %s", username) == 1


def test_a_newcomer_never_gets_a_name_in_the_moment_it_is_given_up(
    administrator: Browser, site: Site, database: Database
) -> None:
    for number in range(ROUNDS):
        old, email = f"oldname{number}", f"holder{number}@example.com"
        assert save_user(administrator, ADD, old, email).status == 302
        holder = database.value("SELECT id FROM accounts_user WHERE username_canonical = %s", old)
        change = f"/admin/accounts/user/{holder}/change/"
        newcomers = open_signups(site, [(old, f"newcomer{number}.{each}@example.com") for each in range(NEWCOMERS)])
        rename = partial(save_user, administrator, change, f"newname{number}", email)
        actions: list[Callable[[], Answer]] = [rename, *(newcomer.send for newcomer in newcomers)]
        renamed, *refused = at_once(actions)
        assert renamed.status == 302
        assert {answer.status for answer in refused} <= {409, 422}
        told = [str(MESSAGES[code]) for code in ("username_taken", "username_retired")]
        assert all(any(words in answer.body for words in told) for answer in refused)
        assert database.rows("SELECT 1 FROM accounts_user WHERE username_canonical = %s", old) == []


@pytest.mark.django_db(transaction=True)
def test_the_database_keeps_the_name_from_newcomers_whom_no_form_has_checked() -> None:
    """The form's own check hides this race as a rule; a newcomer who was checked before it began comes to it."""
    administrator = User.objects.create_user("keeper", "keeper@example.com")
    for number in range(ROUNDS):
        old = f"oldname{number}"
        holder = User.objects.create_user(old, f"holder@{old}.example")
        holder.username = f"newname{number}"
        rename = partial(services.save_user, holder, changed=["username"], acting_user=administrator)
        newcomers = [partial(services.sign_up, newcomer(old, f"newcomer{each}@{old}.example")) for each in range(8)]
        actions: list[Callable[[], object]] = [rename, *newcomers]
        renamed, *refused = at_once([partial(code_of_refusal, act) for act in actions])
        assert renamed is None
        assert set(refused) <= {"username_taken", "username_retired"}
        assert not User.objects.filter(username_canonical=old).exists()


def newcomer(username: str, email: str) -> services.SignUp:
    return services.SignUp(username=username, email=email, password=PASSWORD, browser=email)


def code_of_refusal(act: Callable[[], object]) -> str | None:
    """In a thread of its own, so with a connection of its own."""
    try:
        act()
    except AccountError as refusal:
        return refusal.code
    finally:
        connections.close_all()
    return None
