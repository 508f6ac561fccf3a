"""All that is kept about a person, for that person: files of JSON in a ZIP, kept in the database for a while.

Every part of the site registers what it knows (`register`); the own audit records are streamed. Made by a job in one
transaction, a bounded piece at a time, so that a kill leaves nothing half and memory does not grow with the history.
In the database, because the worker that makes it and the host that serves it need not be one machine.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import IO, Any, cast

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone
from django_tasks import task

import auditlog
from accounts import activity, jobs
from accounts.errors import AccountError
from accounts.models import DataExport, DataExportPiece, User
from config.database.locks import hold_until_commit

MOST_A_DAY = 3
ASKED_WITHIN = timedelta(days=1)
PIECE = 256 * 1024  # bytes of one row
MOST_RECORDS = 200_000  # the newest; the file says so when there are more
MOST_ROWS = 10_000  # of a list in a part
State = DataExport.State

# What a part of the site keeps about a person: the name of its file -> what JSON can hold.
Part = Callable[[User], Any]
_parts: dict[str, Part] = {}

READ_ME = """This is what Gatehouse keeps about you, made when you asked for it.

Each .json file is one part of it; activity.jsonl has one line for each thing that you did here or that was done to your
account, the newest first. Passwords, keys and links are not in it: they are kept in a form that says nothing, or not at
all. Times are in UTC.
"""


def register(name: str, part: Part) -> None:
    """Let the export have a file `name`.json with what `part` says about a user; in an `AppConfig.ready`.

    No secret may be in it, not even hashed. Raises ValueError when the name is taken.
    """
    if name in _parts:
        raise ValueError(f"There is a part of the export called {name!r} already.")
    _parts[name] = part


# Asking


def ask_for_data(user: User) -> DataExport:
    """Let the worker make `user` a copy. An earlier one can be downloaded until it is there.

    Raises AccountError: ``data_export_waiting`` while one is being made, ``data_exports_limit``.
    """
    with transaction.atomic():
        hold_until_commit(f"data export {user.pk}")
        exports = DataExport.objects.filter(user=user)
        if exports.filter(state=State.WAITING).exists():
            raise AccountError("data_export_waiting")
        if exports.filter(asked_at__gt=Now() - ASKED_WITHIN).count() >= MOST_A_DAY:
            raise AccountError("data_exports_limit", limit=MOST_A_DAY)
        discard(exports.exclude(state=State.READY))
        export = DataExport.objects.create(user=user)
        make_data_export.enqueue(str(export.pk))
        auditlog.record("data_asked", user)
    return export


def of_user(user: User) -> list[DataExport]:
    """Return what `user` asked for lately, the newest first."""
    return list(DataExport.objects.filter(user=user).order_by("-asked_at")[:MOST_A_DAY])


def discard(exports: QuerySet[DataExport]) -> None:
    """Let them be over, and take their content away."""
    DataExportPiece.objects.filter(export__in=exports).delete()
    exports.exclude(state=State.OVER).update(state=State.OVER)


# Making


@task()
def make_data_export(export_id: str) -> None:
    """Make the copy; when it fails, the page says so while the worker goes on trying."""
    try:
        make(export_id)
    except Exception:
        DataExport.objects.filter(pk=export_id, state=State.WAITING).update(state=State.FAILED)
        raise


def make(export_id: str) -> bool:
    """Make what was asked for, once; returns whether it was made now. May be called again after any failure."""
    with transaction.atomic():
        exports = DataExport.objects.select_for_update(of=("self",)).select_related("user")
        wanted = exports.filter(pk=export_id, state__in=[State.WAITING, State.FAILED]).first()
        if wanted is None or wanted.user.deleted_at is not None:
            return False
        size = _write(wanted)
        discard(DataExport.objects.filter(user=wanted.user).exclude(pk=wanted.pk))
        DataExport.objects.filter(pk=wanted.pk).update(
            state=State.READY,
            size=size,
            made_at=Now(),
            expires_at=Now() + timedelta(hours=settings.DATA_EXPORT_HOURS),
        )
        auditlog.record("data_made", wanted.user, new={"bytes": size})
        jobs.send_mail_to_user.enqueue("data_ready", str(wanted.user_id))
    return True


def _write(export: DataExport) -> int:
    pieces = _Pieces(export)
    # It cannot be sought in, so the ZIP is written from front to end.
    with zipfile.ZipFile(cast("IO[bytes]", pieces), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_entry("README.txt"), READ_ME)
        for name, part in _parts.items():
            archive.writestr(_entry(f"{name}.json"), _json(part(export.user), indent=2))
        with archive.open(_entry("activity.jsonl"), "w", force_zip64=True) as file:
            for line in _activity(export.user):
                file.write(_json(line).encode() + b"\n")
    return pieces.finish()


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(f"gatehouse/{name}", timezone.now().timetuple()[:6])
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o600 << 16
    return info


def _json(value: Any, **options: Any) -> str:
    return json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, **options)


def _activity(user: User) -> Iterator[dict[str, Any]]:
    found = activity.facts_of(user)
    yield from islice(found, MOST_RECORDS)
    if next(found, None) is not None:
        yield {"note": f"There is more; these are the newest {MOST_RECORDS}."}


class _Pieces(io.RawIOBase):
    """A file that only grows, kept as rows of bounded size."""

    def __init__(self, export: DataExport) -> None:
        self.export, self.size = export, 0
        self._waiting = bytearray()
        self._number = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self._waiting += content
        while len(self._waiting) >= PIECE:
            self._keep(PIECE)
        return len(content)

    def finish(self) -> int:
        """Keep the rest and return the size. Not `close`: that is called for a file that nobody wants any more, too."""
        if self._waiting:
            self._keep(len(self._waiting))
        return self.size

    def _keep(self, length: int) -> None:
        piece, self._waiting = bytes(self._waiting[:length]), self._waiting[length:]
        DataExportPiece.objects.create(export=self.export, number=self._number, content=piece)
        self._number += 1
        self.size += length


# Handing over


def ready(user: User, export_id: Any) -> DataExport | None:
    """Return the copy of this id if it is `user`'s and can be downloaded now."""
    return DataExport.objects.filter(pk=export_id, user=user, state=State.READY, expires_at__gt=Now()).first()


def hand_over(export: DataExport, user: User) -> Iterator[bytes]:
    """Record the download and return the content, a piece at a time."""
    auditlog.record("data_downloaded", user)
    return _content(export)


def _content(export: DataExport) -> Iterator[bytes]:
    number = 0
    while piece := DataExportPiece.objects.filter(export=export, number=number).first():
        yield bytes(piece.content)
        number += 1


# Keeping


def kept_for() -> timedelta:
    """How long it is kept at least that somebody asked: as long as it counts, and until it has expired."""
    return max(ASKED_WITHIN, timedelta(hours=settings.DATA_EXPORT_HOURS))


def over_since(before: datetime) -> QuerySet[DataExport]:
    """Return those asked for before then that nobody can download any more."""
    return DataExport.objects.filter(Q(expires_at=None) | Q(expires_at__lt=Now()), asked_at__lt=before)


def expired_pieces(before: datetime) -> QuerySet[DataExportPiece]:
    return DataExportPiece.objects.filter(export__expires_at__lt=before)
