"""Guessing in parallel: real gunicorn with two processes, real commits, 24 guesses sent at once, the right one
among them.

A guess was evaluated when its answer is not 429. Every round has an account and a network of its own, so that all of
them share one site.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial
from urllib.parse import urlencode

import pytest
from django.contrib.auth.hashers import make_password

from tests.live import LOGIN, PASSWORD, Answer, Browser, Database, Site, at_once, own_database, running_site

PARALLEL, LIMIT, ROUNDS = 24, 5, 10
ADMIN_LOGIN = "/admin/login/"
CHANGE = "/accounts/password/change/"
# Hashes slow enough that they overlap, threads for the whole burst, a proxy that tells where callers are, and patience
# with a machine that does other things: here nobody is to be told to come back later.
ENVIRONMENT = {
    "WEB_THREADS": "16",
    "BCRYPT_ROUNDS": "10",
    "TRUSTED_PROXIES": "1",
    "LOGIN_FAILURE_LIMIT": str(LIMIT),
    "DATABASE_DEADLINE": "20",
}
ADD_STAFF = """
INSERT INTO accounts_user (
    id, username, username_source, username_canonical, username_skeleton, email, email_source, email_canonical,
    password, full_name, bio, avatar_url, look_alike_approved, is_active, is_staff, is_superuser, login_count, version,
    email_verified_at, created_at, updated_at
)
SELECT gen_random_uuid(), name, name, name, name, email, email, email,
    password, '', '', '', false, true, true, false, 0, 1, now(), now(), now()
FROM (VALUES (%s, %s, %s)) AS person (name, email, password)
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


@pytest.fixture(scope="module")
def unguarded_database(database: Database) -> Database:
    """The same schema, in which waiting for a reservation's lock waits, but locks nothing."""
    made = database.copy("unguarded")
    signature = "public.pg_advisory_xact_lock(bigint) RETURNS void LANGUAGE sql"
    made.rows(f"CREATE FUNCTION {signature} AS 'SELECT pg_sleep(0.05)'")
    made.rows("ALTER DATABASE unguarded SET search_path = public, pg_catalog")
    return made


@pytest.fixture(scope="module")
def site(database: Database, unguarded_database: Database) -> Iterator[Site]:
    # After the copy was made, which nobody may be connected for.
    with running_site(database.environment | ENVIRONMENT) as running:
        yield running


def add_staff(database: Database, name: str) -> None:
    database.rows(ADD_STAFF, name, f"{name}@example.com", make_password(PASSWORD))


def send(browser: Browser, path: str, fields: dict[str, str], address: str) -> Answer:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "X-Forwarded-For": address}
    return browser.request("POST", path, urlencode(fields), headers)


def burst(site: Site, path: str, name: str, address: str, right: Collection[int] = ()) -> list[Answer]:
    """Send the guesses at the same moment, by username and by address in turn; those numbered in `right` are right."""
    names = [name, f"{name.upper()}@example.com"]
    guesses = []
    for number in range(PARALLEL):
        browser = site.browser()
        password = PASSWORD if number in right else f"Wrong-Password-{number}"
        fields = browser.open_form(path) | {"username": names[number % 2], "password": password}
        guesses.append(partial(send, browser, path, fields, address))
    return at_once(guesses)


def evaluated(answers: list[Answer]) -> int:
    assert {answer.status for answer in answers} <= {200, 302, 303, 422, 429}
    return sum(answer.status != 429 for answer in answers)


def reserved(database: Database, address: str) -> int:
    found: int = database.value("SELECT count(*) FROM accounts_loginattempt WHERE network = %s", address)
    return found


def assert_five(database: Database, answers: list[Answer], address: str) -> None:
    found = evaluated(answers)
    assert found == LIMIT, f"{found} guesses were evaluated"
    assert reserved(database, address) == found


@pytest.mark.parametrize(("path", "network"), [(LOGIN, "192.0.2"), (ADMIN_LOGIN, "198.51.100")])
def test_of_24_guesses_at_once_five_are_evaluated_whether_or_not_the_right_one_is_among_them(
    site: Site, database: Database, path: str, network: str
) -> None:
    successes = 0
    for number in range(ROUNDS):
        name, address = f"target-{network}-{number}".replace(".", "-"), f"{network}.{number}"
        add_staff(database, name)
        # One right guess is rarely among the first five; a third of them nearly always.
        right = range(0, PARALLEL, 3) if number % 2 else [number]
        answers = burst(site, path, name, address, right)
        assert_five(database, answers, address)
        successes += any(answer.status == 302 for answer in answers)
    assert successes, "no right guess was ever evaluated, so nothing was forgiven"


def test_of_24_old_passwords_at_once_five_are_evaluated(site: Site, database: Database) -> None:
    add_staff(database, "signed-in")
    browser, address = site.browser(), "203.0.113.2"
    send(browser, LOGIN, browser.open_form(LOGIN) | {"username": "signed-in", "password": PASSWORD}, address)
    form = browser.open_form(CHANGE)
    tabs = [Browser(browser.port, dict(browser.cookies)) for _tab in range(PARALLEL)]
    fields = [form | {"old_password": f"Wrong-Password-{number}"} for number in range(PARALLEL)]
    answers = at_once([partial(send, tab, CHANGE, each, address) for tab, each in zip(tabs, fields, strict=True)])
    assert evaluated(answers) == LIMIT
    assert reserved(database, address) == 1 + LIMIT  # with the login


def test_an_unknown_name_has_no_more_guesses(site: Site, database: Database) -> None:
    answers = burst(site, LOGIN, "nobody-here", "203.0.113.1")
    # A name and an address that belong to nobody are two names.
    assert evaluated(answers) == reserved(database, "203.0.113.1") == 2 * LIMIT


def test_without_the_lock_the_same_burst_gets_through(unguarded_database: Database) -> None:
    with running_site(unguarded_database.environment | ENVIRONMENT) as site:
        for number in range(ROUNDS):  # one is enough as a rule
            add_staff(unguarded_database, f"target-{number}")
            answers = burst(site, LOGIN, f"target-{number}", f"192.0.2.{number}")
            if evaluated(answers) > LIMIT:
                break
    with pytest.raises(AssertionError, match=r"^\d+ guesses were evaluated"):
        assert_five(unguarded_database, answers, f"192.0.2.{number}")
