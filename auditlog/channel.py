"""Brings the context to the database: in front of the write that needs it, in the same round trip.

It is one setting that ends with the transaction, so it is safe behind a pooler; it is sent with the first write of a
transaction and again when something new is to be said. Every psycopg2 cursor of a connection passes here, Django's
and raw ones. Another app may send a setting of its own along, in front of reads too (`bring_along`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, proxy

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg2 import extensions
from psycopg2.sql import Composable

from auditlog import context, registry

# What may write, and the table where the statement names it at once: also a function that is selected. Reads, and
# what cannot stand beside another statement (VACUUM, CREATE INDEX CONCURRENTLY), get nothing in front.
_WRITE = re.compile(
    r"""\s*(?:(?:/\*.*?\*/|--[^\n]*\n)\s*)*
    (?:(?:INSERT\s+INTO|UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?(?:"?public"?\.)?"?(?P<table>\w+)
      |MERGE\b|WITH\b|TRUNCATE\b|(?P<may_commit>CALL\b|DO\b.*\b(?:COMMIT|ROLLBACK)\b)|DO\b|EXECUTE\b
      |EXPLAIN\s*(?:\(|ANALY)
      |SELECT\s+(?:\*\s+FROM\s+)?(?!(?:COUNT|SUM|MAX|MIN|AVG|EXISTS|COALESCE)\b)[\w."]+\s*\()""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# What may read, where reads have something to be told and no transaction is open: with brackets in front, as in a
# UNION. Not Django's own probe of a connection, which sees no table.
_READ = re.compile(
    r"""(?:[\s(]|/\*.*?\*/|--[^\n]*\n)*
    (?:SELECT\b(?!\s+1\s*\Z)|TABLE\b|VALUES\b|EXPLAIN\b|DECLARE\b|WITH\b|CREATE\b.*\bAS\b)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
# What ends or begins a transaction: one that has failed lets nothing else through, and a query would come too late to
# choose how the transaction is isolated. Inside of one everything else is told, or it would see what was told last.
_BORDER = re.compile(
    r"\s*(?:COMMIT|END|ROLLBACK|ABORT|PREPARE\s+TRANSACTION|SET\s+(?:SESSION\s+|LOCAL\s+)?TRANSACTION)\b", re.IGNORECASE
)
# What only reads, or moves the borders of a transaction, when it is not found above.
_NO_WRITE = re.compile(
    r"\s*(?:SELECT|VALUES|TABLE|SHOW|SET|RESET|BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|EXPLAIN"
    r"|DECLARE|FETCH|MOVE|CLOSE|DEALLOCATE|DISCARD|LISTEN|UNLISTEN)\b",
    re.IGNORECASE,
)
_BACK_TO_SAVEPOINT = re.compile(r"\s*ROLLBACK\s+(?:WORK\s+|TRANSACTION\s+)?TO\b", re.IGNORECASE)
_CONTEXT = "auditlog.context"
_SEND = "SELECT set_config('{}', %s, true);"
_KNOW_AGENT = "SELECT auditlog_know_agent(%s, %s);"
_known_agents: set[int] = set()  # those that a committed transaction of this process has told
_MOST_AGENTS = 10_000


RESTORE = "restore"
_brought: dict[str, Callable[[BaseDatabaseWrapper], str | None]] = {}


def bring_along(setting: str, value: Callable[[BaseDatabaseWrapper], str | None]) -> None:
    """Tell the transactions of every connection a `setting`, before the first read or write that could see it.

    `value` is asked at each statement, and may send statements of its own. Its answer ends with the transaction; None:
    this connection is told nothing.
    """
    _brought[setting] = value


class Announcement:
    """A write that a signal has announced: its origin, and the tables it is about (None: whatever it touches)."""

    __slots__ = ("origin", "subject", "tables")

    def __init__(self, origin: str, subject: object, tables: frozenset[str] | None) -> None:
        self.origin, self.subject, self.tables = origin, subject, tables


class Channel:
    """What one connection has told its server, and what signals have announced for its next writes."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = proxy(connection)
        self.is_recorded = True  # whether the trail is there; on a replica nobody writes
        self.announced: list[Announcement] = []
        self.sent: dict[str, str] = {}  # by setting
        self.writes = 0  # statements so far that may have written

    def open_cursor(self, connection: extensions.connection, name: str | None = None) -> extensions.cursor:
        """The cursor factory of the connection; a cursor that the server holds has a name."""
        cursor = Cursor(connection) if name is None else ServerCursor(connection, name)
        cursor.channel = self
        return cursor

    def announce(self, origin: str, subject: object, tables: frozenset[str] | None = None) -> None:
        """What is announced for any table inside another such is a part of that: SET_NULL belongs to its deletion."""
        outer = self.announced[-1] if self.announced else None
        if tables is None and outer is not None and outer.tables is None:
            origin = outer.origin
        if any(outer.origin == RESTORE for outer in self.announced):
            origin = RESTORE  # by whatever path the old values go back
        self.announced.append(Announcement(origin, subject, tables))

    def fulfil(self, subject: object) -> None:
        """End the announcement about `subject`, and what was left inside it; nothing if there is none."""
        for place in reversed(range(len(self.announced))):
            if self.announced[place].subject is subject:
                del self.announced[place:]
                return

    @contextmanager
    def restoring(self) -> Iterator[None]:
        """Give every write that is announced in the block the origin ``restore``."""
        subject = object()
        self.announce(RESTORE, subject, frozenset())
        try:
            yield
        finally:
            self.fulfil(subject)

    def before(self, cursor: Cursor, statement: str) -> bytes:
        """Return what has to be sent in front of `statement`, or nothing."""
        idle, found = _is_idle(cursor), _WRITE.match(statement)
        if found or not _NO_WRITE.match(statement) or ";" in statement.rstrip("; \n"):
            self.writes += 1
        # Such a one could not commit, with a statement in front of it.
        if found and not (found["may_commit"] and idle):
            return self.message(cursor, statement, found["table"])
        if not found and _brought and (_READ.match(statement) if idle else not _BORDER.match(statement)):
            return self.message(cursor)
        if idle or _BACK_TO_SAVEPOINT.match(statement):  # the server forgets what it was told since
            self.sent.clear()
        return b""

    def message(self, cursor: Cursor, statement: str | None = None, table: str | None = None) -> bytes:
        """Return what is new to the server; without a `statement` that may write, only what others bring along."""
        spoken = context.current()
        statement = statement if self.is_recorded else None
        said = {} if statement is None else {_CONTEXT: spoken.text(self._origin(table))}
        for setting, value in _brought.items():
            if (text := value(self.connection)) is not None:
                said[setting] = text
        if _is_idle(cursor):  # asked last: to find out who it is may have taken statements
            self.sent.clear()
        news = {setting: text for setting, text in said.items() if self.sent.get(setting) != text}
        self.sent |= said
        prefix = b"".join(cursor.mogrify(_SEND.format(setting), [text]) for setting, text in news.items())
        number = spoken.agent_number
        if statement is not None and number is not None and number not in _known_agents and _records(statement):
            prefix += cursor.mogrify(_KNOW_AGENT, [number, spoken.agent])
            if self.connection.in_atomic_block:  # else its name travels with every write until one is in a transaction
                self.connection.on_commit(partial(_known, number), robust=True)
        return prefix

    def _origin(self, table: str | None) -> str:
        for announcement in reversed(self.announced):
            if announcement.tables is None or table in announcement.tables:
                return announcement.origin
        return "sql"


def _is_idle(cursor: Cursor) -> bool:
    return bool(cursor.connection.info.transaction_status == extensions.TRANSACTION_STATUS_IDLE)


def _records(statement: str) -> bool:
    """Whether it may leave a record: a name that no record needs would let strangers fill the table of names."""
    return "auditlog_record_event" in statement or any(table in statement for table in registry.tables())


def _known(agent: int) -> None:
    if len(_known_agents) >= _MOST_AGENTS:
        _known_agents.clear()
    _known_agents.add(agent)


class Cursor(extensions.cursor):
    """psycopg2's cursor, with the context in front of what writes."""

    channel: Channel
    _front = b""

    @property
    def query(self) -> bytes | None:
        """The statement as it was sent, for logs, without what was in front of it."""
        sent: bytes | None = extensions.cursor.query.__get__(self)
        return sent.removeprefix(self._front) if sent else sent

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - psycopg2's own name
        try:
            super().execute(self._with_context(query, vars is not None), vars)
        except BaseException:
            self.channel.sent.clear()  # it may not even have left this process
            raise

    def executemany(self, query: Any, vars_list: Iterable[Any]) -> None:
        try:
            super().executemany(self._with_context(query, with_values=True), vars_list)
        finally:
            self.channel.sent.clear()  # without values nothing was

    def _with_context(self, query: Any, with_values: bool) -> Any:
        self._front = b""
        text = query.as_string(self) if isinstance(query, Composable) else query
        if isinstance(text, bytes):
            text = text.decode(extensions.encodings[self.connection.encoding])
        self._front = self.channel.before(self, text)
        if not self._front:
            return query
        front = self._front.decode(extensions.encodings[self.connection.encoding])
        return (front.replace("%", "%%") if with_values else front) + text

    def callproc(self, procname: str | bytes, parameters: Any = ()) -> Any:
        with self._told(str(procname)):
            return super().callproc(procname, parameters)

    def copy_expert(self, sql: Any, file: Any, size: int = 8192) -> None:
        with self._told(sql.as_string(self) if isinstance(sql, Composable) else str(sql)):
            super().copy_expert(sql, file, size)

    def copy_from(self, file: Any, table: str, *args: Any, **kwargs: Any) -> None:
        with self._told(table):
            super().copy_from(file, table, *args, **kwargs)

    def copy_to(self, file: Any, table: str, *args: Any, **kwargs: Any) -> None:
        with self._told():
            super().copy_to(file, table, *args, **kwargs)

    @contextmanager
    def _told(self, statement: str | None = None) -> Iterator[None]:
        """Some share no round trip, and what is told ends with a transaction: outside one, give it one."""
        if statement is not None:
            self.channel.writes += 1
        message, plain = self.channel.message(self, statement), extensions.cursor(self.connection)
        own = bool(message) and _is_idle(self) and self.connection.autocommit
        if message:
            plain.execute(b"BEGIN;" + message if own else message)
        try:
            yield
        except BaseException:
            if own:
                plain.execute("ROLLBACK")
            raise
        if own:
            plain.execute("COMMIT")


class ServerCursor(Cursor):
    """A cursor that the server holds. Parts of what it reads, it reads when rows are fetched."""

    def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002 - as above
        try:
            with self._told():
                extensions.cursor.execute(self, query, vars)
        except BaseException:
            self.channel.sent.clear()
            raise

    def fetchone(self) -> Any:
        self._tell_again()
        return super().fetchone()

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        self._tell_again()
        return super().fetchmany(*args, **kwargs)

    def fetchall(self) -> Any:
        self._tell_again()
        return super().fetchall()

    def __next__(self) -> Any:
        self._tell_again()
        return super().__next__()

    def _tell_again(self) -> None:
        if not _is_idle(self):  # what outlives its transaction was read at the end of that
            with self._told():
                pass


_channels: WeakKeyDictionary[BaseDatabaseWrapper, Channel] = WeakKeyDictionary()


def open_channel(connection: BaseDatabaseWrapper, *, is_recorded: bool) -> None:
    """Let every cursor of the fresh `connection` pass through its channel."""
    channel = _channels.setdefault(connection, Channel(connection))
    channel.is_recorded = is_recorded
    channel.sent.clear()
    connection.connection.cursor_factory = channel.open_cursor


def of(using: str) -> Channel:
    """Return the channel of this thread's connection `using`."""
    connection = connections[using]
    return _channels.get(connection) or _channels.setdefault(connection, Channel(connection))


def forget(subject: object) -> None:
    """End what was announced about `subject` on any connection of this thread."""
    for connection in connections.all(initialized_only=True):
        if channel := _channels.get(connection):
            channel.fulfil(subject)
