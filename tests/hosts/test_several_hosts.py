"""Two hosts share nothing but the database: what one knows, the other knows, and a race does not end at a host.

All of it through the documented nginx and the documented PgBouncer in transaction mode. The rolling restart comes late,
so that the hosts have something to forget; the drills come last, because they kill.
"""

from __future__ import annotations

import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest
from django.db import connections
from django_tasks_db.models import DBTaskResult

from accounts.rehearsal import Scenario, Stage, link_path, rehearse, scenarios
from healthcheck.sampler import LOCK
from tests.auditlog.storage.database import used_by_django
from tests.drills import ledger, load
from tests.faults.test_replicas import rename, shows
from tests.hosts.several import Several, Visitors
from tests.live import (
    LOGIN,
    PASSWORD,
    SIGNUP,
    Answer,
    Browser,
    at_once,
    half_accounts,
    in_parallel,
    manage,
    open_signup,
    sign_up_at_once,
    wait_until,
)

if TYPE_CHECKING:
    from pytest_django.plugin import DjangoDbBlocker

PEOPLE = 40  # nginx lets an address have a hundred connections
LIMIT = 5  # LOGIN_FAILURE_LIMIT
MOST_MAILS = 5  # that one address gets in half an hour because somebody asked for them
LOGOUT, PROFILE, RESET = "/accounts/logout/", "/accounts/profile/", "/accounts/password/reset/"
JOBS = DBTaskResult._meta.db_table
# Who signed up in a domain: the records of each, and those that tell from where, which travels before the statement.
RECORDED = """
SELECT username, count(*), count(*) FILTER (WHERE record.address = '127.0.0.1' AND record.origin = 'save')
FROM accounts_user LEFT JOIN auditlog_record record
ON record.object_id = accounts_user.id::text AND record.resource = 'accounts.user' AND record.action = 'create'
WHERE email_canonical LIKE %s GROUP BY username ORDER BY username
"""
UNDONE = f"SELECT count(*) FROM {JOBS} WHERE finished_at IS NULL"  # noqa: S608 - a table of ours, as in the next two
TRIES = f"SELECT DISTINCT status, jsonb_array_length(worker_ids) FROM {JOBS}"  # noqa: S608
WORKERS = f"SELECT count(DISTINCT worker_ids) FROM {JOBS}"  # noqa: S608


@pytest.fixture(scope="module")
def doors(several: Several) -> dict[int, str]:
    """Where somebody comes in whose invitation has so many uses; 0: who has none."""
    invite = partial(manage, "invite", "--json", "--uses", environment=several.hosts[0].environment)
    one, five = in_parallel([partial(invite, "1"), partial(invite, "5")])
    return {0: SIGNUP, 1: link_path(one.stdout), 5: link_path(five.stdout)}


def is_welcome(answer: Answer) -> bool:
    return (answer.status, answer.location) == (303, LOGIN)


def accounts(several: Several, domain: str) -> list[str]:
    found = several.database.rows(
        "SELECT username FROM accounts_user WHERE email_canonical LIKE %s ORDER BY 1", f"%@{domain}"
    )
    return [name for (name,) in found]


def wait_until_idle(several: Several) -> None:
    wait_until(lambda: not several.database.value(UNDONE), "the workers have done every job")


# Signing up


@pytest.mark.parametrize("scenario", scenarios("all", PEOPLE), ids=lambda scenario: scenario.name)
def test_as_many_get_in_as_must_whichever_host_they_meet(
    several: Several, doors: dict[int, str], scenario: Scenario
) -> None:
    before = [host.requests() for host in several.hosts]
    counted = "SELECT coalesce(sum(uses), 0) FROM accounts_invitation" if scenario.uses else "SELECT NULL"
    stage = Stage(
        several.site.browser,
        doors[scenario.uses],
        count_accounts=partial(several.database.value, "SELECT count(*) FROM accounts_user"),
        count_uses=partial(several.database.value, counted),
    )
    assert rehearse(scenario, stage).faults == []
    shares = [host.requests() - count for host, count in zip(several.hosts, before, strict=True)]
    assert min(shares) >= PEOPLE // 2, shares
    assert half_accounts(several.database) == []


def test_spellings_of_one_name_and_of_one_address_make_one_account_each(several: Several) -> None:
    names, addresses = (
        ["kiosk", "ｋｉｏｓｋ", "KIOSK", "\u212aiosk"],
        ["someone@spelled.example", "SomeOne@SPELLED.example"],
    )
    people = [(names[number % 4], f"someone{number}@named.example") for number in range(PEOPLE // 2)]
    people += [(f"spelled{number}", addresses[number % 2]) for number in range(PEOPLE // 2)]
    answers = sign_up_at_once(several.site, people)
    assert Counter(answer.status for answer in answers)[303] == 1 + PEOPLE // 2  # nobody learns whose address it is
    assert max(answer.status for answer in answers) < 500
    assert [len(accounts(several, domain)) for domain in ("named.example", "spelled.example")] == [1, 1]


def test_a_double_click_that_meets_both_hosts_makes_one_account(several: Several) -> None:
    first, second = several.hosts
    for number in range(10):
        form = open_signup(several.site, f"clicker{number}", f"clicker{number}@click{number}.example")
        elsewhere = second.browser(dict(form.browser.cookies))
        here = first.browser(dict(form.browser.cookies))
        answers = at_once([partial(browser.post, form.path, form.fields) for browser in (here, elsewhere)])
        assert [is_welcome(answer) for answer in answers] == [True, True]
        assert accounts(several, f"click{number}.example") == [f"clicker{number}"]


# Being signed in


def signed_in(several: Several, name: str, browser: Browser) -> dict[str, str]:
    """The cookies of somebody who has signed up, has confirmed the address, and signed in where `browser` leads."""
    assert is_welcome(open_signup(several.site, name, f"{name}@signed.example").send())
    several.database.rows("UPDATE accounts_user SET email_verified_at = now() WHERE username = %s", name)
    fields = browser.open_form(LOGIN) | {"username": name, "password": PASSWORD}
    assert browser.post(LOGIN, fields).status == 302
    return browser.cookies


def test_a_session_of_one_host_is_one_of_the_other_and_ends_on_both(several: Several) -> None:
    first, second = several.hosts
    here = first.browser()
    there = second.browser(dict(signed_in(several, "traveller", here)))
    assert "traveller" in there.get(PROFILE).body
    assert here.post(LOGOUT, here.open_form(PROFILE)).status == 302
    assert (there.get(PROFILE).status, there.get(PROFILE).location.partition("?")[0]) == (302, LOGIN)


def test_pages_are_read_from_the_standby_but_never_older_than_what_the_same_browser_wrote(several: Several) -> None:
    first, second = several.hosts
    here = first.browser()
    signed_in(several, "author", here)
    with several.standby.paused():
        rename(here, "Afterwards")
        there = second.browser(dict(here.cookies))
        before = several.reads_of_standby()
        assert [shows(there.get(PROFILE), "Afterwards") for _time in range(4)] == [True] * 4
        assert several.reads_of_standby() == before
    several.standby.catch_up()

    def is_read_there() -> bool:
        assert shows(there.get(PROFILE), "Afterwards")
        return several.reads_of_standby() > before

    wait_until(is_read_there, "a page is read from the standby")


def test_wrong_passwords_are_counted_over_both_hosts(several: Several) -> None:
    guesses = []
    for number in range(24):
        browser = several.hosts[number % 2].browser()
        fields = browser.open_form(LOGIN) | {"username": "sought-after", "password": f"Wrong-Password-{number}"}
        guesses.append(partial(browser.post, LOGIN, fields))
    assert Counter(answer.status for answer in at_once(guesses)) == {422: LIMIT, 429: 24 - LIMIT}


def test_an_address_gets_no_more_mails_because_two_hosts_are_asked(several: Several) -> None:
    signed_in(several, "forgetful", several.hosts[0].browser())
    for number in range(MOST_MAILS + 3):
        browser = several.hosts[number % 2].browser()
        assert browser.post(RESET, browser.open_form(RESET) | {"email": "forgetful@signed.example"}).status == 303
    wait_until_idle(several)
    sent = "SELECT count(*) FROM accounts_requestedmail WHERE email_canonical = 'forgetful@signed.example'"
    assert several.database.value(sent) == MOST_MAILS


# Behind the pages


def test_each_job_is_done_once_and_both_workers_do_some(several: Several) -> None:
    people = [(f"mailed{number}", f"mailed{number}@mailed.example") for number in range(PEOPLE)]
    assert all(map(is_welcome, sign_up_at_once(several.site, people)))
    wait_until_idle(several)
    assert several.database.rows(TRIES) == [("SUCCESSFUL", 1)]
    assert several.database.value(WORKERS) >= 2


def test_one_worker_writes_the_history_and_both_tell_how_their_host_is(several: Several) -> None:
    rows = several.database.rows
    hosts = "SELECT DISTINCT host FROM healthcheck_reading WHERE host <> '' ORDER BY 1"
    wait_until(lambda: rows(hosts) == [("first",), ("second",)], "both hosts have told")
    holders = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND (classid, objid) = (%s, %s)"
    wait_until(lambda: rows(holders, LOCK >> 32, LOCK & 0xFFFF_FFFF) == [(1,)], "one of the workers holds the lock")


def test_a_rolling_restart_fails_no_request_and_forgets_nobody(several: Several) -> None:
    cookies = signed_in(several, "faithful", several.site.browser())
    with Visitors(several.site) as visitors:
        for host in several.hosts:
            time.sleep(0.5)  # nginx still leaves out the one that has just come back
            host.stop()
            host.start()
        several.pooler.ask("RELOAD")
        several.pooler.take_over()
        time.sleep(0.5)
    assert visitors.failed == []
    assert min(visitors.done.values()) > 20, visitors.done
    records = several.database.rows(RECORDED, "%@rolling.example")
    assert records == [(name, 1, 1) for name in sorted(visitors.welcomed)]
    assert half_accounts(several.database) == []
    assert "faithful" in Browser(several.site.port, cookies).get(PROFILE).body


def test_drills_across_the_hosts_lose_nothing_and_halve_nothing(
    several: Several, django_db_blocker: DjangoDbBlocker
) -> None:
    """Kill -9 of a host with its worker, of the primary and of the standby, while people sign up and somebody edits."""
    several.database.be_durable()
    first, second = several.hosts
    with django_db_blocker.unblock(), used_by_django(several.database):
        link = load.prepare()
    with load.under_load(several.site, several.database, link, "hosts") as running:
        first.kill()
        running.recovers(time.monotonic())
        first.start()
        survivors = [*first.programs, *second.programs]
        several.database.kill()
        several.database.cluster.ensure_running()  # as systemd would
        running.recovers(time.monotonic())
        told = len(running.failures)
        several.standby.kill()
        running.flows()
        assert len(running.failures) == told  # nobody reads from it now, and nobody notices
        several.standby.start()
    with django_db_blocker.unblock(), used_by_django(several.database):
        ledger.compare(several.database, running.notes)
        connections.close_all()
    assert [program.process.poll() for program in survivors] == [None] * 4
