"""The database is killed, frozen, absent or not migrated while people use the site. No restart, no lost account."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from config.embedded_postgres import EmbeddedPostgres
from tests.live import (
    LOGIN,
    PASSWORD,
    SIGNUP,
    Answer,
    Database,
    OpenForm,
    Site,
    at_once,
    half_accounts,
    is_busy_page,
    manage,
    migrate,
    open_signup,
    open_signups,
    own_database,
    project_copy,
    running_site,
    wait_until,
)

PEOPLE = 200
BROWSERS = 20
PAUSE = 0.1  # seconds between two signups of one browser, so that the outage falls among them
EMBEDDED = {"EMBEDDED_POSTGRES": "persistent"}
SEEN_WITHIN = 1.5  # seconds after which every probe tells of an outage
NOWHERE = {"DATABASE_URL": "postgresql://nobody:secret-word@127.0.0.1:1/none"}


@pytest.fixture(scope="module")
def project() -> Iterator[Path]:
    """A project of its own with a durable embedded server, migrated: what `make run` has."""
    with project_copy() as copy:
        migrate(EMBEDDED, copy)
        yield copy


@pytest.fixture(scope="module")
def database(project: Path) -> Iterator[Database]:
    cluster = EmbeddedPostgres(project / ".postgres")
    cluster.ensure_running()
    database = Database(cluster)
    assert database.value("SHOW fsync") == database.value("SHOW synchronous_commit") == "on"
    yield database
    cluster.stop()


@contextmanager
def site_of(kind: str, project: Path, database: Database) -> Iterator[Site]:
    environment = EMBEDDED if kind == "embedded" else database.environment
    with running_site(environment, project) as site:
        yield site


@pytest.fixture(params=["embedded", "configured"])
def site(request: pytest.FixtureRequest, project: Path, database: Database) -> Iterator[Site]:
    """The same server twice: as the site's own, which the site starts again itself, and as a configured one."""
    database.cluster.ensure_running()
    with site_of(request.param, project, database) as site:
        processes = site.processes()
        yield site
        assert site.processes() == processes, "the site was not restarted"


def test_a_killed_database_loses_no_acknowledged_account_and_leaves_no_half_one(
    site: Site, database: Database, request: pytest.FixtureRequest
) -> None:
    crowd = request.node.callspec.params["site"]
    people = [(f"{crowd}{number}", f"{crowd}{number}@outage.example") for number in range(PEOPLE)]
    forms = open_signups(site, people)
    answers: dict[str, Answer] = {}
    midway = Event()

    def sign_up_one_after_the_other(share: list[OpenForm]) -> None:
        for form in share:
            answers[form.username] = form.send()
            if len(answers) > PEOPLE // 4:
                midway.set()
            time.sleep(PAUSE)

    with ThreadPoolExecutor(BROWSERS) as threads:
        running = [threads.submit(sign_up_one_after_the_other, forms[each::BROWSERS]) for each in range(BROWSERS)]
        assert midway.wait(60)
        database.kill()
        database.cluster.ensure_running()
        for thread in running:
            thread.result()

    acknowledged = {username for username, answer in answers.items() if answer.status == 303}
    refused = [answer for answer in answers.values() if answer.status != 303]
    assert all(is_busy_page(answer) for answer in refused), Counter(answer.status for answer in refused)
    assert len(acknowledged) > PEOPLE // 4
    written = {name for (name,) in database.rows("SELECT username FROM accounts_user WHERE username ~ %s", f"^{crowd}")}
    assert acknowledged <= written
    assert half_accounts(database) == []

    # Everybody who was sent away comes back with the same form, also those whose account was written all the same.
    wait_until(lambda: site.probe("ready").status == 200, "the site is ready again")
    returned = [come_back(form) for form in forms if form.username not in acknowledged]
    assert {(answer.status, answer.location) for answer in returned} <= {(303, LOGIN)}
    assert database.value("SELECT count(*) FROM accounts_user WHERE username ~ %s", f"^{crowd}") == PEOPLE
    assert half_accounts(database) == []


def come_back(form: OpenForm, patience: int = 5) -> Answer:
    """Send it until the site is not too busy: a process may hold the server for away for up to a second more."""
    answer = form.send()
    while is_busy_page(answer) and (patience := patience - 1):
        time.sleep(1)
        answer = form.send()
    return answer


def test_a_database_killed_at_rest_is_noticed_by_nobody_or_told_in_a_page(site: Site, database: Database) -> None:
    """The connections that the processes keep are dead then; each is replaced before it is used."""
    sign_in = partial(try_to_sign_in, site)
    assert [sign_in().status for _ in range(4)] == [422] * 4
    database.kill()
    database.cluster.ensure_running()
    assert [sign_in().status for _ in range(8)] == [422] * 8


def try_to_sign_in(site: Site) -> Answer:
    browser = site.browser()
    wanted = {"username": f"nobody{time.monotonic_ns()}", "password": PASSWORD}
    return browser.post(LOGIN, browser.open_form(LOGIN) | wanted)


def test_a_frozen_database_costs_a_page_three_seconds_and_the_probes_none(site: Site, database: Database) -> None:
    login, signup = site.browser(), open_signup(site, "frozen", "frozen@outage.example")
    login_form = login.open_form(LOGIN) | {"username": "frozen", "password": PASSWORD}
    assert try_to_sign_in(site).status == 422  # its process now keeps a connection
    wait_until(lambda: site.probe("ready").status == 200, "the site is ready")

    slow: list[Answer] = []
    with database.frozen():
        frozen_at = time.monotonic()
        posts: list[Callable[[], Answer]] = [partial(login.post, LOGIN, login_form), signup.send] * 2
        threads = [Thread(target=lambda act=act: slow.append(act())) for act in posts]
        for thread in threads:
            thread.start()
        ready, live, pages = [], [], []
        while time.monotonic() - frozen_at < 2 * SEEN_WITHIN:
            ready.append((time.monotonic() - frozen_at, site.probe("ready")))
            live.append(site.probe("live"))
            pages.append(site.browser().get(SIGNUP))
        for thread in threads:
            thread.join(60)

    assert all(is_busy_page(answer) for answer in slow) and len(slow) == len(posts), slow
    assert max(answer.seconds for answer in slow) < 3, [answer.seconds for answer in slow]
    assert {answer.status for answer in live} == {answer.status for answer in pages} == {200}
    assert max(answer.seconds for answer in live + pages) < 0.5
    late = [answer for begun, answer in ready if begun + answer.seconds > SEEN_WITHIN]
    assert late and {answer.status for answer in late} == {503}
    assert max(answer.seconds for _, answer in ready) < 0.6

    wait_until(lambda: site.probe("ready").status == 200, "the site is ready again", seconds=10)
    # The other process may hold the server for away for up to a second more.
    wait_until(lambda: signup.send().status == 303, "signups work again", seconds=10)
    wait_until(lambda: try_to_sign_in(site).status == 422, "sign-ins work again", seconds=10)
    assert database.value("SELECT count(*) FROM accounts_user WHERE username = 'frozen'") == 1
    database.rows("DELETE FROM accounts_user_groups; DELETE FROM accounts_user WHERE username = 'frozen'")


def test_a_frozen_database_does_not_make_requests_queue_behind_each_other(site: Site, database: Database) -> None:
    """Forty at once are more than the site has threads: those that wait must not wait for each other's budget."""

    def ask() -> Answer:
        browser = site.browser()
        browser.cookies["sessionid"] = "0123456789abcdefghijklmnopqrstuv"
        return browser.get("/accounts/profile/")

    assert {answer.status for answer in at_once([ask] * 16)} == {302}  # many threads now keep a connection
    with database.frozen():
        answers = at_once([ask] * 40)
    assert all(is_busy_page(answer) for answer in answers)
    assert max(answer.seconds for answer in answers) < 3, sorted(answer.seconds for answer in answers)
    wait_until(lambda: ask().status == 302, "the pages are back", seconds=10)


@pytest.fixture(scope="module")
def untouched() -> Iterator[Path]:
    """A project that has no database of its own, and must not get one."""
    with project_copy() as copy:
        yield copy
        assert not (copy / ".postgres").exists()


@pytest.mark.parametrize(
    "command",
    [
        ["migrate"],
        ["create_user", "someone", "someone@example.com"],
        ["createsuperuser", "--noinput", "--username=someone", "--email=someone@example.com"],
        ["worker", "--once"],
        ["database", "status"],
        ["database", "upgrade"],
        ["database", "verify"],
        ["serve"],
    ],
    ids=" ".join,
)
def test_a_command_whose_configured_server_is_down_says_so_and_starts_none(untouched: Path, command: list[str]) -> None:
    done = manage(*command, environment=NOWHERE, project=untouched)
    assert not (untouched / ".postgres").exists()
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "Traceback" not in said, said
    assert sum("refused" in line for line in said.splitlines()) == 1, said
    assert "secret-word" not in said


def test_a_site_whose_configured_server_is_down_lives_is_not_ready_and_says_so_in_its_pages(untouched: Path) -> None:
    with running_site(NOWHERE, untouched) as site:
        assert site.probe("live").status == 200
        assert site.probe("ready").status == 503
        assert site.browser().get(SIGNUP).status == 200
        assert is_busy_page(try_to_sign_in(site))
    assert not (untouched / ".postgres").exists()


def test_a_site_is_ready_once_its_last_migration_is_applied() -> None:
    with own_database(migrated=False) as database, running_site(database.environment) as site:
        assert (site.probe("live").status, site.probe("ready").status) == (200, 503)
        migrate(database.environment)
        wait_until(lambda: site.probe("ready").status == 200, "the site is ready", seconds=10)
        database.rows(
            "DELETE FROM django_migrations WHERE id = (SELECT max(id) FROM django_migrations WHERE app = 'accounts')"
        )
        wait_until(lambda: site.probe("ready").status == 503, "the site is not ready", seconds=10)
        assert site.probe("live").status == 200
