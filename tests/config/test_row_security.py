"""The database keeps the rows of one person from another, whatever way they are asked for."""

from __future__ import annotations

import io
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser
from django.contrib.postgres.aggregates import ArrayAgg
from django.core.checks import run_checks
from django.db import Error, IntegrityError, ProgrammingError, connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import AsyncClient, Client, RequestFactory, override_settings
from psycopg2 import errors, extensions
from pytest_django.plugin import DjangoDbBlocker

from accounts.models import User
from auditlog import channel
from auditlog.context import Context, in_context
from auditlog.models import Record
from config import health, policies, row_security
from config.database import deadline, embedded
from config.database.roles import as_owner
from config.embedded_postgres import PORT, RUNTIME_ROLE
from config.row_security import NotProtectable, everybody, only, protect
from healthcheck.results import Result, Status
from tests.auditlog.world import clear, counted_round_trips, visitor
from tests.errands.models import Errand, Step
from tests.factories import UserFactory
from tests.hostapp.models import Part, Word
from tests.live import wait_until

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
TABLES = ["errands_errand", "errands_errand_after", "errands_step"]
HERS, HIS = ["ask", "buy"], ["call"]


@contextmanager
def mode_on() -> Iterator[None]:
    """As in a process that was started with ROW_SECURITY=on, on a database that was migrated with it."""
    try:
        with override_settings(ROW_SECURITY=True), pytest.MonkeyPatch.context() as patch:
            patch.setattr(row_security, "_outside_requests", row_security.EVERYBODY)
            patch.setattr(row_security, "_protected", {})  # nothing of the other sample apps
            protect(Errand)
            protect(Step, owner="errand__owner")
            migrate()
            yield
    finally:
        channel._brought.clear()
        migrate()


def migrate() -> None:
    with as_owner():
        policies.install(connection)


@pytest.fixture(scope="module")
def people(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[dict[str, User]]:
    with django_db_blocker.unblock():
        made = {name: UserFactory.create(username=f"world-{name}") for name in ("ada", "bob")}
        made["keeper"] = UserFactory.create(username="world-keeper", is_staff=True, is_superuser=True)
        with mode_on():
            yield made
        clear()


@pytest.fixture
def world(people: dict[str, User], django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Committed rows of two people: errands, each with a step, and which comes after which."""
    with django_db_blocker.unblock():
        for owner, titles in (("ada", HERS), ("bob", HIS)):
            made = [Errand(owner=people[owner], title=title) for title in titles]
            Errand.objects.bulk_create(made)
            Step.objects.bulk_create([Step(errand=errand, text=f"to {errand.title}") for errand in made])
            made[0].after.add(made[-1])
        try:
            yield
        finally:
            connection.close()
            with everybody():
                Errand.all_objects.all().erase()


@pytest.fixture
def ada(people: dict[str, User], world: None) -> User:
    return people["ada"]


@pytest.fixture
def bob(people: dict[str, User], world: None) -> User:
    return people["bob"]


def titles() -> list[str]:
    return sorted(Errand.objects.values_list("title", flat=True))


def rows(statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def firsts(statement: str) -> list[str]:
    return sorted(row[0] for row in rows(statement))


def copied() -> list[str]:
    file = io.StringIO()
    with deadline.blocking_copy(), connection.cursor() as cursor:
        cursor.cursor.copy_expert("COPY (SELECT title FROM errands_errand) TO STDOUT", file)
    return sorted(file.getvalue().split())


def copied_table() -> list[str]:
    file = io.StringIO()
    with deadline.blocking_copy(), connection.cursor() as cursor:
        cursor.cursor.copy_to(file, "errands_errand", columns=["title"])
    return sorted(file.getvalue().split())


def called() -> list[str]:
    with connection.cursor() as cursor:
        cursor.callproc("ts_stat", ["SELECT to_tsvector('simple', title) FROM errands_errand"])
        return sorted(word for word, _rows, _places in cursor.fetchall())


def declared() -> list[str]:
    with transaction.atomic():
        rows("DECLARE errands CURSOR FOR SELECT title FROM errands_errand")
        found = firsts("FETCH ALL FROM errands")
        rows("CLOSE errands")
        return found


def steps() -> list[str]:
    return sorted(step.text.removeprefix("to ") for step in Step.objects.all())


# --- reads ------------------------------------------------------------------------------------------

SQL = "SELECT title FROM errands_errand"
READS: dict[str, Callable[[], list[str]]] = {
    "objects": titles,
    "rows of her errands' steps": steps,
    "a join": lambda: sorted(Step.objects.values_list("errand__title", flat=True)),
    "a join that the database need not make": lambda: firsts(
        "SELECT e.title FROM errands_step s LEFT JOIN errands_errand e ON e.id = s.errand_id"
    ),
    "a prefetch": lambda: sorted({s.errand.title for s in Step.objects.prefetch_related("errand")}),
    "an aggregate": lambda: sorted(Errand.objects.aggregate(all=ArrayAgg("title", default=[]))["all"]),
    "a union": lambda: sorted(
        Errand.objects.values_list("title", flat=True).union(Errand.objects.values_list("title", flat=True))
    ),
    "each, from a cursor of the server": lambda: sorted(e.title for e in Errand.objects.iterator(chunk_size=1)),
    "SQL": lambda: firsts(SQL),
    "SQL in brackets": lambda: firsts(f"(({SQL})) UNION ({SQL})"),
    "SQL behind a comment": lambda: firsts(f"-- all\n /* of\n them */ {SQL}"),
    "TABLE": lambda: sorted(
        value.removeprefix("to ") for row in rows("TABLE errands_step") for value in row if isinstance(value, str)
    ),
    "WITH": lambda: firsts("WITH mine AS (SELECT title FROM errands_errand) SELECT * FROM mine"),
    "VALUES": lambda: sorted(rows("VALUES (ARRAY(SELECT title FROM errands_errand))")[0][0]),
    "a condition that tries to see each": lambda: firsts(f"{SQL} WHERE title || pg_sleep(0)::text <> ''"),
    "COPY": copied,
    "COPY of a table": copied_table,
    "a function": called,
    "DECLARE": declared,
}  # fmt: skip


@pytest.mark.parametrize("atomic", [False, True], ids=["autocommit", "in a transaction"])
@pytest.mark.parametrize("read", READS)
def test_a_read_sees_the_rows_of_one_person(read: str, atomic: bool, ada: User, bob: User) -> None:
    with transaction.atomic() if atomic else nullcontext():
        for who, seen in (
            (only(ada), HERS), (only(bob), HIS), (everybody(), HERS + HIS), (only(AnonymousUser()), []),
            (nullcontext(), HERS + HIS), (only(ada), HERS),
        ):  # fmt: skip
            with who:
                assert READS[read]() == seen


@pytest.mark.usefixtures("world")
def test_a_session_that_was_told_nothing_sees_nothing() -> None:
    """Also one whose last transaction was told something."""
    assert titles() == HERS + HIS
    with connection.connection.cursor(cursor_factory=extensions.cursor) as cursor:
        cursor.execute(SQL)
        assert cursor.fetchall() == []
        cursor.execute("SELECT current_setting('gatehouse.person', true)")
        assert cursor.fetchone() in [("",), (None,)]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("said", ["ada", "' OR true --", "%", "**"])
def test_a_person_that_cannot_be_is_an_error_and_no_row(said: str) -> None:
    with suppress(Error), row_security._choose(said):
        assert titles() == []


# --- writes -----------------------------------------------------------------------------------------


def test_a_write_of_anothers_rows_finds_none(ada: User, bob: User) -> None:
    with only(ada):
        assert Errand.objects.filter(owner=bob).update(title="hers") == 0
        assert Errand.all_objects.filter(title="call").erase()[0] == 0
        assert rows("UPDATE errands_step SET text = 'x' RETURNING text") == [("x",), ("x",)]
        assert len(rows("DELETE FROM errands_step RETURNING id")) == 2
    assert (titles(), steps()) == (HERS + HIS, HIS)


def test_no_row_can_be_made_for_another_or_given_away(ada: User, bob: User) -> None:
    with everybody():
        his = Errand.objects.get(title="call")
        step = Step.objects.get(errand__title="ask")
    attempts: list[Callable[[], object]] = [
        lambda: Errand.objects.create(owner=bob, title="pay"),
        lambda: Errand.objects.bulk_create([Errand(owner=ada, title="pay"), Errand(owner=bob, title="send")]),
        lambda: Errand.objects.filter(title="ask").update(owner=bob),
        lambda: rows("INSERT INTO errands_errand (owner_id, title) VALUES (%s, 'pay')", [bob.pk]),
        lambda: Step.objects.create(errand=his, text="x"),
        lambda: Step.objects.filter(pk=step.pk).update(errand=his),
        lambda: rows("INSERT INTO errands_errand_after (from_errand_id, to_errand_id) VALUES (%s, %s)", [his.pk] * 2),
    ]
    for attempt in attempts:
        with only(ada), pytest.raises(ProgrammingError, match="row-level security policy"):
            attempt()
        assert titles() == HERS + HIS
    with only(ada):
        assert Errand.objects.create(owner=ada, title="pay").steps.create(text="x").errand.title == "pay"
        with (
            pytest.raises(errors.FeatureNotSupported, match="COPY FROM"),
            deadline.blocking_copy(),
            connection.cursor() as cursor,
        ):
            cursor.cursor.copy_expert("COPY errands_step (errand_id, text) FROM STDIN", io.StringIO(""))
    with everybody():
        assert Errand.objects.create(owner=bob, title="send").steps.create(text="x").pk


def test_foreign_keys_and_the_trail_see_all_rows(ada: User, bob: User) -> None:
    with only(ada):
        Errand.objects.filter(title="ask").update(title="asked")
    record = Record.objects.latest("id")
    assert (record.resource, record.before, record.after) == ("errands.errand", {"title": "ask"}, {"title": "asked"})
    with only(ada), pytest.raises(IntegrityError, match="title"):  # so she learns of his
        Errand.objects.filter(title="asked").update(title="call")
    with everybody(), transaction.atomic():
        Step.objects.filter(errand__owner=bob).update(errand=Errand.objects.get(title="buy"))
        with pytest.raises(IntegrityError, match="errands_step"), transaction.atomic(), only(ada):
            rows("DELETE FROM errands_errand_after; SET CONSTRAINTS ALL IMMEDIATE; DELETE FROM errands_errand")
        transaction.set_rollback(True)


# --- when it changes --------------------------------------------------------------------------------


def test_whose_rows_they_are_follows_savepoints_and_ends_with_the_transaction(ada: User, bob: User) -> None:
    with only(ada), transaction.atomic():
        assert titles() == HERS
        with suppress(ZeroDivisionError), transaction.atomic(), only(bob):
            assert titles() == HIS
            raise ZeroDivisionError
        with only(bob):  # of which the server has gone back behind
            assert titles() == HIS
        assert titles() == HERS
        savepoint = transaction.savepoint()
        with only(bob):
            assert titles() == HIS
            transaction.savepoint_rollback(savepoint)
            assert titles() == HIS  # though nobody else is meant than before
        with suppress(Error), transaction.atomic():
            rows("SELECT 1 / 0")
        assert titles() == HERS
    with only(bob):
        with suppress(ZeroDivisionError), transaction.atomic():
            assert titles() == HIS
            raise ZeroDivisionError
        with suppress(Error):
            rows("SELECT 1 / 0")
        assert titles() == HIS


def test_in_a_transaction_that_was_told_more_whatever_reads_is_told_less_again(ada: User, bob: User) -> None:
    """Also what the server reads when rows are fetched from a cursor of its own."""
    halves = [Errand.objects.filter(title="ask"), Errand.objects.exclude(title="ask")]
    with only(ada), transaction.atomic():
        errands = halves[0].union(halves[1], all=True).values_list("title", flat=True).iterator(chunk_size=1)
        seen = [next(errands)]
        rows("DECLARE errands CURSOR FOR SELECT title FROM errands_errand")
        with everybody():
            assert titles() == HERS + HIS
        assert seen + list(errands) == HERS
        with everybody():
            assert titles() == HERS + HIS
        assert firsts("FETCH ALL FROM errands") == HERS
        with everybody():
            assert titles() == HERS + HIS
        assert firsts(f"SET LOCAL work_mem = '1MB'; {SQL}") == HERS
    with only(ada), transaction.atomic():
        rows("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # which must be the first
        assert titles() == HERS


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("fetch", ["fetchone", "fetchmany", "fetchall", "__next__"])
def test_each_way_to_fetch_from_a_cursor_of_the_server_is_told(fetch: str, ada: User) -> None:
    with only(ada), transaction.atomic(), connection.connection.cursor("errands") as cursor:
        cursor.execute(SQL)
        with everybody():
            assert titles() == HERS + HIS
        getattr(cursor, fetch)()
        with connection.connection.cursor(cursor_factory=extensions.cursor) as untold:
            untold.execute("SELECT current_setting('gatehouse.person')")
            assert untold.fetchone() == (str(ada.pk),)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as door:  # which is there a moment before somebody listens behind it
        return door.connect_ex(str(path)) == 0


@contextmanager
def pooler(directory: Path) -> Iterator[None]:
    """PgBouncer in transaction mode, with one session of the server for all its clients."""
    server, name = embedded.socket_directory(), connection.settings_dict["NAME"]
    account = pwd.getpwuid(os.stat(server).st_uid).pw_name  # PgBouncer refuses root
    (directory / "bouncer.ini").write_text(
        f"[databases]\n{name} = host={server} port={PORT} user={RUNTIME_ROLE}\n[pgbouncer]\npool_mode = transaction\n"
        f"default_pool_size = 1\nauth_type = any\nunix_socket_dir = {directory}\nlisten_port = {PORT}\n"
        + (f"user = {account}\n" if os.geteuid() == 0 else "")
    )
    directory.chmod(0o777)
    started = subprocess.Popen([PGBOUNCER or "", "-q", directory / "bouncer.ini"])
    try:
        wait_until(lambda: _listens(directory / f".s.PGSQL.{PORT}"), "the pooler listens")
        yield
    finally:
        started.terminate()
        started.wait()


@pytest.mark.skipif(not PGBOUNCER or not embedded.is_embedded(), reason="wants PgBouncer, and a server of the suite's")
def test_clients_that_share_a_session_behind_a_pooler_see_their_own_rows(ada: User, bob: User) -> None:
    with tempfile.TemporaryDirectory() as directory, pooler(Path(directory)):
        one, two = clients = [connections.create_connection("default") for _ in range(2)]
        for client in clients:
            client.settings_dict = client.settings_dict | {"HOST": directory, "OPTIONS": {}}
        sessions = set()
        for client, who, seen in (
            (one, only(ada), HERS), (two, only(bob), HIS), (one, everybody(), HERS + HIS),
            (two, only(AnonymousUser()), []), (two, only(bob), HIS), (one, only(ada), HERS),
        ):  # fmt: skip
            with who, client.cursor() as cursor:
                cursor.execute("SELECT title, pg_backend_pid() FROM errands_errand ORDER BY title")
                found = cursor.fetchall()
                assert [title for title, _session in found] == seen
                sessions |= {session for _title, session in found}
        assert len(sessions) == 1
        for client in clients:
            client.close()


@pytest.fixture
def replica() -> Iterator[BaseDatabaseWrapper]:
    """The session of a page with a replica, which takes no writes."""
    options = {**connection.settings_dict["OPTIONS"], "options": "-c default_transaction_read_only=on"}
    router = "config.database.routing.ReplicaRouter"
    with override_settings(DATABASE_ROUTERS=[router], DATABASE_REPLICAS=["replica1"]):
        made = type(connections["default"])(connection.settings_dict | {"OPTIONS": options}, alias="replica1")
        yield made
        made.close()


def test_a_replica_is_told_whose_rows_are_read_and_nothing_that_it_would_have_to_write(
    replica: BaseDatabaseWrapper, ada: User, bob: User
) -> None:
    request = RequestFactory().get("/", headers={"User-Agent": "unknown as yet"})
    request.user = bob
    with replica.cursor() as cursor:
        for who, seen in ((only(ada), HERS), (everybody(), HERS + HIS), (nullcontext(), HIS), (only(ada), HERS)):
            with in_context(Context(request=request)), who:
                cursor.execute(SQL)
                assert sorted(title for (title,) in cursor.fetchall()) == seen
                cursor.execute("SELECT upper('accounts_user'), current_setting('auditlog.context', true)")
                assert not cursor.fetchone()[1]


COSTS: dict[str, Callable[[User], object]] = {
    "read": lambda ada: titles(),
    "reads": lambda ada: (titles(), steps(), titles()),
    "create": lambda ada: Errand.objects.create(owner=ada, title="pay"),
    "update": lambda ada: Errand.objects.filter(title="ask").update(title="asked"),
    "get and save": lambda ada: Errand.objects.get(title="ask").save(),
}


@pytest.mark.parametrize("atomic", [False, True], ids=["autocommit", "in a transaction"])
@pytest.mark.parametrize("what", COSTS)
def test_it_costs_no_round_trip(what: str, atomic: bool, ada: User) -> None:
    rows("SELECT set_config('gatehouse.person', %s, false)", [str(ada.pk)])  # of the session, for when it is not told
    trips = []
    for mode in (nullcontext(), told_nothing()):
        with mode, only(ada), counted_round_trips() as count, transaction.atomic() if atomic else nullcontext():
            COSTS[what](ada)
        trips.append(count[0])
        Errand.objects.filter(title="pay").erase()
    assert trips[0] == trips[1] > 0


@contextmanager
def told_nothing() -> Iterator[None]:
    brought = dict(channel._brought)
    channel._brought.clear()
    try:
        yield
    finally:
        channel._brought.update(brought)


@pytest.mark.usefixtures("world")
def test_with_the_mode_off_what_is_sent_is_what_it_was() -> None:
    def sent() -> bytes:
        with connection.cursor() as cursor:
            cursor.execute(SQL)
            return bytes(extensions.cursor.query.__get__(cursor.cursor))

    assert sent() == b"SELECT set_config('gatehouse.person', '*', true);" + SQL.encode()
    with told_nothing():
        assert sent() == SQL.encode()
        with override_settings(ROW_SECURITY=False):
            protect(Errand)
            assert (sent(), row_security.protected()) == (SQL.encode(), {})
    with as_owner():
        assert sent() == SQL.encode()
        rows("VACUUM errands_errand")


# --- pages ------------------------------------------------------------------------------------------

PAGES = ["", "by-sql/", "async/"]


@pytest.fixture
def urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF="tests.errands.urls"):
        yield


def get(client: Client, page: str) -> Any:
    return client.get(f"/errands/{page}").json()


@pytest.mark.usefixtures("world", "urls")
def test_people_who_share_a_connection_see_their_own_rows_in_turn() -> None:
    hers, his, nobodys = visitor(Client(), "world-ada"), visitor(Client(), "world-bob"), Client()
    hers.raise_request_exception = his.raise_request_exception = False
    for page in PAGES:
        for client, seen in ((hers, HERS), (his, HIS), (hers, HERS)):
            assert get(client, page) == seen
            assert client.get("/errands/fail/").status_code == 500
        assert get(nobodys, page) == []
        assert titles() == HERS + HIS  # outside of any request


@pytest.mark.usefixtures("world", "urls")
def test_who_signs_in_during_a_request_sees_the_own_rows_from_then_on() -> None:
    assert get(Client(), "sign-in/?username=world-bob") == [[], HIS]


@pytest.mark.usefixtures("world", "urls")
def test_an_answer_that_is_sent_piece_by_piece_holds_the_own_rows() -> None:
    assert b"".join(visitor(Client(), "world-ada").get("/errands/stream/")).decode() == "".join(HERS)

    async def streamed() -> str:
        answer = await visitor_in_async.get("/errands/async-stream/")
        return b"".join([piece async for piece in answer]).decode()

    visitor_in_async: Any = visitor(AsyncClient(), "world-bob")
    assert async_to_sync(streamed)() == "".join(HIS)


@pytest.mark.usefixtures("world", "urls")
def test_the_console_shows_everybodys_rows() -> None:
    page = visitor(Client(), "world-keeper").get("/errands/admin/errands/errand/")
    assert [title for title in HERS + HIS if f">{title}<" in page.content.decode()] == HERS + HIS


@pytest.mark.usefixtures("world")
def test_a_process_of_pages_sees_nothing_outside_of_a_request(ada: User) -> None:
    row_security.serve_requests_only()
    assert titles() == []
    request = RequestFactory().get("/")
    with in_context(Context(request=request)):
        assert titles() == []
        request.user = ada
        assert titles() == HERS
        with everybody():
            assert titles() == HERS + HIS
    with everybody():
        assert titles() == HERS + HIS


# --- plans ------------------------------------------------------------------------------------------


def explained(statement: str) -> list[str]:
    return [line.strip() for (line,) in rows(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF) {statement}")]


def test_the_owners_index_serves_what_nobody_has_filtered(ada: User, bob: User) -> None:
    """And who it is, is asked once: not for each row, nor for each errand."""
    with transaction.atomic():
        rows(
            "INSERT INTO errands_errand (owner_id, title) SELECT %s, n::text FROM generate_series(1, 5000) n", [bob.pk]
        )
        rows("INSERT INTO errands_step (errand_id, text) SELECT id, title FROM errands_errand WHERE title < 'a'")
        rows("SET LOCAL enable_seqscan = off")  # autovacuum may have met the tables when they were all but empty
        with only(ada):
            plans = {
                "errands_errand_owner_id": explained(SQL),
                "errands_step_errand_id": explained("SELECT text FROM errands_step"),
            }
        transaction.set_rollback(True)
    for index, plan in plans.items():
        assert index in str(plan)
        assert "Seq Scan" not in str(plan)
        assert len([line for line in plan if line.startswith("InitPlan")]) >= 2
        assert "SubPlan" not in str(plan)
        assert not [line for line in plan if "loops=" in line and "loops=1)" not in line]


# --- what is installed ------------------------------------------------------------------------------


def messages() -> list[str]:
    return [str(message.id) for message in run_checks(databases=["default"]) if "config." in str(message.id)]


def owner(statement: str) -> None:
    with as_owner():
        rows(statement)


@pytest.mark.usefixtures("world")
def test_what_is_declared_is_installed_and_said_to_be_well() -> None:
    assert sorted(policies.declared()) == TABLES
    assert policies.differences(connection) == ([], [])
    assert messages() == []


P = policies.NAME
DAMAGES = {
    "gone": f"DROP POLICY {P} ON errands_step",
    "off": "ALTER TABLE errands_step DISABLE ROW LEVEL SECURITY",
    "open to read": f"ALTER POLICY {P} ON errands_step USING (true)",
    "open to write": f"ALTER POLICY {P} ON errands_step WITH CHECK (true)",
    "of another role": f"ALTER POLICY {P} ON errands_step TO gatehouse_owner",
}


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_policy_that_is_not_as_declared_is_named_and_mended_by_migrate(damage: str, ada: User) -> None:
    owner(DAMAGES[damage])
    assert policies.differences(connection) == (["errands_step"], [])
    assert messages() == ["config.W004"]
    assert health.configuration() in [Result(Status.FAIL, "policies_differ", 1), Result(Status.FAIL, "unfit_server")]
    migrate()
    assert messages() == []
    with only(ada):
        assert steps() == HERS


@pytest.mark.usefixtures("world")
def test_a_migration_taken_back_leaves_out_what_has_no_owner_any_more(ada: User) -> None:
    with as_owner(), transaction.atomic():
        rows("ALTER TABLE errands_step DROP COLUMN errand_id CASCADE")  # as Django does, and the policy with it
        rows(f"DROP POLICY {P} ON errands_errand_after")
        with pytest.raises(ProgrammingError, match="errand_id"), transaction.atomic():
            policies.install(connection)
        rows("DELETE FROM django_migrations WHERE app = 'errands'")
        policies.install(connection)
        assert policies.differences(connection) == (["errands_step"], [])
        transaction.set_rollback(True)
    with only(ada):
        assert steps() == HERS


@pytest.mark.usefixtures("world")
def test_another_policy_and_a_view_that_let_more_through_are_named() -> None:
    owner("CREATE POLICY open ON errands_step USING (true)")
    owner("CREATE VIEW errands_open AS SELECT * FROM errands_step")
    owner("CREATE VIEW errands_over_it WITH (security_invoker = true) AS SELECT * FROM errands_open")
    owner("CREATE VIEW errands_kept WITH (security_invoker = true) AS SELECT * FROM errands_step")
    owner("GRANT SELECT ON errands_kept TO PUBLIC")
    try:
        assert policies.differences(connection) == ([], [("errands_step", "open")])
        assert policies.views_of_everybody(connection) == ["errands_open"]
        assert messages() == ["config.W004", "config.W005"]
        migrate()
        assert policies.differences(connection) == ([], [])
        with only(AnonymousUser()):
            assert rows("SELECT * FROM errands_kept") == []
    finally:
        owner("DROP VIEW errands_open, errands_over_it, errands_kept CASCADE")


@pytest.mark.usefixtures("world")
def test_a_role_that_is_above_the_policies_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_security, "is_owner", lambda connection: False)
    with as_owner():
        assert messages() == ["config.E004"]


def test_with_the_mode_off_nothing_is_left(people: dict[str, User], django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock():
        try:
            with override_settings(ROW_SECURITY=False):
                assert policies.differences(connection)[0] == []
                migrate()
                assert rows("SELECT 1 FROM pg_policy") == rows("SELECT 1 FROM pg_class WHERE relrowsecurity") == []
                assert messages() == []
        finally:
            migrate()
        assert policies.differences(connection) == ([], [])


# --- what cannot be protected -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path", "why"),
    [
        (Step, "owner", "no foreign key of its own called owner"),
        (Step, "text", "no foreign key of its own called text"),
        (Step, "errand", "leads to errands.Errand and to no user"),
        (Part, "maker__owner", "may be empty"),
        (Word.synonyms.through, "from_word__owner", "neither a number nor a UUID"),
        (Errand, "owner__groups", "no foreign key of its own called groups"),
    ],
)
def test_a_path_that_leads_to_no_owner_is_refused(model: Any, path: str, why: str) -> None:
    with pytest.raises(NotProtectable, match=why):
        protect(model, owner=path)
