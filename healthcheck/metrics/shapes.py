"""The shape of a statement: what it does, without any value. Equal statements with other values have one shape."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.apps import apps

LONGEST_STATEMENT = 4000  # characters that are looked at
LONGEST_SHAPE = 500
OTHER = "other"

# PostgreSQL's lexical rules. A text that was cut off has no end quote; comments nest, here twice.
_WORDS = re.compile(
    r"""
    (?P<name>"(?:[^"]|"")*(?:"|\Z))
  | (?P<value>
        \b[eE]'(?:[^'\\]|\\.|'')*(?:'|\\?\Z)
      | '(?:[^']|'')*(?:'|\Z)
      | \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z)
      | (?<![\w$"])\.?\d[\w.]*(?:(?<=[eE])[+-]?\d+)?
    )
  | (?P<comment>--[^\n]*|/\*(?:(?!\*/|/\*).|/\*(?:(?!\*/).)*(?:\*/|\Z))*(?:\*/|\Z))
    """,
    re.VERBOSE | re.DOTALL,
)
# A space belongs to a type or to what follows it, never to either: else a long list would be tried in 2ⁿ ways.
_PLACE = r"(?:%s|\?|%\(\w+\)s|NULL|DEFAULT|TRUE|FALSE)(?:::[\w\[\]\".]+(?: [\w\[\]\".]+)*)?"
_LIST = re.compile(rf"\(\s*{_PLACE}(?:\s*,\s*{_PLACE})+\s*\)", re.IGNORECASE)
_LISTS = re.compile(r"\(…\)(?:\s*,\s*\(…\))+")
_ARRAY = re.compile(rf"\[\s*{_PLACE}(?:\s*,\s*{_PLACE})*\s*\]", re.IGNORECASE)
_ONE = re.compile(rf"\bIN\s*\(\s*{_PLACE}\s*\)", re.IGNORECASE)
# Django names savepoints anew each time.
_SAVEPOINT = re.compile(r"((?:ROLLBACK TO |RELEASE )?SAVEPOINT)\b.*", re.IGNORECASE | re.DOTALL)
_OPERATION = re.compile(r"[\s(]*(\w+)")
_TABLE = re.compile(r'\b(?:FROM|INTO|UPDATE|JOIN)\s+(?:ONLY\s+)?(?:"?public"?\.)?"?(\w+)"?', re.IGNORECASE)
OPERATIONS = {"select", "insert", "update", "delete", "with", "savepoint", "release", "rollback"}


@dataclass(frozen=True)
class Shape:
    """`operation` is one of `OPERATIONS`, `table` one of the models' tables; or either is ``other``."""

    operation: str
    table: str
    text: str


def as_text(statement: Any, cursor: Any) -> str:
    """Return as much of a statement as is looked at: of a text, of bytes, or of what psycopg2 composes for `cursor`."""
    if hasattr(statement, "as_string"):
        statement = statement.as_string(cursor)
    if isinstance(statement, bytes):
        statement = statement.decode("utf-8", "replace")
    return str(statement)[:LONGEST_STATEMENT]


def shape_of(statement: str) -> Shape:
    """Return the shape of a statement, which may be cut off anywhere."""
    text = without_values(statement)
    operation = found[1].lower() if (found := _OPERATION.match(text)) else OTHER
    table = found[1] if (found := _TABLE.search(text)) else OTHER
    operation = operation if operation in OPERATIONS else OTHER
    return Shape(operation, table if table in _known_tables() else OTHER, text)


def without_values(statement: str) -> str:
    """Return `statement` on one line, without comments and values: they are ``?``, lists of them ``(…)``.

    At most `LONGEST_SHAPE` characters.
    """
    storable = statement.encode("utf-8", "replace").decode().replace("\0", "")
    text = " ".join(_WORDS.sub(_replaced, storable).split())
    text = _ONE.sub("IN (…)", _ARRAY.sub("[…]", _LIST.sub("(…)", text)))
    text = _SAVEPOINT.sub(r"\1", _LISTS.sub("(…)", text))
    return text if len(text) <= LONGEST_SHAPE else f"{text[: LONGEST_SHAPE - 1]}…"


def _replaced(found: re.Match[str]) -> str:
    if found["name"]:
        return found["name"]
    return "?" if found["value"] else " "


@cache
def _known_tables() -> frozenset[str]:
    models = apps.get_models(include_auto_created=True)
    return frozenset(model._meta.db_table for model in models) | {"django_migrations"}
