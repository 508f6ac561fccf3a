"""The shape of a statement holds no value, whatever way SQL has to write one."""

from __future__ import annotations

from time import perf_counter

import pytest
from django.db import connection
from psycopg2 import sql

from healthcheck.metrics.shapes import LONGEST_SHAPE, as_text, shape_of, without_values

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("statement", "shape"),
    [
        ("SELECT 'hunter2'", "SELECT ?"),
        ("SELECT 'it''s hunter2', 1", "SELECT ?, ?"),
        (r"SELECT 'a\', hunter2.b, 'c'", "SELECT ?, hunter2.b, ?"),  # a backslash escapes nothing here
        (r"SELECT E'a\'hunter2', e'\\', x", "SELECT ?, ?, x"),
        ("SELECT $$it's hunter2$$, $tag$ $$ hunter2 $tag$, $1", "SELECT ?, ?, $1"),
        ("SELECT U&'hunter2', B'101', X'1F'", "SELECT U&?, B?, X?"),
        ("SELECT 1, -2.5, .5, 1e10, 1.5E+10, 0x1F, 1_000", "SELECT ?, -?, ?, ?, ?, ?, ?"),
        ("SELECT 'a'::text, 'hunter2'::uuid", "SELECT ?::text, ?::uuid"),
        ("SELECT t1.c2 FROM t1", "SELECT t1.c2 FROM t1"),
        ('SELECT "odd 1 ""name" FROM "it\'s"', 'SELECT "odd 1 ""name" FROM "it\'s"'),
        ("SELECT 1 -- hunter2\nFROM t", "SELECT ? FROM t"),
        ("SELECT /* hunter2 /* hunter2 */ hunter2 */ 1", "SELECT ?"),
        ("SELECT 'cut off hunter2", "SELECT ?"),
        ("SELECT E'cut off hunter2\\", "SELECT ?"),
        ("SELECT $x$ cut off hunter2", "SELECT ?"),
        ("SELECT 1 /* cut off hunter2", "SELECT ?"),
        ("SELECT a FROM t WHERE b IN (%s)", "SELECT a FROM t WHERE b IN (…)"),
        ("SELECT a FROM t WHERE b IN (%s, %s,\n %s)", "SELECT a FROM t WHERE b IN (…)"),
        ("SELECT a FROM t WHERE b = ANY(ARRAY[1, 2])", "SELECT a FROM t WHERE b = ANY(ARRAY[…])"),
        ("INSERT INTO t (a, b) VALUES (%s, %s), (1, NULL)", "INSERT INTO t (a, b) VALUES (…)"),
        ("SELECT a FROM t WHERE b = %s AND c = %(name)s", "SELECT a FROM t WHERE b = %s AND c = %(name)s"),
        ("SELECT a\0b, \ud800 FROM t", "SELECT ab, ? FROM t"),  # neither is text that a database stores
        ('SAVEPOINT "s140_x5"', "SAVEPOINT"),
        ('RELEASE SAVEPOINT "s140_x5"', "RELEASE SAVEPOINT"),
        ('ROLLBACK TO SAVEPOINT "s140_x5"', "ROLLBACK TO SAVEPOINT"),
    ],
)
def test_values_become_question_marks_and_names_and_places_stay(statement: str, shape: str) -> None:
    assert without_values(statement) == shape


def test_wherever_a_statement_is_cut_no_value_shows() -> None:
    statement = r"SELECT 'hunter2', E'\'hunter2', $a$hunter2$a$ /* hunter2 */ -- hunter2"
    shown = {length: without_values(statement[:length]) for length in range(len(statement))}
    assert not {length: shape for length, shape in shown.items() if "hunt" in shape}


def test_it_is_known_what_it_does_to_which_table_and_what_is_not_ours_is_other() -> None:
    known = shape_of('SELECT "a" FROM "accounts_user" WHERE "id" = %s')
    assert (known.operation, known.table) == ("select", "accounts_user")
    assert shape_of("insert into public.auth_group (name) values (%s)").table == "auth_group"
    assert shape_of("DELETE FROM ONLY auth_group").operation == "delete"
    unknown = shape_of("LISTEN strangers_channel_1")
    assert (unknown.operation, unknown.table) == ("other", "other")
    assert shape_of("SELECT 1 FROM strangers_table").table == "other"


@pytest.mark.django_db
def test_text_bytes_and_composed_statements_have_the_same_shape() -> None:
    composed = sql.SQL("SELECT {} FROM {}").format(sql.Literal("hunter2"), sql.Identifier("auth_group"))
    with connection.cursor() as cursor:
        shape = shape_of(as_text(composed, cursor.cursor))
    assert shape == shape_of(as_text(b"SELECT 'hunter2' FROM \"auth_group\"", None))
    assert shape.text == 'SELECT ? FROM "auth_group"'


def test_no_statement_keeps_it_busy() -> None:
    """It runs between the statements of a page, and its regular expressions let no other thread run."""
    hard = [f"VALUES ({'%s::int , ' * 300}now())", f"[{'NULL::a b , ' * 300}now()]", f"IN (%s::{'a ' * 1900}"]
    began = perf_counter()
    shapes = [without_values(statement) for statement in hard]
    assert perf_counter() - began < 1
    assert {len(shape) for shape in shapes} == {LONGEST_SHAPE}
    assert without_values("VALUES (%s::timestamp with time zone , %s::int[] )") == "VALUES (…)"


def test_a_shape_is_short_however_long_the_statement() -> None:
    columns = ", ".join(f'"column_{number}"' for number in range(1000))
    assert len(shape_of(f"SELECT {columns}").text) == LONGEST_SHAPE
