"""Writes the triggers that write the records: from the registry, one function per table and operation.

Each is one INSERT for the whole statement that changed the rows, whatever made it. An update is a full join of the
rows before and after on their key: PostgreSQL has no nested loop for it, so a plan that was made for one row cannot
be ruinous for a thousand; and a row whose key was changed falls out on both sides, as one that went and one that
came.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db.backends.base.base import BaseDatabaseWrapper

from auditlog import registry
from auditlog.registry import Audited, Column, Relation

LONGEST = 1000  # bytes of a value that is recorded whole
LONGEST_LABEL = 120  # characters
_OFF = "off"
_INSTALLED = f"""
SELECT t.tgname, c.relname,
    CASE t.tgenabled WHEN 'O' THEN left(encode(sha256(convert_to(p.prosrc, 'UTF8')), 'hex'), 16) ELSE '{_OFF}' END
FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_proc p ON p.oid = t.tgfoid
WHERE t.tgname LIKE 'auditlog\\_on\\_%' AND c.relnamespace = 'public'::regnamespace AND NOT t.tgisinternal
"""
_TRANSITIONS = {
    "insert": "REFERENCING NEW TABLE AS new_rows",
    "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": "REFERENCING OLD TABLE AS old_rows",
    "truncate": "",
}
# In the text of these types the settings of the session show; the other types that we know are written without.
_SETTLED_FLOATS = "SET extra_float_digits = 1"
_SETTLED = (
    f"{_SETTLED_FLOATS} SET timezone = 'UTC' SET datestyle = 'ISO' SET intervalstyle = 'postgres'"
    " SET bytea_output = 'hex'"
)
_FLOATS = ("double precision", "real")
_STEADY = (
    *("smallint", "integer", "bigint", "boolean", "numeric", "uuid", "date", "time", "interval", "inet"),
    *("json", "bytea", "text", "varchar", "char", "citext"),
)


@dataclass(frozen=True)
class Trigger:
    """One trigger with its function."""

    table: str
    operation: str
    body: str
    general: str = ""
    settings: str = ""  # of the function, where what it writes depends on those of the session

    @property
    def name(self) -> str:
        return f"auditlog_on_{self.operation}"

    @property
    def place(self) -> tuple[str, str]:
        return self.name, self.table

    @property
    def function(self) -> str:
        name = f"{self.name}_{self.table}"
        return name if len(name) <= 63 else f"{name[:52]}_{hashlib.sha256(name.encode()).hexdigest()[:10]}"

    @property
    def version(self) -> str:
        """What tells it from an older one of the same name, and from one that somebody has changed."""
        return hashlib.sha256(self.body.encode()).hexdigest()[:16]

    @property
    def function_sql(self) -> str:
        return self._function(self.body, self.settings)

    @property
    def general_sql(self) -> str:
        """The function that records the same whatever columns the table has; nothing if `body` does anyway."""
        return self._function(self.general, _SETTLED) if self.general else ""

    def _function(self, body: str, settings: str) -> str:
        function = f"public.{_name(self.function)}()"
        return f"""
            CREATE OR REPLACE FUNCTION {function} RETURNS trigger
            LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp {settings} AS {_text(body)};
            REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC;
        """

    @property
    def trigger_sql(self) -> str:
        when = "BEFORE" if self.operation == "truncate" else "AFTER"
        return f"""
            CREATE TRIGGER {self.name} {when} {self.operation.upper()} ON public.{_name(self.table)}
            {_TRANSITIONS[self.operation]} FOR EACH STATEMENT EXECUTE FUNCTION public.{_name(self.function)}();
        """


def declared(connection: BaseDatabaseWrapper) -> list[Trigger]:
    """Return the triggers that the registry asks for."""
    found: list[Trigger] = []
    for audited in registry.registered():
        if not audited.model._meta.managed and not audited.fields:
            continue
        found += _of_model(audited, list(audited.columns(connection)))
        for relation in audited.relations:
            found += _of_relation(audited, relation)
    return found


def differences(connection: BaseDatabaseWrapper) -> tuple[list[Trigger], list[tuple[str, str]]]:
    """Return (triggers that are missing or of another version, (name, table) of those that nobody declares)."""
    return _compare(declared(connection), _installed(connection))


def _installed(connection: BaseDatabaseWrapper) -> dict[tuple[str, str], str]:
    with connection.cursor() as cursor:
        cursor.execute(_INSTALLED)
        return {(name, table): version for name, table, version in cursor.fetchall()}


def _compare(
    wanted: list[Trigger], installed: dict[tuple[str, str], str]
) -> tuple[list[Trigger], list[tuple[str, str]]]:
    missing = [trigger for trigger in wanted if installed.get(trigger.place) != trigger.version]
    return missing, sorted(installed.keys() - {trigger.place for trigger in wanted})


def install(connection: BaseDatabaseWrapper) -> int:
    """Make the triggers in the database those that are declared; returns how many were changed. As the owner.

    Where only the function is another one, nobody who works on the table has to wait.
    """
    installed = _installed(connection)
    missing, superfluous = _compare(declared(connection), installed)
    tables = set(connection.introspection.table_names()) if missing else set()
    with connection.cursor() as cursor:
        for trigger in missing:
            if trigger.table in tables:
                cursor.execute(trigger.function_sql)
                if trigger.place not in installed:
                    cursor.execute(trigger.trigger_sql)
                elif installed[trigger.place] == _OFF:
                    cursor.execute(f"ALTER TABLE public.{_name(trigger.table)} ENABLE TRIGGER {trigger.name}")
        for name, table in superfluous:
            _drop(cursor, name, table)
    return len(missing) + len(superfluous)


def generalise(connection: BaseDatabaseWrapper) -> None:
    """Let every installed trigger stand any change of its table's columns, until `install`; no table is locked.

    A migration may change columns and rows in one transaction: in between, a function that names columns would fail.
    """
    installed = _installed(connection)
    with connection.cursor() as cursor:
        for trigger in declared(connection):
            if trigger.place in installed and trigger.general:
                cursor.execute(trigger.general_sql)


def remove(connection: BaseDatabaseWrapper) -> None:
    """Take every trigger of ours off every table."""
    with connection.cursor() as cursor:
        for name, table in _installed(connection):
            _drop(cursor, name, table)


def _drop(cursor: Any, name: str, table: str) -> None:
    function = Trigger(table, name.removeprefix("auditlog_on_"), "").function
    cursor.execute(f"DROP TRIGGER {name} ON public.{_name(table)}; DROP FUNCTION IF EXISTS public.{_name(function)}()")


# What is inside


def _of_model(audited: Audited, columns: list[Column]) -> Iterator[Trigger]:
    values, table, settled = _Values(audited, columns), audited.table, _settled(columns)
    inserted = _function(_insert_rows(audited, "'create'", values.of("n"), "new_rows n"))
    deleted = _function(_insert_rows(audited, "'delete'", values.of("o"), "old_rows o"))
    yield Trigger(
        table, "insert", inserted, _general(audited, columns, "NULL::jsonb", "to_jsonb(n)", "new_rows n"), settled
    )
    yield Trigger(
        table, "delete", deleted, _general(audited, columns, "to_jsonb(o)", "NULL::jsonb", "old_rows o"), settled
    )
    same = " AND ".join(f"to_jsonb(n)->{_text(column)} = to_jsonb(o)->{_text(column)}" for column in audited.key)
    pairs = f"old_rows o FULL JOIN new_rows n ON {same}"
    general = _general(audited, columns, "to_jsonb(o)", "to_jsonb(n)", pairs)
    yield Trigger(table, "update", _on_update(audited, columns, values), general, settled)
    yield _on_truncate(audited, table)


def _settled(columns: list[Column]) -> str:
    """The settings that a function must have for its text to be the same in every session."""
    kinds = {column.kind for column in columns}
    if all(kind.startswith(_STEADY + _FLOATS) and not kind.endswith(("[]", "range")) for kind in kinds):
        return _SETTLED_FLOATS if any(kind.startswith(_FLOATS) for kind in kinds) else ""
    return _SETTLED


def _general(audited: Audited, columns: list[Column], before: str, after: str, rows: str) -> str:
    """As the functions proper, from whole rows as JSON: many times slower, and it names no column."""
    about = {column.column: _manner(column) for column in columns}
    about |= {str(field.column): {"excluded": True} for field in audited.left_out}
    row = "coalesce(r.after, r.before)"
    keys = [f"({row}->>{_text(column)})" for column in audited.key]
    labels = [f"{row}->>{_text(str(field.column))}" for field in audited.fields if field.name in audited.label]
    values = {
        "object_id": " || ',' || ".join(keys),
        "object_label": f"left(nullif(btrim(concat_ws(' ', {', '.join(labels)})), ''), {LONGEST_LABEL})"
        if labels
        else "NULL",
        "old": "d.old",
        "new": "d.new",
        "personal": "d.personal",
    }
    action = "CASE WHEN r.before IS NULL THEN 'create' WHEN r.after IS NULL THEN 'delete' ELSE 'update' END"
    limits = f"{_text(registry.LIKE_A_SECRET)}, {LONGEST}"
    pairs = f"""(SELECT {before} AS before, {after} AS after FROM {rows}) r,
        LATERAL public.auditlog_difference(r.before, r.after, {_text(json.dumps(about))}, {limits}) d WHERE d.counts"""
    return _function(_insert_rows(audited, action, values, pairs))


def _manner(column: Column) -> dict[str, Any]:
    flags = {name: True for name in ("masked", "personal", "quiet") if getattr(column, name)}
    kind = {"interval": "interval", "bytea": "bytea", "timestamp with time zone": "moment"}.get(column.kind)
    return {"name": column.name, **flags, **({"kind": kind} if kind else {})}


def _on_update(audited: Audited, columns: list[Column], values: _Values) -> str:
    """One row is compared step by step: setting up a query for that would cost more than all the rest."""
    table = f"public.{_name(audited.table)}"
    change = {
        "object_id": _object_id(audited, "n"),
        "object_label": _label(audited, "n"),
        **{side: f"('{{' || nullif(substr({side}_values, 2), '') || '}}')::jsonb" for side in ("old", "new")},
        "personal": "NULL",
    }
    if values.personal:
        sides = [f"""'"{side}":{{' || nullif(substr({side}_personal, 2), '') || '}}'""" for side in ("old", "new")]
        change["personal"] = f"('{{' || nullif(concat_ws(',', {', '.join(sides)}), '') || '}}')::jsonb"
    key = " AND ".join(f"n.{_name(column)} = o.{_name(column)}" for column in audited.key)
    moved = " OR ".join(f"n.{_name(column)} IS DISTINCT FROM o.{_name(column)}" for column in audited.key)
    went, came = (f"{row}.{_name(audited.key[0])} IS NULL" for row in "no")
    action = f"CASE WHEN {came} THEN 'create' WHEN {went} THEN 'delete' ELSE 'update' END"
    changed = " OR ".join(_differs(column) for column in columns if not column.quiet) or "false"
    rows = f"old_rows o FULL JOIN new_rows n ON {key} WHERE {changed}"
    return _function(
        f"""
    FOR o IN SELECT * FROM old_rows LOOP
        found := found + 1;
        EXIT WHEN found > 1;
    END LOOP;
    IF found = 1 THEN
        SELECT * INTO n FROM new_rows;
        IF {moved} THEN
            {_insert_rows(audited, action, values.changes(), rows)}
            RETURN NULL;
        END IF;
        {"".join(_step(column) for column in columns)}
        IF found > 1 THEN
            {_insert(audited, "'update'", change)}
        END IF;
    ELSIF found > 1 THEN
        {_insert_rows(audited, action, values.changes(), rows)}
    END IF;""",
        variables=f"""
    o {table}%ROWTYPE;
    n {table}%ROWTYPE;
    found integer := 0;
    old_values text := '';
    new_values text := '';
    old_personal text := '';
    new_personal text := '';""",
    )


def _step(column: Column) -> str:
    """Note a difference in one column, and that it counts unless the column is quiet."""
    kind = "personal" if column.personal else "values"
    notes = [
        f"{side}_{kind} := concat({side}_{kind}, ',' || {_pair(column, row)});"
        for side, row in (("old", "o"), ("new", "n"))
    ]
    counts = "" if column.quiet else "found := 2;"
    return f"""
        IF {_differs(column)} THEN
            {" ".join(notes)} {counts}
        END IF;"""


def _of_relation(audited: Audited, relation: Relation) -> Iterator[Trigger]:
    """An owner's record for all that one statement added to it or removed from it: the keys of the rows and targets."""
    (owner,) = audited.key
    label = _label(audited, "owner")

    def rows(table: str) -> str:
        pairs = f"jsonb_object_agg(r.{_name(relation.key)}::text, r.{_name(relation.target)})"
        return f"""(
            SELECT r.{_name(relation.source)} AS source, jsonb_build_object({_text(relation.name)}, {pairs}) AS rows
            FROM {table} r GROUP BY r.{_name(relation.source)}
        ) c LEFT JOIN public.{_name(audited.table)} owner ON owner.{_name(owner)} = c.source"""

    def change(action: str, table: str) -> str:
        values = {"object_id": "c.source::text", "object_label": label, "personal": "NULL"}
        values |= {"old": "NULL", "new": "c.rows"} if action == "add" else {"old": "c.rows", "new": "NULL"}
        return _insert_rows(audited, f"'{action}'", values, rows(table))

    removed, added = change("remove", "old_rows"), change("add", "new_rows")
    yield Trigger(relation.table, "insert", _function(added))
    yield Trigger(relation.table, "update", _function(removed, added))
    yield Trigger(relation.table, "delete", _function(removed))
    yield _on_truncate(audited, relation.table, relation.name)


def _on_truncate(audited: Audited, table: str, name: str = "") -> Trigger:
    rows = f"(SELECT count(*) AS rows FROM public.{_name(table)}) t"
    old = f"jsonb_build_object({_text(name or 'rows')}, t.rows)"
    values = {"object_id": "NULL", "object_label": "NULL", "old": old, "new": "NULL", "personal": "NULL"}
    return Trigger(table, "truncate", _function(_insert_rows(audited, "'truncate'", values, rows)))


_CONTEXT = (
    *("transaction", "epoch", "agent", "request", "address", "origin"),
    *("actor_kind", "actor_id", "actor_label", "on_behalf_id", "on_behalf_label", "reason"),
)


def _function(*statements: str, variables: str = "") -> str:
    application = settings.DATABASES["default"].get("OPTIONS", {}).get("application_name", "")
    return f"""
#variable_conflict use_column
DECLARE
    spoken text := nullif(current_setting('auditlog.context', true), '');
    said public.auditlog_context;{variables}
BEGIN
    said := jsonb_populate_record(said, coalesce(spoken::jsonb, public.auditlog_unannounced({_text(application)})));
    said.transaction := pg_current_xact_id()::text::bigint;
    said.epoch := coalesce(nullif(current_setting('auditlog.epoch', true), '')::smallint, public.auditlog_epoch());
    {"".join(statements)}
    RETURN NULL;
END
"""


def _insert(audited: Audited, action: str, values: dict[str, str]) -> str:
    said = ", ".join(f"said.{name}" for name in _CONTEXT)
    return f"""INSERT INTO public.auditlog_record (
        {", ".join(_CONTEXT)}, action, resource, object_id, object_label, old, new, personal
    ) SELECT
        {said},
        {action}, {_text(audited.resource)}, {values["object_id"]}, {values["object_label"]},
        {values["old"]}, {values["new"]}, {values["personal"]};"""


def _insert_rows(audited: Audited, action: str, values: dict[str, str], rows: str) -> str:
    return f"{_insert(audited, action, values).removesuffix(';')} FROM {rows};"


class _Values:
    """The SQL of what a record holds about one row."""

    def __init__(self, audited: Audited, columns: list[Column]) -> None:
        self.audited = audited
        self.open = [column for column in columns if not column.personal]
        self.personal = [column for column in columns if column.personal]

    def of(self, side: str) -> dict[str, str]:
        """All of a row that came or went."""
        return self._values(side, lambda column, row: _pair(column, row) if row == side else "NULL")

    def changes(self) -> dict[str, str]:
        """What differs, of a row before and after."""
        return self._values("on", lambda column, row: f"CASE WHEN {_differs(column)} THEN {_pair(column, row)} END")

    def _values(self, sides: str, pair: Callable[[Column, str], str]) -> dict[str, str]:
        def members(columns: Iterable[Column], row: str) -> str:
            pairs = [pair(column, row) for column in columns] if row in sides else []
            return f"nullif(concat_ws(',', {', '.join(pairs)}), '')" if pairs else "NULL"

        def either(expression: Callable[[str], str]) -> str:
            found = [expression(row) for row in reversed(sides)]  # the new row first
            return f"coalesce({', '.join(found)})" if len(found) > 1 else found[0]

        before, after = (
            f"""'"{word}":{{' || {members(self.personal, row)} || '}}'""" for word, row in (("old", "o"), ("new", "n"))
        )
        personal = (
            f"('{{' || nullif(concat_ws(',', {before}, {after}), '') || '}}')::jsonb" if self.personal else "NULL"
        )
        return {
            "object_id": either(lambda row: _object_id(self.audited, row)),
            "object_label": either(lambda row: _label(self.audited, row)),
            "old": f"('{{' || {members(self.open, 'o')} || '}}')::jsonb",
            "new": f"('{{' || {members(self.open, 'n')} || '}}')::jsonb",
            "personal": personal,
        }


def _object_id(audited: Audited, row: str) -> str:
    keys = [f"{row}.{_name(column)}::text" for column in audited.key]
    return " || ',' || ".join(keys)


def _label(audited: Audited, row: str) -> str:
    columns = [f"{row}.{_name(str(field.column))}" for field in audited.fields if field.name in audited.label]
    if not columns:
        return "NULL"
    return f"left(nullif(btrim(concat_ws(' ', {', '.join(columns)})), ''), {LONGEST_LABEL})"


def _differs(column: Column) -> str:
    before, after = (f"{row}.{_name(column.column)}" for row in "on")
    if column.kind in _WITHOUT_EQUALITY:
        before, after = f"{before}::text", f"{after}::text"
    elif column.kind.startswith(_TEXTS) and not column.kind.endswith("[]"):
        # Equal to the letter, also where the column's own type or collation takes A and a for the same.
        cast = "::text" if column.kind == "citext" else ""
        return f'{before}{cast} IS DISTINCT FROM {after}{cast} COLLATE "C"'
    return f"{before} IS DISTINCT FROM {after}"


_WITHOUT_EQUALITY = {"json", "xml", "point", "polygon", "box", "circle", "path", "lseg", "line"}
_TEXTS = ("text", "varchar", "char", "citext")
_NUMBERS = ("smallint", "integer", "bigint", "boolean")


def _pair(column: Column, row: str) -> str:
    """The column as a member of a JSON object; NULL, and so left out, when the value is."""
    value = f"{row}.{_name(column.column)}"
    text = f"public.auditlog_fingerprint({value}::text)" if column.masked else _json(column.kind, value)
    return f"'{_json_key(column.name)}:' || {text}"


def _json(kind: str, value: str) -> str:
    """The value as JSON text, the same whatever the settings of the session that writes it."""
    if kind.endswith("[]"):
        return _masked_inside(f"to_jsonb({value})")
    if kind.startswith(_NUMBERS):
        return f"{value}::text"
    if kind.startswith("timestamp with time zone"):
        zone = f"""CASE WHEN isfinite({value}) THEN 'Z"' ELSE '"' END"""
        return f"left(to_json({value} AT TIME ZONE 'UTC')::text, -1) || {zone}"
    if kind == "interval":
        return f"to_json(extract(epoch FROM {value}))::text"
    if kind in ("json", "jsonb"):
        return _masked_inside(f"{value}::jsonb" if kind == "json" else value)
    if kind == "bytea":
        return _bounded(f"encode({value}, 'hex')")
    if kind.startswith(_TEXTS) and not _is_short(kind):
        return _bounded(value)
    return f"to_json({value})::text"


def _masked_inside(value: str) -> str:
    """JSON without what bears the name of a secret, also where only the beginning is shown."""
    text, words = f"{value}::text", ", ".join(_text(f"%{word}%") for word in registry.SECRET_WORDS)
    masked = f"public.auditlog_masked_json({value}, {_text(registry.LIKE_A_SECRET)})::text"
    # Few have a word like that anywhere, and the walk through all keys is for those.
    whole = f"CASE WHEN lower({text}) LIKE ANY (ARRAY[{words}]) THEN {masked} ELSE {text} END"
    return _bounded(text, whole, whole)


def _is_short(kind: str) -> bool:
    """Whether no value of this type of text, like ``varchar(50)``, is longer than what is recorded whole."""
    size = kind.partition("(")[2].rstrip(")")
    return size.isdigit() and 4 * int(size) <= LONGEST


def _bounded(text: str, shown: str = "", whole: str = "") -> str:
    """`whole` as JSON, or the beginning of `shown`, when `text` is long."""
    whole = whole or f"to_json({text})::text"
    return f"CASE WHEN octet_length({text}) > {LONGEST} THEN public.auditlog_bounded({shown or text}) ELSE {whole} END"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _json_key(name: str) -> str:
    return f'"{name}"'  # names of fields are Python identifiers
