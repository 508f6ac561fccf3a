"""Rebuilds tables from their records alone, and reads the real ones in the same form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import connection, models

from auditlog import registry
from auditlog.registry import Audited, Relation

Row = dict[str, Any]
Tables = dict[str, dict[str, Row]]  # by name of the table, by key


class Rebuilt:
    """The tables as the records since `since` say, from empty; every old value must be what was there."""

    def __init__(self, since: int, among: Iterable[type[models.Model]]) -> None:
        self.audited = {found.resource: found for model in among if (found := registry.of_model(model))}
        self.tables: Tables = empty(self.audited.values())
        for record in _records(since):
            self._play(*record)

    def _play(self, action: str, resource: str, key: str, old: Row, new: Row) -> None:
        if resource not in self.audited:  # a TRUNCATE … CASCADE reaches tables that are not looked at
            return
        audited = self.audited[resource]
        rows = self.tables[audited.table]
        match action:
            case "create":
                assert key not in rows
                rows[key] = _typed(audited, new)
            case "delete":
                assert rows.pop(key) == _typed(audited, old)
            case "update":
                before, after = _typed(audited, old), _typed(audited, new)
                changed = before.keys() | after.keys()
                assert {name: rows[key].get(name) for name in changed} == {name: before.get(name) for name in changed}
                rows[key] = {n: v for n, v in rows[key].items() if n not in before} | after
            case "add" | "remove":
                self._relate(audited, key, old, new)
            case "truncate":
                ((name, count),) = old.items()
                table = audited.table if name == "rows" else _relation(audited, name).table
                assert len(self.tables[table]) == count
                self.tables[table] = {}

    def _relate(self, audited: Audited, owner: str, old: Row, new: Row) -> None:
        for name, pairs in new.items():
            for key, target in pairs.items():
                self.tables[_relation(audited, name).table][key] = {"source": owner, "target": str(target)}
        for name, pairs in old.items():
            for key, target in pairs.items():
                gone = self.tables[_relation(audited, name).table].pop(key)
                assert gone == {"source": owner, "target": str(target)}


def real(among: Iterable[type[models.Model]]) -> Tables:
    """The tables as they are."""
    tables: Tables = {}
    for model in among:
        audited = registry.of_model(model)
        assert audited is not None
        names = {str(field.column): field.attname for field in _compared(audited)}
        rows = [{names[column]: row[column] for column in names} for row in _select(audited.table)]
        (key,) = [names[column] for column in audited.key]
        tables[audited.table] = {str(row[key]): _present(audited, row) for row in rows}
        for relation in audited.relations:
            tables[relation.table] = {
                str(row[relation.key]): {"source": str(row[relation.source]), "target": str(row[relation.target])}
                for row in _select(relation.table)
            }
    return tables


def empty(among: Iterable[Audited]) -> Tables:
    tables: Tables = {}
    for audited in among:
        tables |= {audited.table: {}} | {relation.table: {} for relation in audited.relations}
    return tables


def _records(since: int) -> list[Any]:
    """As text, so that no number passes through a float."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT action, resource, object_id,"
            " (personal -> 'old')::text, (personal -> 'new')::text, old::text, new::text FROM auditlog_record"
            " WHERE id > %s AND origin <> 'event' ORDER BY id",
            [since],
        )
        return [
            (*about, _parsed(old) | _parsed(personal_old), _parsed(new) | _parsed(personal_new))
            for *about, personal_old, personal_new, old, new in cursor.fetchall()
        ]


def _select(table: str) -> list[Row]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {table}")  # noqa: S608 - a name of ours
        assert cursor.description is not None
        return [dict(zip([column.name for column in cursor.description], row, strict=True)) for row in cursor]


def _relation(audited: Audited, name: str) -> Relation:
    return next(relation for relation in audited.relations if relation.name == name)


def _parsed(text: str | None) -> Any:
    return json.loads(text, parse_float=Decimal) if text else {}


def _compared(audited: Audited) -> list[models.Field[Any, Any]]:
    """The fields whose every change leaves a record with the value itself."""
    return [each for each in audited.fields if not audited.is_masked(each) and each.name not in audited.quiet]


def _present(audited: Audited, row: Row) -> Row:
    """What is not NULL, comparable: NaN equals itself."""
    json_fields = {field.attname for field in audited.fields if isinstance(field, models.JSONField)}
    return {
        name: repr(_parsed(value) if name in json_fields else value) for name, value in row.items() if value is not None
    }


def _typed(audited: Audited, values: Row) -> Row:
    """The values of a record as the database driver would return them."""
    kinds = {field.attname: field for field in _compared(audited)}
    return {name: repr(_as_column(kinds[name], value)) for name, value in values.items() if name in kinds}


def _as_column(field: models.Field[Any, Any], value: Any) -> Any:
    match field:
        case models.ForeignKey():
            return _as_column(field.target_field, value)
        case models.DateTimeField():
            return datetime.fromisoformat(value)
        case models.DateField():
            return date.fromisoformat(value)
        case models.DurationField():
            return timedelta(microseconds=int(Decimal(value) * 1_000_000))
        case models.UUIDField():
            return UUID(value)
        case models.FloatField():
            return float(value)
        case models.DecimalField():
            return Decimal(value)
    return value
