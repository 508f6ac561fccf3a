"""Who, why and from where: it reaches every record whatever it holds, costs no round trip, outlives no transaction."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, connection, transaction
from django.db.models import F
from django.db.models.signals import pre_save
from django.http import HttpRequest
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject
from psycopg2 import sql
from pytest_django.plugin import DjangoDbBlocker

from accounts.models import User
from auditlog import Actor, acting_as, channel
from auditlog.context import ANONYMOUS, Context, agent_id, in_context, running_command
from auditlog.models import Agent, Record
from config.database import deadline
from config.database.roles import as_owner
from tests.auditlog.world import ADA, Trail, actor_of, as_ada, committed_world, counted_round_trips, visitor
from tests.hostapp.models import Tag, Thing, UnauditedThing

ROSE = "UPDATE hostapp_tag SET name = 'rose' WHERE id = 1"


@pytest.fixture(autouse=True)
def world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock(), committed_world():
        yield


def rename(name: str = "rose") -> None:
    Tag.objects.filter(pk=1).update(name=name)


def last() -> Record:
    record = Record.objects.order_by("id").last()
    assert record is not None
    return record


def who(record: Record) -> Actor:
    return Actor(record.actor_kind, record.actor_id, record.actor_label)


def execute(statement: Any, parameters: Any = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def post(address: str, client: Client | None = None, **data: str) -> Any:
    with override_settings(ROOT_URLCONF="tests.hostapp.urls"):
        return (client or Client()).post(address, data)


# Who


def test_a_stranger_is_recorded_as_one() -> None:
    post("/host/rename/")
    assert who(last()) == ANONYMOUS


def test_who_acts_is_asked_at_the_moment_of_the_write() -> None:
    """Also for a login within the request."""
    trail = Trail()
    post("/host/sign-in-and-rename/", username="world-ada")
    assert [(entry.action, entry.new, entry.actor) for entry in trail.entries()] == [
        ("update", {"name": "before"}, ANONYMOUS),
        ("login", None, actor_of()),
        ("update", {"name": "after"}, actor_of()),
    ]


def visitor_user() -> Any:
    return User.objects.get(username="world-ada")


def test_a_user_who_is_set_later_counts() -> None:
    request = RequestFactory().get("/")
    with in_context(Context(request=request)):
        rename("early")
        assert who(last()) == ANONYMOUS
        request.user = AnonymousUser()
        rename("strange")
        assert who(last()) == ANONYMOUS
        request.user = visitor_user()
        rename("known")
        assert who(last()) == actor_of()


def test_what_is_written_to_find_out_who_it_is_is_nobodys_yet() -> None:
    """After a change of SECRET_KEY Django gives a session another key, while it looks whose it is."""

    def looked_up() -> Any:
        rename("meanwhile")
        return visitor_user()

    request = RequestFactory().get("/")
    whoever: Any = SimpleLazyObject(looked_up)
    request.user = whoever
    trail = Trail()
    with in_context(Context(request=request)):
        rename("known")
    assert [(entry.new, entry.actor) for entry in trail.entries()] == [
        ({"name": "meanwhile"}, ANONYMOUS),
        ({"name": "known"}, actor_of()),
    ]


def test_on_behalf_of_somebody_names_both() -> None:
    post("/host/rename-for-somebody/", username="world-ada", reason="she is on holiday")
    record = last()
    assert who(record) == ANONYMOUS
    assert (record.on_behalf_id, record.on_behalf_label) == (actor_of().id, "world-ada")
    assert record.reason == "she is on holiday"


def test_a_name_in_force_ends_with_its_block_also_within_a_transaction() -> None:
    trail = Trail()
    bob = Actor("token", "8", "bob")
    with transaction.atomic(), as_ada():
        rename("a")
        with acting_as(bob, reason="because"):
            rename("b")
        rename("c")
        with acting_as(reason="for another reason"):
            rename("e")
    rename("d")
    assert [(entry.actor, record.reason) for entry, record in zip(trail.entries(), trail.records(), strict=True)] == [
        (ADA, None),
        (bob, "because"),
        (ADA, None),
        (ADA, "for another reason"),
        (running_command(), None),
    ]


TEXTS = [
    "100%",
    "%s %(x)s %%",
    "it's",
    'say "so"',
    "back\\slash \\' E'",
    "'); DROP TABLE x; --",
    "$$",
    "→ 😀",
    "a\nb\tc",
    "?",
]


@pytest.mark.parametrize("text", TEXTS)
def test_every_text_arrives_as_it_was_said(text: str) -> None:
    writes: list[Callable[[], object]] = [
        rename,
        lambda: execute("UPDATE hostapp_tag SET name = 'x%y' WHERE id = 1"),
        lambda: execute("UPDATE hostapp_tag SET name = %s || '%%' WHERE id = 1", [text]),
        lambda: execute("UPDATE hostapp_tag SET name = %(name)s WHERE id = 1", {"name": "z"}),
        lambda: execute(b"UPDATE hostapp_tag SET name = 'bytes' WHERE id = 1"),
        lambda: execute(
            sql.SQL("UPDATE {} SET name = {} WHERE id = 1").format(sql.Identifier("hostapp_tag"), sql.Literal(text))
        ),
    ]
    for write in writes:
        trail = Trail()
        with acting_as(Actor("token", text, text), on_behalf_of=Actor("user", text, text), reason=text):
            write()
        (record,) = trail.records()
        assert who(record) == Actor("token", text, text)
        assert (record.on_behalf_id, record.on_behalf_label, record.reason) == (text, text, text)


@pytest.mark.parametrize(
    ("said", "recorded"),
    [("x" * 9999, "x" * 500), ("a\0b", "ab"), ("a\udc80b", "a?b"), ("\0", None), ("", None)],
    ids=["long", "NUL", "surrogate", "only NUL", "empty"],
)
def test_what_cannot_be_stored_is_bounded_and_left_out(said: str, recorded: str | None) -> None:
    with acting_as(Actor("token", said, said), on_behalf_of=Actor("user", said, said), reason=said):
        rename()
    record = last()
    assert record.reason == recorded
    assert record.actor_label == record.actor_id == record.on_behalf_label == (recorded and recorded[:120])


# From where


def request_with(**headers: str) -> HttpRequest:
    return RequestFactory().get("/", REMOTE_ADDR="203.0.113.9", headers=headers)


@pytest.mark.parametrize(
    ("forwarded", "proxies", "expected"),
    [
        ("6.6.6.6", 0, "203.0.113.9"),
        ("6.6.6.6, 198.51.100.1", 1, "198.51.100.1"),
        ("nonsense", 1, "203.0.113.9"),
        ("'; DROP TABLE x; --", 1, "203.0.113.9"),
        ("1.2.3.4/8", 1, "203.0.113.9"),
        ("999.1.1.1", 1, "203.0.113.9"),
        ("fe80::1%eth0", 1, "fe80::1"),
        ("::ffff:1.2.3.4", 1, "::ffff:1.2.3.4"),
        (",,,", 2, "203.0.113.9"),
        ("٣.٣.٣.٣", 1, "203.0.113.9"),
        ("x" * 9999, 1, "203.0.113.9"),
    ],
)
def test_a_forwarded_address_neither_lies_nor_fails(forwarded: str, proxies: int, expected: str) -> None:
    request = request_with()
    request.META["HTTP_X_FORWARDED_FOR"] = forwarded
    with override_settings(TRUSTED_PROXIES=proxies), in_context(Context(request=request)):
        rename()
    assert last().address == expected


def test_no_address_is_none() -> None:
    with in_context(Context(request=RequestFactory().get("/", REMOTE_ADDR=""))):
        rename()
    assert last().address is None


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ("Mozilla/5.0", "Mozilla/5.0"),
        ("x" * 10_000, "x" * 300),
        ("a\0b", "ab"),
        ("a\udcffb", "a?b"),
        ("<script>%s'\\", "<script>%s'\\"),
        ("Ünïcödé 😀", "Ünïcödé 😀"),
        (" ", " "),
    ],
)
@pytest.mark.parametrize("atomic", [True, False])
def test_a_browser_may_call_itself_anything(said: str, known: str, atomic: bool) -> None:
    request = request_with()
    request.META["HTTP_USER_AGENT"] = said
    channel._known_agents.clear()
    for name in ("first", "second"):
        with in_context(Context(request=request)):
            if atomic:
                with transaction.atomic():
                    rename(name)
            else:
                rename(name)
    assert last().agent == agent_id(known)
    assert set(Agent.objects.filter(id=agent_id(known)).values_list("name", flat=True)) == {known}


def test_a_browser_whose_first_write_was_rolled_back_is_known_after_the_next() -> None:
    request = request_with()
    request.META["HTTP_USER_AGENT"] = f"browser {uuid.uuid4()}"
    with in_context(Context(request=request)):
        with suppress(ZeroDivisionError), transaction.atomic():
            rename()
            raise ZeroDivisionError
        with transaction.atomic():
            with suppress(ZeroDivisionError), transaction.atomic():
                rename()
                raise ZeroDivisionError
            rename()
    assert Agent.objects.get(id=last().agent or 0).name == request.META["HTTP_USER_AGENT"]


@pytest.mark.parametrize("atomic", [True, False])
def test_a_browser_is_not_known_before_a_record_needs_its_name(atomic: bool) -> None:
    request = request_with()
    request.META["HTTP_USER_AGENT"] = f"browser {uuid.uuid4()}"
    known = Agent.objects.filter(name=request.META["HTTP_USER_AGENT"])
    with in_context(Context(request=request)), transaction.atomic() if atomic else nullcontext():
        UnauditedThing.objects.update(number=F("number") + 1)
        execute("SELECT pg_advisory_xact_lock(1)")
        assert not known.exists()
        rename()
        assert known.exists()


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("0123456789abcdef0123456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"),
        ("01234567-89ab-cdef-0123-456789abcdef", "01234567-89ab-cdef-0123-456789abcdef"),
        ("req-1", str(uuid.uuid5(uuid.NAMESPACE_OID, "req-1"))),
        ("", "None"),
    ],
)
def test_an_id_of_any_shape_finds_the_request(given: str, recorded: str) -> None:
    request = request_with()
    request.request_id = given  # type: ignore[attr-defined]
    with in_context(Context(request=request)):
        rename()
    assert str(last().request) == recorded


def test_a_page_records_the_request_that_its_answer_names() -> None:
    answer = post("/host/rename/", visitor(Client(headers={"User-Agent": "a browser"})))
    record = last()
    assert str(record.request).replace("-", "") == answer["X-Request-ID"]
    assert (record.address, record.agent) == ("127.0.0.1", agent_id("a browser"))


# What is told, when


def test_what_a_receiver_writes_elsewhere_is_not_taken_for_the_save() -> None:
    def also(sender: Any, **kwargs: Any) -> None:
        execute(ROSE)

    trail = Trail()
    pre_save.connect(also, sender=Thing)
    try:
        with as_ada():
            Thing.objects.get(pk=1).save()
            Thing.objects.filter(pk=1).update(number=F("number") + 1)
    finally:
        pre_save.disconnect(also, sender=Thing)
    assert [(entry.resource, entry.origin) for entry in trail.entries()] == [
        ("hostapp.tag", "sql"),
        ("hostapp.thing", "bulk"),
    ]


def test_a_statement_that_never_left_is_not_taken_for_one_that_did() -> None:
    """In one transaction: it would have brought the context."""
    failures: list[Callable[[], object]] = [
        lambda: execute("UPDATE hostapp_tag SET name = %s", []),
        lambda: execute("UPDATE hostapp_tag SET name = %s", [object()]),
        lambda: connection.connection.cursor().executemany("UPDATE hostapp_tag SET name = %s", []),
    ]
    for number, failure in enumerate(failures):
        with as_ada(), transaction.atomic():
            Tag.objects.count()  # the transaction has begun
            with suppress(Exception):
                failure()
            execute("UPDATE hostapp_tag SET name = %s WHERE id = 1", [f"rose {number}"])
        assert who(last()) == ADA


def test_nothing_stays_announced() -> None:
    for write in (
        lambda: Tag.objects.create(name="red"),
        lambda: Tag.objects.update(name="same"),
        lambda: Tag.objects.bulk_create([Tag(name="red")]),
        lambda: Tag(pk=99, name="x").save(force_update=True),
        lambda: Thing(pk=99, name="x").save(update_fields=["name"]),
    ):
        with pytest.raises((DatabaseError, ValueError)):
            write()
    rename()
    assert channel.of("default").announced == []


def context_of_session() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW auditlog.context")
        return str(cursor.fetchone()[0])


def test_nothing_is_left_on_the_session_for_whoever_gets_it_next() -> None:
    """A pooler hands it to another client after each transaction."""
    with as_ada():
        rename("a")
        assert context_of_session() == ""
        with transaction.atomic():
            rename("b")
            assert "ada" in context_of_session()
        assert context_of_session() == ""
        with suppress(ZeroDivisionError), transaction.atomic():
            rename("c")
            raise ZeroDivisionError
        assert context_of_session() == ""
        with suppress(DatabaseError):
            execute("UPDATE hostapp_tag SET name = 'same'")
        assert context_of_session() == ""
        with deadline.blocking_copy(), connection.cursor() as cursor, open("/dev/null") as nothing:
            cursor.cursor.copy_expert("COPY hostapp_tag (name) FROM STDIN", nothing)
        assert context_of_session() == ""


# What is not told


def test_a_cursor_of_the_server_is_left_alone() -> None:
    with as_ada(), transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute("WITH three AS (SELECT generate_series(1, 3)) SELECT * FROM three")
        assert cursor.fetchall() == [(1,), (2,), (3,)]
    Tag.objects.bulk_create([Tag(name=str(number)) for number in range(5)])
    seen = []
    with as_ada():
        for tag in Tag.objects.order_by("pk").iterator(chunk_size=2):
            seen.append(tag.name)
            Tag.objects.filter(pk=tag.pk).update(name=f"{tag.name}!")
        with transaction.atomic():
            for tag in Tag.objects.order_by("pk").iterator(chunk_size=2):
                Tag.objects.filter(pk=tag.pk).update(name=f"{tag.name}!")
    assert seen == ["red", "blue", "0", "1", "2", "3", "4"]
    assert set(Tag.objects.values_list("name", flat=True)) == {f"{name}!!" for name in seen}


def test_what_stands_alone_is_left_alone() -> None:
    with as_owner(), as_ada():
        execute("VACUUM hostapp_tag")
        execute("/* a */ VACUUM (ANALYZE) hostapp_tag")
        execute("CREATE INDEX CONCURRENTLY hostapp_tag_x ON hostapp_tag (name, id)")
        execute("REINDEX INDEX CONCURRENTLY hostapp_tag_x")
        execute("DROP INDEX CONCURRENTLY hostapp_tag_x")
        execute("DO $$ BEGIN UPDATE hostapp_tag SET name = 'rose' WHERE id = 1; COMMIT; END $$")
        assert last().new == {"name": "rose"}
        execute(
            "CREATE PROCEDURE public.paint() LANGUAGE plpgsql AS $$ BEGIN"
            " UPDATE hostapp_tag SET name = 'ruby' WHERE id = 1; COMMIT; END $$"
        )
        try:
            execute("CALL paint()")
            assert last().new == {"name": "ruby"}
        finally:
            execute("DROP PROCEDURE public.paint")


def test_explaining_explains() -> None:
    with as_ada():
        assert "Update" in explained(f"EXPLAIN {ROSE}")
        assert "actual" in explained(f"EXPLAIN ANALYZE {ROSE}")
        assert "Seq Scan" in Tag.objects.all().explain()
        assert "actual" in Tag.objects.all().explain(analyze=True)


def explained(statement: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return "\n".join(line for (line,) in cursor.fetchall())


@pytest.mark.parametrize(
    ("statement", "counts"),
    [
        ("SELECT name FROM hostapp_tag WHERE name = 'a;';", True),  # once too often does no harm
        ("SELECT name FROM hostapp_tag;\n", False),
        ("SAVEPOINT a", False),
        ("SELECT 1; DELETE FROM hostapp_tag WHERE false", True),
        ("SELECT lower('A')", True),
        ("LOCK TABLE hostapp_tag IN ACCESS SHARE MODE", True),
        ("WITH x AS (SELECT 1) SELECT * FROM x", True),
    ],
)
def test_what_may_have_written_is_counted(statement: str, counts: bool) -> None:
    before = channel.of("default").writes
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert channel.of("default").writes - before == counts


def test_what_a_write_returns_is_its_own() -> None:
    with as_ada(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO hostapp_tag (name) VALUES ('a'), ('b') RETURNING name")
        assert (cursor.rowcount, cursor.fetchall()) == (2, [("a",), ("b",)])
        cursor.execute("WITH x AS (DELETE FROM hostapp_tag WHERE name = 'a' RETURNING id) SELECT count(*) FROM x")
        assert cursor.fetchall() == [(1,)]
        cursor.callproc("lower", ["AbC"])
        assert cursor.fetchall() == [("abc",)]
        cursor.execute("SELECT * FROM generate_series(1, 3)")
        assert cursor.rowcount == 3
    assert Tag.objects.update(name=F("name")) == 3
    assert Tag.objects.filter(pk=2).delete() == (1, {"hostapp.Tag": 1})


def test_logs_show_the_statement_and_nothing_in_front_of_it() -> None:
    with CaptureQueriesContext(connection) as queries, as_ada():
        rename()
        Tag.objects.create(name="green")
        execute("DELETE FROM hostapp_part WHERE name = %s", ["100%"])
        execute(ROSE)
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO hostapp_tag (name) VALUES (%s)", [["x"], ["y"]])
    statements = [query["sql"] for query in queries]
    assert [statement.split()[0] for statement in statements] == ["UPDATE", "INSERT", "DELETE", "UPDATE", "2"]
    assert not [statement for statement in statements if "auditlog" in statement]
    assert statements[2] == "DELETE FROM hostapp_part WHERE name = '100%'"


# What it costs


def related(model: Any) -> Any:
    return model.objects.get(pk=1).tags


def bulk_updated(model: Any) -> None:
    rows = list(model.objects.all())
    for row in rows:
        row.number += 1
    model.objects.bulk_update(rows, ["number"])


def raw_sql(model: Any) -> None:
    execute(f"UPDATE {model._meta.db_table} SET number = %s", [3])  # noqa: S608 - a name of ours


def in_two_names(model: Any) -> None:
    with acting_as(Actor("user", "1")):
        model.objects.update(number=1)
    with acting_as(Actor("user", "2")):
        model.objects.update(number=2)


COSTS: dict[str, Callable[[Any], object]] = {
    "create": lambda model: model.objects.create(name="x"),
    "save": lambda model: model.objects.get(pk=1).save(),
    "save of one field": lambda model: model(pk=1, number=7).save(update_fields=["number"]),
    "get_or_create": lambda model: model.objects.get_or_create(name="x"),
    "update_or_create": lambda model: model.objects.update_or_create({"number": 8}, name="lamp"),
    "update": lambda model: model.objects.update(number=9),
    "bulk_create": lambda model: model.objects.bulk_create([model(name="x"), model(name="y")]),
    "bulk_update": bulk_updated,
    "delete": lambda model: model.objects.get(pk=1).delete(),
    "delete of a queryset": lambda model: model.objects.all().delete(),
    "add": lambda model: related(model).add(2),
    "remove": lambda model: related(model).remove(1),
    "set": lambda model: related(model).set([2]),
    "clear": lambda model: related(model).clear(),
    "raw SQL": raw_sql,
    "two in two names": in_two_names,
}


@pytest.mark.parametrize("atomic", [False, True], ids=["autocommit", "in a transaction"])
@pytest.mark.parametrize("write", COSTS)
def test_no_write_costs_another_round_trip(write: str, atomic: bool) -> None:
    UnauditedThing.objects.create(pk=1, name="lamp").tags.add(1)
    request = request_with()
    request.META["HTTP_USER_AGENT"] = f"browser {uuid.uuid4()}"
    trips = {}
    for model in (Thing, UnauditedThing):
        with in_context(Context(request=request)), counted_round_trips() as count:
            if atomic:
                with transaction.atomic():
                    COSTS[write](model)
            else:
                COSTS[write](model)
        trips[model] = count[0]
    assert trips[Thing] == trips[UnauditedThing] > 0
