"""How far a server has come: a place in PostgreSQL's log, and the timeline it is on.

A transaction can be seen on a standby as soon as that has replayed its commit record, whatever the clocks say. The
timeline is a part of it because a promoted standby goes on at the place where it left its primary: a server that still
follows the old primary may be further by bytes, and holds something else.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

_TEXT = re.compile(r"([0-9a-f]{1,8})\.([0-9a-f]{1,16})")
# The commit record of whatever was acknowledged is in front of the place of insertion, flushed or not.
_OF_PRIMARY = """
SELECT at::text, file.file_name, file.file_offset, current_setting('wal_block_size')::int
FROM pg_current_wal_insert_lsn() AS at, pg_walfile_name_offset(at) AS file
"""
# A standby learns of a new timeline when it has replayed its beginning, and writes that down at its next restart point
# at the latest: until then it counts for one of the old timeline, which is safe.
_OF_STANDBY = """
SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text, control.min_recovery_end_timeline
FROM pg_control_recovery() AS control
"""
_PAGE_HEADER, _FILE_HEADER = 24, 40  # bytes; PostgreSQL's access/xlog_internal.h


class NoStandby(DatabaseError):
    """The server is a primary: promoted, or never a standby of ours."""


class Position(NamedTuple):
    """Compares as one should: first by timeline, then by byte."""

    timeline: int
    byte: int

    def __str__(self) -> str:
        """Return at most 25 letters for a cookie."""
        return f"{self.timeline:x}.{self.byte:x}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """Return what `str` made, None for anything else."""
        found = _TEXT.fullmatch(text)
        return cls(int(found[1], 16), int(found[2], 16)) if found else None


NOWHERE = Position(0, 0)
# What no server ever reaches.
BEYOND = Position(0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)


def of_primary(connection: BaseDatabaseWrapper) -> Position:
    """Ask where the log of the primary ends; whoever has replayed that shows everything committed before.

    Raises what Django raises for a server that is away, or that is no primary any more.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OF_PRIMARY)
        at, file_name, offset, page = cursor.fetchone()
    byte = _byte(at)
    # Where the next record would begin: behind the header of an empty page, which nobody replays until it has one.
    if offset == _FILE_HEADER or offset % page == _PAGE_HEADER:
        byte -= offset % page
    return Position(int(file_name[:8], 16), byte)


def of_standby(connection: BaseDatabaseWrapper) -> Position:
    """Ask up to where a standby shows everything.

    Raises NoStandby, and what Django raises for a server that is away.
    """
    with connection.cursor() as cursor:
        cursor.execute(_OF_STANDBY)
        is_standby, replayed, timeline = cursor.fetchone()
    if not is_standby or replayed is None:
        raise NoStandby("It takes changes of its own.")
    return Position(timeline, _byte(replayed))


def _byte(lsn: str) -> int:
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)
