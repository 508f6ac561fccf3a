"""Pages read from a streaming standby that is late, is killed, hangs, drops connections and is promoted."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from threading import Event
from typing import Any

import psycopg2
import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError, connections, transaction
from django.db.models import Model
from django.db.utils import ConnectionRouter
from django.http import Http404
from django.test import override_settings
from pytest_django.plugin import DjangoDbBlocker

from accounts.models import Invitation, Session, User
from config.database import replicas, routing
from config.database.positions import BEYOND
from tests.auditlog.storage.database import used_by_django
from tests.live import Answer, Browser, Database, Site, Standby, manage, own_database, running_site, wait_until

LAG = 3  # seconds
PROFILE, PEOPLE, ACTIVITY = "/accounts/profile/", "/admin/accounts/user/", "/accounts/activity/"
SAMPLES = "/admin/healthcheck/sample/"
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
WRITERS = 6
FURNISH = f"""
import json, pathlib, tempfile
from django.conf import settings
from django.test import Client
from tests.factories import UserFactory
from tests.rulezero import house
furnished = house.furnish(pathlib.Path(tempfile.mkdtemp()))
sessions = furnished._sessions
for number in range({WRITERS}):
    browser = Client()
    browser.force_login(UserFactory.create(username=f"writer{{number}}"), "accounts.backends.IdentityBackend")
    sessions[f"writer{{number}}"] = browser.cookies[settings.SESSION_COOKIE_NAME].value
print(json.dumps([sessions, [(door.route, door.paths[0]) for door in furnished.doors]]))
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as made:
        # Else the log, and with it the standby, comes a fifth of a second after each commit.
        made.rows("ALTER SYSTEM SET synchronous_commit = on")
        made.rows("SELECT pg_reload_conf()")
        yield made


@pytest.fixture(scope="module")
def furnished(database: Database) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Sessions by name, and every route with a path that leads to it."""
    done = manage("shell", "-v0", "-c", FURNISH, environment=database.environment)
    sessions, doors = json.loads(done.stdout.splitlines()[-1])
    return sessions, doors


@pytest.fixture(scope="module")
def standby(database: Database, furnished: object) -> Iterator[Standby]:
    with database.standby(log_statement="all", log_line_prefix="%a: ") as made:
        made.catch_up()
        yield made


@pytest.fixture(scope="module")
def site(database: Database, standby: Standby) -> Iterator[Site]:
    """A site with two replicas, the first of which is never there."""
    replicas = {"DATABASE_REPLICA_URLS": f"{NOWHERE},{standby.url}", "DATABASE_REPLICA_LAG": str(LAG)}
    with running_site(database.environment | replicas) as running:
        processes = running.processes()
        yield running
        assert running.processes() == processes, "the site was not restarted"


@pytest.fixture
def browser(site: Site, furnished: tuple[dict[str, str], object]) -> Callable[[str], Browser]:
    """Make a fresh browser of somebody who is signed in and has written nothing."""

    def signed_in(name: str) -> Browser:
        return site.browser(cookies={"sessionid": furnished[0][name]})

    return signed_in


def asked(standby: Standby) -> int:
    """How many statements of the site the standby has had."""
    log = standby.cluster.status().data_directory.parent / "server.log"
    return sum(line.startswith("gatehouse: LOG:  statement: ") for line in log.read_text().splitlines())


def is_read(standby: Standby, browser: Browser) -> bool:
    before = asked(standby)
    assert browser.get(ACTIVITY).status == 200
    # One question how far it is; the page has three.
    return asked(standby) > before + 1


def rename(browser: Browser, name: str) -> None:
    form = browser.get(PROFILE)
    version = re.search(r'name="version" value="(\d+)"', form.body)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', form.body)
    assert version and token, form.body
    fields = {"csrfmiddlewaretoken": token[1], "version": version[1], "full_name": name}
    assert browser.post(PROFILE, fields).status == 303


def shows(answer: Answer, name: str) -> bool:
    """Whether the form, which is made of the row as it was read for it, has this name."""
    assert answer.status == 200
    return f'name="full_name" value="{name}"' in answer.body


def statuses(answers: list[Answer]) -> set[int]:
    return {answer.status for answer in answers}


@contextmanager
def reading(browsers: list[Browser], paths: list[str]) -> Iterator[list[Answer]]:
    """Read these pages over and over for the length of the block, each browser by itself."""
    answers: list[Answer] = []
    is_over = Event()

    def read(browser: Browser) -> None:
        while not is_over.is_set():
            answers.extend(browser.get(path) for path in paths)

    with ThreadPoolExecutor(len(browsers)) as threads:
        running = [threads.submit(read, browser) for browser in browsers]
        try:
            yield answers
        finally:
            is_over.set()
        for thread in running:
            thread.result()


def test_every_page_is_the_same_from_a_replica_and_many_are_read_there(
    site: Site,
    standby: Standby,
    furnished: tuple[dict[str, str], list[tuple[str, str]]],
    browser: Callable[..., Browser],
) -> None:
    moved, faults, begun = [], [], asked(standby)
    for _route, path in furnished[1]:
        keeper, before = browser("keeper"), asked(standby)
        answer = keeper.get(path)
        if asked(standby) > before:
            moved.append(path)
            keeper.cookies["written-0123456789abcdef"] = "1"
            before = asked(standby)
            if keeper.get(path).status != answer.status or asked(standby) != before:
                faults.append(path)
        if answer.status >= 500:
            faults.append(path)
    assert not faults
    # Of 162 addresses 34 ask 95 questions there; most of the others look at no row, or lead to a form that changes one.
    assert len(moved) >= 30 and asked(standby) - begun >= 80, (len(moved), asked(standby) - begun)
    assert {PROFILE, PEOPLE, ACTIVITY, "/admin/auditlog/record/", "/accounts/invitations/"} <= set(moved)
    assert "replica.failed" not in site.program.says()


def test_who_wrote_sees_it_while_the_replica_does_not_know_it_yet(
    standby: Standby, browser: Callable[..., Browser]
) -> None:
    writer, other = browser("member"), browser("keeper")
    rename(writer, "Before")
    standby.catch_up()
    assert all("Before" in other.get(PEOPLE).body for _ in range(6))  # all processes know now where the primary is
    with standby.paused():
        rename(writer, "Afterwards")
        forgetful = browser("member")
        # What keeps the promise is the cookie: others are shown what the replica has.
        assert any("Before" in other.get(PEOPLE).body for _ in range(6))
        assert any(shows(forgetful.get(PROFILE), "Before") for _ in range(6))
        assert all(shows(writer.get(PROFILE), "Afterwards") for _ in range(6))
        # Who is signed in is another question, which no replica answers.
        assert all('id="person-name">Afterwards<' in forgetful.get(PROFILE).body for _ in range(6))
        for beyond in ("ffffffff.0", "0123456789abcdef"):
            bound = browser("member")
            bound.cookies[f"written-{beyond}"] = "1"
            assert all(shows(bound.get(PROFILE), "Afterwards") for _ in range(6)), beyond
    wait_until(lambda: shows(writer.get(PROFILE), "Afterwards"), "the replica has caught up")


def test_answers_to_one_browser_that_overtake_each_other_take_nothing_back(
    standby: Standby, browser: Callable[..., Browser]
) -> None:
    first, second, writer = browser("member"), browser("member"), browser("member")
    rename(first, "First")
    standby.catch_up()
    with standby.paused():
        rename(second, "Second")
        assert any(shows(first.get(PROFILE), "First") for _ in range(6))  # alone it is satisfied with the replica
        writer.cookies |= second.cookies | first.cookies
        assert len(positions_of(writer)) == 2
        assert all(shows(writer.get(PROFILE), "Second") for _ in range(6))
        assert positions_of(writer) == positions_of(second)
        rename(writer, "Third")
        assert len(positions_of(writer)) == 1 and positions_of(writer) > positions_of(second)
    standby.catch_up()


def test_a_forged_cookie_is_no_obstacle_to_a_write(browser: Callable[..., Browser]) -> None:
    member = browser("member")
    for number, forged in enumerate(("", "x", "a,b", "a b", "(", "-1.-1", "1." + "f" * 2000, "0" * 16, "ffffffff.f")):
        member.cookies[f"written-{forged}"] = "1"
        rename(member, f"Again {number}")
    for number in range(100):
        member.cookies[f"written-{number:x}.{number:x}"] = "1"
    rename(member, "Often")
    assert shows(member.get(PROFILE), "Often")


def positions_of(browser: Browser) -> list[str]:
    return [name for name in browser.cookies if name.startswith("written-")]


def test_who_may_be_here_and_what_a_link_opens_is_never_as_old_as_a_replica(
    site: Site,
    database: Database,
    standby: Standby,
    furnished: tuple[object, list[tuple[str, str]]],
    browser: Callable[..., Browser],
) -> None:
    stranger, member = site.browser(), browser("member")
    stranger.get(dict(furnished[1])["accounts/invitation/<str:token>/"])
    assert (stranger.get("/accounts/invitation/").status, member.get(PROFILE).status) == (200, 200)
    standby.catch_up()
    assert all(is_read(standby, browser("keeper")) for _ in range(4))
    with standby.paused():
        database.rows("UPDATE accounts_invitation SET revoked_at = now()")
        database.rows("UPDATE accounts_user SET is_active = false WHERE username = 'member'")
        assert {stranger.get("/accounts/invitation/").status for _ in range(4)} == {404}
        assert {member.get(PROFILE).status for _ in range(4)} == {302}
    database.rows("UPDATE accounts_user SET is_active = true WHERE username = 'member'")
    standby.catch_up()


def test_sessions_that_write_and_read_side_by_side_never_see_less_than_they_wrote(
    standby: Standby, browser: Callable[..., Browser]
) -> None:
    standby.rows("ALTER SYSTEM SET recovery_min_apply_delay = '150ms'")
    standby.rows("SELECT pg_reload_conf()")
    before = asked(standby)

    def write_and_read(number: int) -> list[str]:
        person, missed = browser(f"writer{number}"), []
        for turn in range(3):
            name = f"Name {number} {turn}"
            rename(person, name)
            for pause in (0, 0.1, 0.15):
                time.sleep(pause)
                missed += [] if shows(person.get(PROFILE), name) else [f"{name} after {pause} s"]
        return missed

    with ThreadPoolExecutor(WRITERS) as threads:
        assert [missed for found in threads.map(write_and_read, range(WRITERS)) for missed in found] == []
    assert asked(standby) > before + WRITERS  # the later of these pages came from there
    standby.rows("ALTER SYSTEM RESET recovery_min_apply_delay")
    standby.rows("SELECT pg_reload_conf()")
    standby.catch_up()


def test_to_note_that_a_session_is_in_use_binds_nobody_to_the_primary(
    database: Database, standby: Standby, browser: Callable[..., Browser]
) -> None:
    database.rows("UPDATE accounts_session SET last_seen_at = now() - interval '5 minutes'")
    keeper = browser("keeper")
    assert is_read(standby, keeper)
    assert positions_of(keeper) == []
    assert database.value("SELECT count(*) FROM accounts_session WHERE last_seen_at > now() - interval '1 minute'") == 1


def test_a_replica_that_is_late_for_long_is_left_out_and_taken_back(
    database: Database, standby: Standby, browser: Callable[..., Browser]
) -> None:
    writer, other = browser("writer0"), browser("keeper")
    with standby.paused():
        rename(writer, "Newest")
        time.sleep(LAG)
        # By all processes, of which each remembers where the primary was.
        wait_until(lambda: not any(is_read(standby, other) for _ in range(4)), "it is left out", seconds=3)
        assert "Newest" in other.get(PEOPLE).body
        away, late = standings(other)
        assert away == {"name": "replica1", "is_read": False, "seconds": None, "bytes": None, "code": "no_answer"}
        assert (late["is_read"], late["code"]) == (False, "left_out") and late["bytes"] > 0 and late["seconds"] > LAG
    wait_until(lambda: is_read(standby, other), "it is taken back", seconds=5)
    _away, known = standings(other)
    assert known == {"name": "replica2", "is_read": True, "seconds": 0.0, "bytes": 0, "code": "ok"}


def standings(browser: Browser) -> list[dict[str, Any]]:
    """What the page of the health check tells of each replica now."""
    answer = browser.request("GET", "/health/replicas", headers={"Accept": "application/json"})
    found: list[dict[str, Any]] = json.loads(answer.body)["replicas"]
    return found


def test_a_page_whose_replica_goes_away_in_the_middle_is_made_once_more_on_the_primary(
    site: Site, database: Database, standby: Standby, browser: Callable[..., Browser]
) -> None:
    keeper, said = browser("keeper"), len(site.program.says())
    locks = "SELECT 1 FROM pg_locks WHERE relation = 'healthcheck_sample'::regclass AND mode = 'AccessExclusiveLock'"
    stuck = "FROM pg_stat_activity WHERE application_name = 'gatehouse' AND wait_event_type = 'Lock'"

    def faults() -> set[str]:
        return set(re.findall(r'"error": "(\w+)", "event": "replica.failed"', site.program.says()[said:]))

    with closing(psycopg2.connect(database.environment["DATABASE_DIRECT_URL"])) as owner, ThreadPoolExecutor() as pool:
        owner.cursor().execute("LOCK TABLE healthcheck_sample")
        database.flush()
        wait_until(lambda: standby.rows(locks), "the standby has replayed the lock")
        wait_until(lambda: all(is_read(standby, keeper) for _ in range(4)), "all processes read there")
        with standby.paused():
            owner.rollback()  # who asks for the table waits at the standby now, and nowhere else
            cut = pool.submit(keeper.get, SAMPLES)
            wait_until(lambda: standby.rows(f"SELECT pg_terminate_backend(pid) {stuck}"), "it waits", seconds=LAG)
            hung = keeper.get(SAMPLES)
    assert (cut.result().status, hung.status) == (200, 200)
    assert faults() == {"OperationalError", "DeadlineExceeded"}
    assert hung.seconds < 3
    wait_until(lambda: is_read(standby, keeper), "it is read again", seconds=5)


def test_a_killed_replica_fails_no_request_and_is_taken_back(standby: Standby, browser: Callable[..., Browser]) -> None:
    with reading([browser("keeper") for _ in range(4)], [PEOPLE, ACTIVITY]) as answers:
        wait_until(lambda: len(answers) > 8, "pages are read")
        standby.kill()
        wait_until(lambda: len(answers) > 24, "pages are read further on")
    assert statuses(answers) == {200}
    standby.start()
    wait_until(lambda: is_read(standby, browser("keeper")), "it is taken back", seconds=10)


def test_a_frozen_replica_fails_no_request_and_is_taken_back(standby: Standby, browser: Callable[..., Browser]) -> None:
    with reading([browser("keeper") for _ in range(4)], [PEOPLE, ACTIVITY]) as answers:
        wait_until(lambda: len(answers) > 8, "pages are read")
        with standby.frozen():
            time.sleep(1.5)
            before = len(answers)
            wait_until(lambda: len(answers) > before + 8, "pages are read further on")
    assert statuses(answers) == {200}
    assert max(answer.seconds for answer in answers) < 3, sorted(answer.seconds for answer in answers)[-5:]
    wait_until(lambda: is_read(standby, browser("keeper")), "it is taken back", seconds=10)


@contextmanager
def reading_here(database: Database, standby: Standby) -> Iterator[Callable[[], bool]]:
    """Read in this process, as a page does, and say whether it was from the standby."""
    reachable = {"HOST": str(standby.cluster.socket_directory()), "CONN_HEALTH_CHECKS": False}

    def is_read_here() -> bool:
        with routing.reading(None) as page:
            page.open(dict)
            with routing.connection_for_reading().cursor() as cursor:
                cursor.execute("SELECT 1 FROM accounts_user")
            return page.statements > 0

    with used_by_django(database), override_settings(DATABASE_REPLICAS=["replica1"]):
        replicas.of_settings.cache_clear()
        settings = connections["default"].settings_dict
        connections["replica1"] = type(connections["default"])(settings | reachable, alias="replica1")
        try:
            yield is_read_here
        finally:
            connections["replica1"].close()
            del connections["replica1"]
            replicas.of_settings.cache_clear()


def test_where_a_page_reads_is_a_matter_of_what_it_did_before(
    database: Database, standby: Standby, django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock(), reading_here(database, standby) as is_read_here:
        wait_until(is_read_here, "it is read")
        router = ConnectionRouter(["config.database.routing.ReplicaRouter"])
        keeper, copy = (User.objects.using(alias).get(username="keeper") for alias in ("default", "replica1"))

        def place(model: type[Model] = User, **hints: Any) -> str:
            return str(router.db_for_read(model, **hints))

        assert place() == "default"  # outside of any page
        with routing.reading(None) as page:
            assert place() == "default"  # before its view
            page.open(dict)
            assert (place(), place(instance=copy), place(Invitation)) == ("replica1", "replica1", "replica1")
            assert (place(instance=keeper), place(Session), place(Group)) == ("default", "default", "default")
            with routing.on_primary():
                assert place() == "default"
            with transaction.atomic():
                assert place() == "default"
            assert place() == "replica1"
            assert router.db_for_write(User, instance=copy) == "default"
            assert place() == "default"
        with routing.reading(None) as page:
            page.open(dict)
            assert place() == "replica1"
            with connections["default"].cursor() as cursor:
                cursor.execute("DELETE FROM accounts_invitation WHERE false")
            assert (place(), page.has_written) == ("default", True)
            assert not page.can_be_repeated(Http404())
        with routing.reading(BEYOND) as page:
            page.open(dict)
            assert place() == "default"
        with routing.reading(None) as page:
            page.open(dict)
            assert not page.can_be_repeated(Http404())  # of no replica
            with pytest.raises(OperationalError), routing.connection_for_reading().cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")
            assert (place(), page.can_be_repeated(ValueError())) == ("default", True)
        assert "_watched" not in {wrapper.__name__ for wrapper in connections["replica1"].execute_wrappers}
        assert is_read_here()


def test_a_promoted_replica_is_none_any_more(
    database: Database, standby: Standby, browser: Callable[..., Browser], django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock(), reading_here(database, standby) as is_read_here:
        wait_until(is_read_here, "it is read")
        standby.promote()
        wait_until(partial(standby.value, "SELECT NOT pg_is_in_recovery()"), "it is promoted")
        standby.rows("UPDATE accounts_user SET full_name = 'Of another history'")
        promoted = time.monotonic()
        # No longer than a connection is trusted, however much is read meanwhile.
        wait_until(lambda: not is_read_here(), "it is not read", seconds=2)
        assert time.monotonic() - promoted < 1.5
    assert all("Of another history" not in browser("keeper").get(PEOPLE).body for _ in range(6))
    assert standings(browser("keeper"))[1]["code"] == "no_replica"
