"""One invitation in many hands: real gunicorn with two processes, real commits, 40 forms at once, wave after wave.

In each wave ten people want a name that is taken: their refused signups must not burn a use.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from accounts.errors import MESSAGES
from accounts.rehearsal import OpenForm, in_parallel, open_form
from config.scratch import manage
from tests.live import Database, Site, at_once, half_accounts, own_database, project_copy, running_site

PASSWORD = "Correct-Horse-7-Battery"
PEOPLE, WAVES, REFUSED = 40, 5, 10
TAKEN = "taken.already"


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        done = manage("create_user", TAKEN, "taken@example.com", environment=made.environment)
        assert done.returncode == 0, done.stderr
        yield made


@pytest.fixture(scope="module")
def site(database: Database) -> Iterator[Site]:
    with running_site(database.environment | {"WEB_THREADS": "16", "SIGNUP_MODE": "invite"}) as running:
        yield running


def make_link(database: Database, uses: int) -> tuple[str, str]:
    """The id of a new invitation and the path of its link."""
    done = manage("invite", "--uses", str(uses), "--json", environment=database.environment)
    (made,) = json.loads(done.stdout)
    return made["id"], "/accounts/invitation/" + made["link"].rstrip("/").rpartition("/")[2] + "/"


def open_forms(site: Site, link: str, wave: int, race: str) -> list[OpenForm]:
    """Everybody has opened the link beforehand; who comes too late for that is turned away by 410."""
    wanted = [
        {
            "username": TAKEN if number < REFUSED else f"{race}{wave}.{number}",
            "email": f"someone{wave}.{number}@{race}.example",
            "full_name": "",
            "password": PASSWORD,
        }
        for number in range(PEOPLE)
    ]
    return in_parallel([partial(open_form, site.browser(), link, each) for each in wanted])


def race(site: Site, database: Database, uses: int, name: str) -> Counter[int]:
    """Send all waves on one invitation; returns how often each status was answered."""
    invitation, link = make_link(database, uses)
    # All waves have the form open from the start: afterwards nobody would get it any more.
    waves = [open_forms(site, link, wave, name) for wave in range(WAVES)]
    statuses: Counter[int] = Counter()
    for forms in waves:
        answers = at_once([form.send for form in forms])
        statuses.update(answer.status for answer in answers)
        taken = [answer for answer, form in zip(answers, forms, strict=True) if form.username == TAKEN]
        assert all(str(MESSAGES["username_taken"]) in answer.body or answer.status == 410 for answer in taken)
    assert_exactly(database, uses, name, invitation)
    return statuses


def assert_exactly(database: Database, uses: int, name: str, invitation: str) -> None:
    accounts = database.value("SELECT count(*) FROM accounts_user WHERE email LIKE %s", f"%@{name}.example")
    counted = database.value("SELECT uses FROM accounts_invitation WHERE id = %s", invitation)
    redeemed = database.value("SELECT count(*) FROM accounts_redemption WHERE invitation_id = %s", invitation)
    assert (accounts, counted, redeemed) == (uses, uses, uses), f"{accounts} accounts"


@pytest.mark.parametrize("uses", [1, 5])
def test_200_people_with_one_link_make_as_many_accounts_as_it_has_uses(
    site: Site, database: Database, uses: int
) -> None:
    statuses = race(site, database, uses, f"uses{uses}")
    assert max(statuses) < 500
    assert statuses[303] == uses
    assert sum(statuses.values()) == PEOPLE * WAVES
    assert set(statuses) <= {303, 409, 410, 422}
    assert half_accounts(database) == []


def test_a_double_click_on_an_invited_signup_takes_one_use_and_gets_one_answer_twice(
    site: Site, database: Database
) -> None:
    for number in range(10):
        invitation, link = make_link(database, 2)
        wanted = {
            "username": f"clicker{number}",
            "email": f"clicker{number}@twice{number}.example",
            "full_name": "",
            "password": PASSWORD,
        }
        form = open_form(site.browser(), link, wanted)
        first, second = at_once([form.send, form.send])
        assert (first.status, first.location) == (second.status, second.location) == (303, "/accounts/login/")
        assert_exactly(database, 1, f"twice{number}", invitation)


def test_a_thousand_looks_leave_it_alive(site: Site, database: Database) -> None:
    """Mail scanners and link previews open every link, again and again."""
    invitation, link = make_link(database, 1)
    before = database.rows("SELECT * FROM accounts_invitation WHERE id = %s", invitation)

    def look(method: str) -> int:
        browser = site.browser()
        status = browser.request(method, link).status
        return max(status, browser.request(method, "/accounts/invitation/").status)

    looks = [partial(look, method) for method in ("GET", "HEAD") for _time in range(250)]
    assert set(in_parallel(looks)) <= {200, 302}
    assert database.rows("SELECT * FROM accounts_invitation WHERE id = %s", invitation) == before
    wanted = {"username": "alive", "email": "alive@alive.example", "full_name": "", "password": PASSWORD}
    assert open_form(site.browser(), link, wanted).send().status == 303


def without_condition(project: Path) -> None:
    """Take the condition out of the update that takes a use, and out of the table."""
    module = project / "accounts" / "invitations.py"
    before, name, taking = module.read_text().partition("def take_use(")
    condition = "Invitation.objects.in_state(State.OPEN).filter(pk=link.invitation_id"
    assert taking.count(condition) == 1
    module.write_text(before + name + taking.replace(condition, "Invitation.objects.filter(pk=link.invitation_id"))


def test_without_the_conditional_update_the_same_race_fails() -> None:
    with own_database() as unguarded, project_copy() as project:
        without_condition(project)
        unguarded.rows("ALTER TABLE accounts_invitation DROP CONSTRAINT accounts_invitation_uses")
        done = manage("create_user", TAKEN, "taken@example.com", environment=unguarded.environment)
        assert done.returncode == 0, done.stderr
        environment = unguarded.environment | {"WEB_THREADS": "16", "SIGNUP_MODE": "invite"}
        with running_site(environment, project) as site, pytest.raises(AssertionError, match=r"^\d+ accounts"):
            race(site, unguarded, 1, "unguarded")
