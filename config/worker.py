"""The worker: runs queued jobs, tries failed ones again, and picks up what a dead worker left.

Built on django-tasks-db, which claims a job and runs it once. Added here: a job that fails waits with
exponential backoff and jitter; a job whose worker died runs again; a database that is away for a while is
waited for. A job therefore runs at least once, rarely twice, and must be able to stand that.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from django.db import DatabaseError, InterfaceError, connections
from django.db.models import Func, IntegerField, Q
from django.db.models.functions import Now
from django.utils import timezone
from django_tasks.base import TaskResultStatus
from django_tasks_db.management.commands.db_worker import Worker as DatabaseWorker
from django_tasks_db.models import DBTaskResult

from config import configuration, schedule
from config.database import retry
from healthcheck import operations


class JsonArrayLength(Func):
    function = "jsonb_array_length"
    output_field = IntegerField()


Job = DBTaskResult[..., Any]
log = structlog.get_logger("gatehouse.worker")

MOST_ATTEMPTS = 10  # about nine hours with the delays below
FIRST_DELAY = 10.0  # seconds
LONGEST_DELAY = 3 * 3600.0  # seconds
ABANDONED_AFTER = timedelta(minutes=10)  # far longer than any job runs
EVERY_MINUTE = 60.0  # seconds
SLOW_QUEUES = [operations.QUEUE, schedule.SLOW_QUEUE]
DATABASE_DELAY = 2.0  # seconds between looks at a database that is away


def delay_before(attempt: int) -> float:
    """Return the seconds to wait before `attempt` (2 is the first retry): tripled each time, ±20 %."""
    delay = min(FIRST_DELAY * 3.0 ** (attempt - 2), LONGEST_DELAY)
    return delay * random.uniform(0.8, 1.2)  # noqa: S311 - spreads load, hides nothing


class Lane(DatabaseWorker):
    """Runs the jobs of some queues, one after the other; `but_not` and `queues` are names, ``*`` is all."""

    def __init__(self, *, interval: float, once: bool, queues: list[str], but_not: list[str]) -> None:
        super().__init__(
            queue_names=queues,
            interval=interval,
            batch=True,  # the base class returns when the queue is empty, so that the schedule gets its turn
            backend_name="default",
            startup_delay=False,
            max_tasks=None,
            worker_id=secrets.token_hex(16),
            excluded_queue_names=but_not,
        )
        self.once = once

    def run(self) -> None:
        while self.running:
            try:
                self._work_off()
                pause = self.interval
            except (DatabaseError, InterfaceError) as error:
                if self.once:
                    raise
                log.warning("worker.database_away", error=type(error).__name__)
                connections.close_all()
                pause = DATABASE_DELAY
            if self.once:
                return
            if self.running:
                time.sleep(pause)

    def _work_off(self) -> None:
        super().run()

    def run_task(self, db_task_result: Job) -> None:
        super().run_task(db_task_result)
        if db_task_result.status == TaskResultStatus.FAILED:
            self._try_again(db_task_result)

    @staticmethod
    def _try_again(job: Job) -> None:
        attempts = len(job.worker_ids)
        about = {
            "job": job.task_path,
            "id": str(job.pk),
            "attempts": attempts,
            "error": job.exception_class_path,
        }
        if attempts >= MOST_ATTEMPTS:
            log.error("job.given_up", exception=job.traceback, **about)
            return
        seconds = delay_before(attempts + 1)
        put_back = partial(
            DBTaskResult.objects.filter(pk=job.pk).update,
            status=TaskResultStatus.READY,
            run_after=timezone.now() + timedelta(seconds=seconds),
        )
        retry.run(put_back, idempotent=True, patience=retry.BACKGROUND)
        log.warning("job.failed", next_try_in=round(seconds), **about)


class Worker(Lane):
    """One worker process; any number may run side by side.

    `interval` is the pause between looks at an empty queue, in seconds. With `once` it ends when no job is
    ready.
    """

    def __init__(self, *, interval: float = 1.0, once: bool = False) -> None:
        super().__init__(interval=interval, once=once, queues=["*"], but_not=[] if once else SLOW_QUEUES)
        self._kept_schedule = float("-inf")
        self._took_turn = float("-inf")
        self._began = False

    def run(self) -> None:
        if not self.once:
            # An operation may take an hour, in which mails must not wait. It ends with the process, and is told so.
            aside = Lane(interval=max(self.interval, 1.0), once=False, queues=SLOW_QUEUES, but_not=[])
            threading.Thread(target=self._run_aside, args=[aside], name="operations", daemon=True).start()
        super().run()

    def _run_aside(self, lane: Lane) -> None:
        """Run the other lane, again if something ended it that it did not expect: nobody else would."""
        while self.running:
            try:
                lane.run()
            except Exception:
                log.exception("worker.lane_failed")
                time.sleep(DATABASE_DELAY)

    def _work_off(self) -> None:
        self._begin()
        self._keep_schedule()
        super()._work_off()
        self._take_turn()

    def _begin(self) -> None:
        if not self._began:
            configuration.record_changes()
            self._began = True

    def _keep_schedule(self) -> None:
        if time.monotonic() - self._kept_schedule > EVERY_MINUTE:
            self._kept_schedule = time.monotonic()
            schedule.run()

    def _take_turn(self) -> None:
        self._took_turn = time.monotonic()
        schedule.take_turn()

    def run_task(self, db_task_result: Job) -> None:
        super().run_task(db_task_result)
        self._keep_schedule()  # a long queue must not keep the rest waiting
        if time.monotonic() - self._took_turn > self.interval:
            self._take_turn()


@schedule.every_minute
def requeue_abandoned() -> int:
    """Queue again what a worker that died had claimed, or had not yet put back; returns how many jobs."""
    long_ago = timezone.now() - ABANDONED_AFTER
    jobs = DBTaskResult.objects.annotate(attempts=JsonArrayLength("worker_ids"))
    left = jobs.filter(
        Q(status=TaskResultStatus.RUNNING, started_at__lt=long_ago)
        | Q(status=TaskResultStatus.FAILED, finished_at__lt=long_ago)
    )
    deadly = left.filter(status=TaskResultStatus.RUNNING, attempts__gte=MOST_ATTEMPTS)
    if given_up := deadly.update(status=TaskResultStatus.FAILED, finished_at=Now()):
        log.error("jobs.given_up", count=given_up)
    found = left.filter(attempts__lt=MOST_ATTEMPTS).update(status=TaskResultStatus.READY, run_after=Now())
    if found:
        log.warning("jobs.requeued", count=found)
    return found
