"""Work on the whole database that somebody asks for, and a worker does: optimize, migrate, clean up.

A run is a row. While it runs, its worker holds an advisory lock, in a session of its own that ends with the process: a
run that is said to run and whose lock is free was left by a worker that died, and the next look says so. Endpoint,
admin and command all enter at `start`.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import IntegrityError, close_old_connections, connection, transaction
from django.db.models.functions import Now
from django_tasks import task

from healthcheck.models import Run
from healthcheck.operations.maintenance import lock_key, own_session
from healthcheck.signals import operation_asked, operation_ended

log = structlog.get_logger("healthcheck")

QUEUE = "operations"  # apart from other jobs, which must not wait for an hour of maintenance
Progress = Callable[[int, int, str], None]  # how much is done, of how much, and what is next
State = Run.State


@dataclass(frozen=True, kw_only=True)
class Operation:
    """`run` does it, tells its progress, and returns what it did; it may raise `Failed`.

    `accept` looks at the arguments before anything is queued, and may raise `Refused`.
    """

    name: str
    label: Any  # str or lazy translation
    permission: str
    run: Callable[[Progress, Mapping[str, Any]], dict[str, Any]]
    accept: Callable[[Mapping[str, Any]], None] = lambda arguments: None


@dataclass(frozen=True)
class Asker:
    """Who asks: a `kind` (user, token or command), an id if there is one, and a name for people."""

    kind: str
    id: str
    label: str


class Refused(Exception):
    """The operation was not queued; `code` says why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class AlreadyOpen(Refused):
    """The same operation waits or runs already: `run`."""

    def __init__(self, run: Run) -> None:
        super().__init__("already_running")
        self.run = run


class Failed(Exception):
    """The operation could not do all of its work; `result` is what it did."""

    def __init__(self, code: str, result: dict[str, Any] | None = None) -> None:
        super().__init__(code)
        self.code, self.result = code, result or {}


_operations: dict[str, Operation] = {}


def register(operation: Operation) -> None:
    """Add an operation; raises ValueError when another has its name."""
    if operation.name in _operations:
        raise ValueError(f"There is an operation called {operation.name!r} already.")
    _operations[operation.name] = operation


def operations() -> dict[str, Operation]:
    """Return every operation by its name, in the order of registration."""
    return dict(_operations)


# Asking


def start(name: str, *, asked_by: Asker, arguments: Mapping[str, Any] | None = None) -> Run:
    """Queue the operation `name` for a worker.

    Raises AlreadyOpen, and Refused with what the operation does not accept. The caller has checked that `asked_by` may.
    """
    _operations[name].accept(arguments or {})
    settle()
    try:
        with transaction.atomic():
            return _queue(name, asked_by, dict(arguments or {}))
    except IntegrityError:
        other = Run.objects.filter(operation=name, state__in=Run.OPEN).first()
    if other is None:  # it has ended since
        return start(name, asked_by=asked_by, arguments=arguments)
    raise AlreadyOpen(other)


def _queue(name: str, asked_by: Asker, arguments: dict[str, Any]) -> Run:
    run = Run.objects.create(
        operation=name,
        arguments=arguments,
        asked_by_kind=asked_by.kind,
        asked_by_id=asked_by.id,
        asked_by_label=asked_by.label[:150],
    )
    carry_out_job.enqueue(str(run.pk))
    operation_asked.send(Run, run=run)
    return run


def find(run_id: uuid.UUID) -> Run | None:
    """Return a run as it is now, which is failed if its worker is gone."""
    settle()
    return Run.objects.filter(pk=run_id).first()


def settle() -> None:
    """Mark as failed what workers that are gone have left running."""
    for run in Run.objects.filter(state=State.RUNNING):
        with transaction.atomic():
            if _is_deserted(run):
                _end(run, State.FAILED, code="interrupted")


def _is_deserted(run: Run) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [lock_key(run.operation)])
        return bool(cursor.fetchone()[0])


# Doing


@task(queue_name=QUEUE)
def carry_out_job(run_id: str) -> None:
    """Do what was asked for; a job that is handed out twice is done once."""
    carry_out(uuid.UUID(run_id))


def carry_out(run_id: uuid.UUID) -> None:
    """Do a run that waits. One whose worker died is not begun again: who asked for it decides."""
    run = Run.objects.filter(pk=run_id).first()
    if run is None or not run.is_open:
        return
    with _held(run) as held:
        if held and Run.objects.filter(pk=run.pk, state=State.QUEUED).update(state=State.RUNNING, began_at=Now()):
            _do(run)
    settle()


@contextmanager
def _held(run: Run) -> Iterator[bool]:
    """Hold the run's lock. Whoever wants it to begin waits for those who only look; else it is had at once or not."""
    lock = "pg_advisory_lock(%s) IS NOT NULL" if run.state == State.QUEUED else "pg_try_advisory_lock(%s)"
    with own_session() as session, session.cursor() as cursor:
        cursor.execute(f"SELECT {lock}", [lock_key(run.operation)])
        yield bool(cursor.fetchone()[0])


def _do(run: Run) -> None:
    log.info("operation.began", operation=run.operation, run=str(run.pk))
    try:
        result = _operations[run.operation].run(_progress_of(run), run.arguments)
    except Failed as failure:
        log.warning("operation.failed", operation=run.operation, code=failure.code, exc_info=failure.__cause__)
        _finish(run, State.FAILED, code=failure.code, result=failure.result)
    except Exception:
        log.exception("operation.failed", operation=run.operation, run=str(run.pk))
        _finish(run, State.FAILED, code="error")
    else:
        _finish(run, State.DONE, result=result)


def _progress_of(run: Run) -> Progress:
    def progress(done: int, of: int, what: str) -> None:
        Run.objects.filter(pk=run.pk).update(progress={"done": done, "of": of, "now": what})

    return progress


def _finish(run: Run, state: State, *, code: str = "", result: dict[str, Any] | None = None) -> None:
    close_old_connections()
    with transaction.atomic():
        _end(run, state, code=code, result=result)
    log.info("operation.ended", operation=run.operation, run=str(run.pk), state=state.value, code=code)


def _end(run: Run, state: State, *, code: str = "", result: dict[str, Any] | None = None) -> None:
    """Write the end of a running run in the caller's transaction; of two who do, one does."""
    ended = Run.objects.filter(pk=run.pk, state=State.RUNNING)
    if ended.update(state=state, code=code, result=result or {}, ended_at=Now()):
        run.refresh_from_db()
        operation_ended.send(Run, run=run)
