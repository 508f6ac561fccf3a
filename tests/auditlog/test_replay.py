"""Whatever is done in whatever order, with whatever is rolled back: the records alone rebuild the tables exactly."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC
from functools import wraps
from typing import Any

import psycopg2
import pytest
from django.conf import settings as django_settings
from django.db import DatabaseError, connection, transaction
from django.db.models import F, Value
from django.db.models.functions import Concat
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from pytest_django.plugin import DjangoDbBlocker

from config.database.deadline import blocking_copy
from config.database.roles import as_owner
from tests.auditlog import world
from tests.auditlog.replay import Rebuilt, real
from tests.hostapp.models import Machine, Part, Tag, Thing, Truck, Vehicle, Word

set_hypothesis_home_dir(str(django_settings.BASE_DIR / ".artefacts" / "hypothesis"))
MODELS = [Tag, Thing, Machine, Part, Vehicle, Truck, Word]
EXAMPLES = settings(
    max_examples=60, stateful_step_count=40, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)

few = st.integers(1, 6)  # keys: so few that they meet again
names = st.sampled_from(["red", "blue", "%s", "o'clock", "back\\slash", "ünï→😀", '"', ""])
keys = st.lists(few, max_size=4, unique=True)
numbers = st.integers(-(2**31), 2**31 - 1)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
leaves = st.none() | st.booleans() | numbers | st.floats(allow_nan=False, allow_infinity=False) | texts
things = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "text": texts,
        "number": numbers,
        "price": st.decimals(-(10**9), 10**9, places=2),
        "ratio": st.floats().map(lambda number: number + 0.0),  # JSON has no negative zero
        "on": st.booleans(),
        "day": st.none() | st.dates(),
        "at": st.datetimes(timezones=st.just(UTC)),
        "span": st.none() | st.timedeltas(),
        "data": st.dictionaries(st.sampled_from("abc"), leaves | st.lists(leaves, max_size=2), max_size=3),
        "key": st.uuids(),
        "kind": st.sampled_from(Thing.Kind.values),
    },
)


def step(function: Callable[..., None]) -> Callable[..., None]:
    """What the database refuses is refused whole; outside a transaction in autocommit, without anything around it."""

    @wraps(function)
    def attempted(self: Writing, **drawn: Any) -> None:
        with suppress(DatabaseError, psycopg2.Error), ExitStack() as around:
            if self.open or drawn.get("atomic"):
                around.enter_context(transaction.atomic())
            function(self, **{name: value for name, value in drawn.items() if name != "atomic"})

    return attempted


class Writing(RuleBasedStateMachine):
    """As the owner, who may TRUNCATE too."""

    def __init__(self) -> None:
        super().__init__()
        world.clear()
        self.since = world.Trail().since
        self.open: list[transaction.Atomic] = []
        for pk in (1, 2, 3):
            Tag.objects.create(pk=pk, name=str(pk))
            Thing.objects.create(pk=pk, name=str(pk)).tags.set([1, pk])
            Part.objects.create(pk=pk, machine=Machine.objects.create(pk=pk), maker_id=pk, name=str(pk))

    def teardown(self) -> None:
        while self.open:
            self.leave(keep=True)
        self.compare()

    # Transactions and savepoints

    @rule()
    def enter(self) -> None:
        if len(self.open) < 3:
            self.open.append(transaction.atomic())
            self.open[-1].__enter__()

    @rule(keep=st.booleans())
    def leave(self, keep: bool) -> None:
        if self.open:
            if not keep:
                transaction.set_rollback(True)
            with suppress(DatabaseError):  # a deferred constraint speaks at commit
                self.open.pop().__exit__(None, None, None)

    @rule()
    def compare(self) -> None:
        """Also in the midst of a transaction, which sees its own rows and records."""
        assert Rebuilt(self.since, MODELS).tables == real(MODELS)

    # One row

    @rule(pk=few, name=names, atomic=st.booleans())
    @step
    def save_tag(self, pk: int, name: str) -> None:
        Tag(pk=pk, name=name).save()

    @rule(name=names, atomic=st.booleans())
    @step
    def create_tag(self, name: str) -> None:
        Tag.objects.update_or_create({"name": f"{name}!"}, name=name)

    @rule(pk=few, values=things, atomic=st.booleans())
    @step
    def save_thing(self, pk: int, values: dict[str, Any]) -> None:
        thing = Thing.objects.filter(pk=pk).first() or Thing(pk=pk)
        for name, value in values.items():
            setattr(thing, name, value)
        thing.save()

    @rule(pk=few, values=things)
    @step
    def save_some_fields(self, pk: int, values: dict[str, Any]) -> None:
        Thing(pk=pk, **values).save(update_fields=list(values))  # also of a row that is not there

    @rule(pk=few, machine=few, maker=st.none() | few, name=names, atomic=st.booleans())
    @step
    def save_part(self, pk: int, machine: int, maker: int | None, name: str) -> None:
        owner, _ = Machine.objects.get_or_create(pk=machine, defaults={"name": name})
        maker = maker if maker and Tag.objects.filter(pk=maker).exists() else None
        Part(pk=pk, machine=owner, maker_id=maker, name=name).save()

    @rule(pk=few, name=names, load=numbers)
    @step
    def save_truck(self, pk: int, name: str, load: int) -> None:
        Truck(pk=pk, name=name, load=load).save()

    @rule(code=names, meaning=names)
    @step
    def save_word(self, code: str, meaning: str) -> None:
        Word(code=code, meaning=meaning).save()

    @rule(model=st.sampled_from(MODELS), pk=few)
    @step
    def delete(self, model: Any, pk: int) -> None:
        if found := model.objects.order_by("pk")[pk - 1 : pk].first():
            found.delete()

    # Relations

    @rule(place=few, change=st.sampled_from(["add", "remove", "set", "clear"]), others=keys, reverse=st.booleans())
    @step
    def relate(self, place: int, change: str, others: list[int], reverse: bool) -> None:
        owners: list[Any] = list((Tag if reverse else Thing).objects.order_by("pk"))
        if not owners:
            return
        owner = owners[place % len(owners)]
        manager = owner.things if reverse else owner.tags
        existing = list((Thing if reverse else Tag).objects.filter(pk__in=others))
        given = {"set": [existing], "clear": []}.get(change, existing)
        getattr(manager, change)(*given)

    @rule(first=names, second=names)
    @step
    def make_synonyms(self, first: str, second: str) -> None:
        one, _ = Word.objects.get_or_create(code=first)
        other, _ = Word.objects.get_or_create(code=second)
        one.synonyms.add(other)

    # Many rows

    @rule(values=things, among=keys, atomic=st.booleans())
    @step
    def update_things(self, values: dict[str, Any], among: list[int]) -> None:
        if values:
            Thing.objects.filter(pk__in=among).update(**values)

    @rule(atomic=st.booleans())
    @step
    def count_up(self) -> None:
        Thing.objects.update(number=F("number") + 1, ratio=F("ratio") / 3)

    @rule(values=st.lists(things, min_size=1, max_size=4))
    @step
    def bulk_update_things(self, values: list[dict[str, Any]]) -> None:
        found = list(Thing.objects.order_by("pk"))
        for thing, new in zip(found, values, strict=False):
            for name, value in new.items():
                setattr(thing, name, value)
        Thing.objects.bulk_update(found, sorted({name for new in values for name in new}) or ["name"])

    @rule(wanted=st.lists(names, min_size=1, max_size=4, unique=True), how=st.sampled_from(["", "ignore", "update"]))
    @step
    def bulk_create_words(self, wanted: list[str], how: str) -> None:
        kinds: dict[str, dict[str, Any]] = {
            "": {},
            "ignore": {"ignore_conflicts": True},
            "update": {"update_conflicts": True, "unique_fields": ["code"], "update_fields": ["meaning"]},
        }
        Word.objects.bulk_create([Word(code=name, meaning=how) for name in wanted], **kinds[how])

    @rule(model=st.sampled_from(MODELS), among=keys)
    @step
    def delete_many(self, model: Any, among: list[int]) -> None:
        chosen = [row.pk for place, row in enumerate(model.objects.order_by("pk"), 1) if place in among]
        model.objects.filter(pk__in=chosen).delete()

    @rule(first_only=st.booleans())
    @step
    def change_keys(self, first_only: bool) -> None:
        words = Word.objects.filter(code__in=Word.objects.order_by("code").values("code")[: 1 if first_only else 9])
        words.update(code=Concat("code", Value("+")))

    @rule(atomic=st.booleans())
    @step
    def shift_keys(self) -> None:
        """What was one row's key becomes its neighbour's, where the order of the rows allows it."""
        Machine.objects.filter(parts=None).update(id=F("id") + 1)

    # SQL

    @rule(name=names, atomic=st.booleans())
    @step
    def raw(self, name: str) -> None:
        with connection.cursor() as cursor:
            cursor.executemany("INSERT INTO hostapp_vehicle (name) VALUES (%s)", [[name], [f"{name}2"]])
            cursor.execute("UPDATE hostapp_thing SET name = %s, day = NULL", [name])

    @rule(atomic=st.booleans())
    @step
    def common_table_expression(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "WITH gone AS (DELETE FROM hostapp_part WHERE id % 2 = 0 RETURNING *),"
                " risen AS (UPDATE hostapp_thing SET number = number / 2 RETURNING id)"
                " INSERT INTO hostapp_vehicle (name) SELECT 'of ' || name FROM gone"
            )

    @rule(lines=st.lists(few, max_size=3))
    @step
    def copy(self, lines: list[int]) -> None:
        with blocking_copy(), connection.cursor() as cursor:
            file = io.StringIO("".join(f"machine {line}\n" for line in lines))
            cursor.cursor.copy_expert("COPY hostapp_machine (name) FROM STDIN", file)

    @rule(table=st.sampled_from(["hostapp_part", "hostapp_thing_tags", "hostapp_machine", "hostapp_tag"]), luck=few)
    @step
    def truncate(self, table: str, luck: int) -> None:
        if luck > 1:  # else there is seldom anything left
            return
        with connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {table} CASCADE")


@pytest.fixture
def owner(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        with as_owner():
            yield
        world.clear()


@pytest.mark.usefixtures("owner")
def test_replaying_the_records_rebuilds_the_tables() -> None:
    run_state_machine_as_test(Writing, settings=EXAMPLES)
