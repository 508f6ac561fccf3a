"""Numbers of the whole site, whichever process or host they come from: rows, or what a question finds in them.

An app names each with one call of `register` in its `AppConfig.ready()`; what is not registered is not shown.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from django.db import connection

from healthcheck.models import Figure

Labels = tuple[tuple[str, str], ...]
MOST_LABELS = 300  # sets of labels that a name may have; what comes later is counted as "other"
OTHER = "other"
# Also as a part of SQL. What begins otherwise is told by `metrics` itself.
_NAME = re.compile("(?!up$|check_|request|database_)[a-z][a-z0-9_]{0,63}")
_UPSERT = """
INSERT INTO healthcheck_figure (name, labels, value, at) VALUES {rows}
ON CONFLICT (name, labels) DO UPDATE SET value = {value}, at = excluded.at
"""


@dataclass(frozen=True, kw_only=True)
class Family:
    """`name` as Prometheus has it, without ``_total``; `help` is one English sentence.

    `expected` returns the labels that are shown with zero as long as nobody counted any: what begins at five has, to
    Prometheus, not grown. With `sql` the figure is asked for instead: a SELECT of labels (jsonb) and value (float8)
    that any health page may run, so it must be quick at any size of the site.
    """

    name: str
    help: str
    kind: Literal["counter", "gauge"] = "gauge"
    expected: Callable[[], Iterable[Labels]] = tuple
    sql: str = ""


_families: dict[str, Family] = {}


def register(family: Family) -> None:
    """Add a figure; raises ValueError when its name is taken by another, or none that Prometheus knows."""
    if not _NAME.fullmatch(family.name):
        raise ValueError(f"{family.name!r} must be a name of its own, in small letters, digits and underscores.")
    if family.name in _families:
        raise ValueError(f"There is a figure called {family.name!r} already.")
    _families[family.name] = family


def families() -> dict[str, Family]:
    """Return every registered figure by its name, in the order of registration."""
    return dict(_families)


def labelled(**labels: str) -> Labels:
    return tuple(sorted(labels.items()))


def increase(changes: Mapping[tuple[str, Labels], float]) -> None:
    """Add to counters, in the caller's transaction and by one statement; keys are names and labels."""
    _write(changes, "healthcheck_figure.value + excluded.value")


def put(values: Mapping[tuple[str, Labels], float]) -> None:
    """Set gauges, by one statement."""
    _write(values, "excluded.value")


def question() -> str:
    """Return the SELECT (name, labels as JSON, value) of all figures of the site."""
    asked = [
        f"SELECT '{family.name}', labels::text, value FROM ({family.sql}) AS asked (labels, value)"  # noqa: S608
        for family in _families.values()
        if family.sql
    ]
    most = MOST_LABELS * (len(_families) + 1)
    kept = f"(SELECT name, labels::text, value FROM healthcheck_figure ORDER BY name, labels LIMIT {most})"  # noqa: S608
    return " UNION ALL ".join([kept, *asked])


def _write(values: Mapping[tuple[str, Labels], float], value: str) -> None:
    bounded = _bounded(values)
    if not bounded:
        return
    rows = ", ".join(["(%s, %s::jsonb, %s, clock_timestamp())"] * len(bounded))
    # Always in one order: two who write the same rows must not wait for each other.
    parameters = [part for (name, labels), number in sorted(bounded.items()) for part in (name, _json(labels), number)]
    with connection.cursor() as cursor:
        cursor.execute(_UPSERT.format(rows=rows, value=value), parameters)


_known: dict[str, set[Labels]] = defaultdict(set)


def _bounded(values: Mapping[tuple[str, Labels], float]) -> Mapping[tuple[str, Labels], float]:
    """Return `values`, with all labels "other" where a name has too many sets of them."""
    if new := {name for name, labels in values if labels not in _known[name]}:
        for name, found in Figure.objects.filter(name__in=new).values_list("name", "labels"):
            _known[name].add(labelled(**found))
    bounded: dict[tuple[str, Labels], float] = defaultdict(float)
    for (name, labels), number in values.items():
        if labels not in _known[name] and len(_known[name]) >= MOST_LABELS:
            labels = tuple((label, OTHER) for label, _value in labels)  # noqa: PLW2901 - the same, bounded
        _known[name].add(labels)
        bounded[name, labels] += number
    return bounded


def _json(labels: Labels) -> str:
    return json.dumps(dict(labels))
