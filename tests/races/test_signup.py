"""Signing up at the same moment: real gunicorn with two processes, real commits, 200 forms sent at once.

Every race has an e-mail domain of its own, so that all of them share one site. What counts is what the
database holds afterwards.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from http.cookies import SimpleCookie

import pytest
from django.core.signing import b64_decode

from accounts.errors import MESSAGES
from tests.live import (
    LOGIN,
    Answer,
    Database,
    Site,
    at_once,
    half_accounts,
    open_signup,
    own_database,
    processor_time,
    running_site,
    sign_up_at_once,
)

PARALLEL = 200
THREADS = {"WEB_THREADS": "16"}
LAST_ROUND = 5  # of the races without constraints: one is enough as a rule

ONE_NAME = {
    "same": ["parallel.person"],
    "case": ["mixed-case", "MIXED-CASE", "Mixed-Case", "mIXED-cASE"],
    # Full width, mathematical bold, the long s and the Kelvin sign are the same letters under NFKC.
    "unicode": ["kiosk", "ｋｉｏｓｋ", "ＫＩＯＳＫ", "𝐤𝐢𝐨𝐬𝐤", "kioſk", "\u212aiosk"],
    "folded": ["strasse", "straße", "STRASSE", "STRAẞE"],
}
ONE_LOOK = {
    "cyrillic": ["cocoa", "сосоа"],
    "digit": ["pixell", "pixe1l", "pixe11", "pixelI"],
    "letters": ["modern", "modem"],
}
ONE_ADDRESS = {
    "exact": ["someone@exact.example"],
    "spelled": ["someone@spelled.example", "SomeOne@spelled.example", "SOMEONE@SPELLED.EXAMPLE"],
}


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        yield made


@pytest.fixture(scope="module")
def unguarded_database(database: Database) -> Database:
    """The same schema without what keeps names and addresses unique."""
    made = database.copy("unguarded")
    made.rows("DROP INDEX accounts_user_username, accounts_user_look_alike, accounts_user_email")
    return made


@pytest.fixture(scope="module")
def site(database: Database, unguarded_database: Database) -> Iterator[Site]:
    # After the copy was made, which nobody may be connected for.
    with running_site(database.environment | THREADS) as running:
        yield running


def wishes(race: str, usernames: Sequence[str], addresses: Sequence[str] = ()) -> list[tuple[str, str]]:
    """A username and an address for each of the parallel people; the one that is not given is their own."""
    return [
        (
            usernames[number % len(usernames)] if usernames else f"{race}{number}",
            addresses[number % len(addresses)] if addresses else f"someone.{number}@{race}.example",
        )
        for number in range(PARALLEL)
    ]


def accounts(database: Database, race: str) -> int:
    found: int = database.value("SELECT count(*) FROM accounts_user WHERE email_canonical LIKE %s", f"%@{race}.example")
    return found


def assert_one_account(database: Database, race: str) -> None:
    found = accounts(database, race)
    assert found == 1, f"{found} accounts"


def is_welcome(answer: Answer) -> bool:
    return (answer.status, answer.location) == (303, LOGIN)


def is_friendly_refusal(answer: Answer, *codes: str) -> bool:
    """Whether it is the form again, at once or after the write was refused, with one of these errors' words."""
    return answer.status in (409, 422) and any(str(MESSAGES[code]) in answer.body for code in codes)


def message(answer: Answer) -> frozenset[str]:
    """What the next page will say, which repeats the address as it was typed.

    A set, because a browser that has the first answer already sends its message along with the second click.
    """
    payload = SimpleCookie(str(answer.headers["Set-Cookie"]))["messages"].value.split(":")[0]
    packed = b64_decode(payload.removeprefix(".").encode())
    messages = json.loads(zlib.decompress(packed) if payload.startswith(".") else packed)
    return frozenset(entry[3] for entry in messages)


@pytest.mark.parametrize(("race", "usernames"), ONE_NAME.items(), ids=list(ONE_NAME))
def test_of_200_people_who_want_one_name_one_gets_it_and_the_others_are_told(
    site: Site, database: Database, race: str, usernames: list[str]
) -> None:
    answers = sign_up_at_once(site, wishes(race, usernames))
    assert_one_account(database, race)
    assert sum(is_welcome(answer) for answer in answers) == 1
    assert sum(is_friendly_refusal(answer, "username_taken") for answer in answers) == PARALLEL - 1
    assert half_accounts(database) == []


@pytest.mark.parametrize(("race", "usernames"), ONE_LOOK.items(), ids=list(ONE_LOOK))
def test_of_200_people_who_want_names_that_look_alike_one_gets_in(
    site: Site, database: Database, race: str, usernames: list[str]
) -> None:
    answers = sign_up_at_once(site, wishes(race, usernames))
    assert_one_account(database, race)
    assert sum(is_welcome(answer) for answer in answers) == 1
    refusals = [is_friendly_refusal(answer, "username_taken", "username_look_alike") for answer in answers]
    assert sum(refusals) == PARALLEL - 1


@pytest.mark.parametrize(("race", "addresses"), ONE_ADDRESS.items(), ids=list(ONE_ADDRESS))
def test_200_signups_with_one_address_make_one_account_and_nobody_learns_whose(
    site: Site, database: Database, race: str, addresses: list[str]
) -> None:
    answers = sign_up_at_once(site, wishes(race, [], addresses))
    assert_one_account(database, race)
    assert Counter(map(is_welcome, answers)) == {True: PARALLEL}
    assert {answer.body for answer in answers} == {""}
    assert len(set(map(message, answers))) == len(addresses)
    assert half_accounts(database) == []


def test_200_people_with_names_and_addresses_of_their_own_all_get_in_through_both_processes(
    site: Site, database: Database
) -> None:
    before = {process: processor_time(process) for process in site.processes()}
    answers = sign_up_at_once(site, wishes("distinct", []))
    assert Counter(map(is_welcome, answers)) == {True: PARALLEL}
    assert accounts(database, "distinct") == PARALLEL
    assert half_accounts(database) == []
    # Or else all these would only be races of threads. A signup costs a few milliseconds.
    assert [processor_time(process) - begun > 0.1 for process, begun in before.items()] == [True, True]


def test_a_double_click_makes_one_account_and_two_like_answers(site: Site, database: Database) -> None:
    for number in range(20):
        form = open_signup(site, f"clicker{number}", f"clicker{number}@click{number}.example")
        first, second = at_once([form.send, form.send])
        assert is_welcome(first) and is_welcome(second), (first.status, second.status)
        assert (first.body, message(first)) == (second.body, message(second))
        assert_one_account(database, f"click{number}")
    assert half_accounts(database) == []


def test_a_form_sent_again_after_its_answer_gets_the_same_answer(site: Site, database: Database) -> None:
    form = open_signup(site, "reloader", "reloader@reload.example")
    assert [is_welcome(form.send()) for _ in range(3)] == [True] * 3
    assert_one_account(database, "reload")
    assert half_accounts(database) == []


@pytest.mark.parametrize(
    ("race", "usernames", "addresses"),
    [
        ("same", ONE_NAME["same"], []),
        ("digit", ONE_LOOK["digit"], []),
        ("exact", [], ONE_ADDRESS["exact"]),
    ],
)
def test_without_the_constraints_the_same_races_fail(
    unguarded_database: Database, race: str, usernames: list[str], addresses: list[str]
) -> None:
    with running_site(unguarded_database.environment | THREADS) as site:
        for _round in range(LAST_ROUND):
            sign_up_at_once(site, wishes(race, usernames, addresses))
            if accounts(unguarded_database, race) > 1:
                break
            unguarded_database.rows("TRUNCATE accounts_user CASCADE")
    with pytest.raises(AssertionError, match=r"^\d+ accounts"):
        assert_one_account(unguarded_database, race)
