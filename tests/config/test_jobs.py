"""What the worker's schedule does with jobs that a dead worker left, and with old ones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, ProgrammingError
from django.utils import timezone
from django_tasks_db.models import DBTaskResult
from structlog.testing import capture_logs

from accounts import jobs
from auditlog import delivering
from config import schedule
from config.worker import (
    ABANDONED_AFTER,
    MOST_ATTEMPTS,
    Worker,
    delay_before,
    requeue_abandoned,
)

pytestmark = pytest.mark.django_db


def job(**columns: Any) -> Any:
    jobs.send_mail_to_address.enqueue("password_reset", "somebody@example.com")
    found = DBTaskResult.objects.order_by("-enqueued_at")[:1].get()
    DBTaskResult.objects.filter(pk=found.pk).update(**columns)
    return found


def status_of(found: Any) -> str:
    found.refresh_from_db()
    return str(found.status)


LONG_AGO = ABANDONED_AFTER + timedelta(minutes=1)


@pytest.mark.parametrize(
    ("status", "ago", "attempts", "after"),
    [
        ("RUNNING", LONG_AGO, 1, "READY"),  # its worker died while it ran
        ("FAILED", LONG_AGO, 1, "READY"),  # its worker died before it could put it back
        ("RUNNING", timedelta(minutes=1), 1, "RUNNING"),
        ("FAILED", timedelta(seconds=1), 1, "FAILED"),
        ("FAILED", LONG_AGO, MOST_ATTEMPTS, "FAILED"),  # given up
        ("RUNNING", LONG_AGO, MOST_ATTEMPTS, "FAILED"),  # kills its workers
        ("SUCCESSFUL", LONG_AGO, 1, "SUCCESSFUL"),
    ],
)
def test_a_job_left_behind_is_queued_again(status: str, ago: timedelta, attempts: int, after: str) -> None:
    then = timezone.now() - ago
    found = job(status=status, started_at=then, finished_at=then, worker_ids=["worker"] * attempts)
    assert requeue_abandoned() == (after == "READY")
    assert status_of(found) == after


def test_delays_triple_up_to_a_bound() -> None:
    for attempt, seconds in ((2, 10), (3, 30), (4, 90), (20, 10_800)):
        assert 0.8 * seconds <= delay_before(attempt) <= 1.2 * seconds


def test_apps_put_their_work_on_the_schedule_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "_work", {})
    done: list[str] = []

    @schedule.every_minute
    def work() -> None:
        done.append("work")

    assert schedule.every_minute(work) is work
    Worker(once=True)._keep_schedule()
    assert done == ["work"]


def test_a_long_queue_keeps_nothing_waiting_that_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    monkeypatch.setattr(schedule, "_turns", {lambda: done.append("turn"): None})
    monkeypatch.setattr(schedule, "_work", {lambda: done.append("minute"): None})
    monkeypatch.setattr("config.worker.EVERY_MINUTE", 0)
    worker = Worker(interval=0, once=True)
    for count in (1, 2):
        found = job()
        found.claim(worker.worker_id)
        worker.run_task(found)
        assert done == ["minute", "turn"] * count


@pytest.mark.parametrize(("works_of", "run"), [("_work", schedule.run), ("_turns", schedule.take_turn)])
def test_what_one_cannot_do_keeps_nobody_else_waiting(
    works_of: str, run: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise ProgrammingError

    done: list[str] = []
    works: dict[Any, None] = {fails: None, lambda: done.append("the rest"): None}
    monkeypatch.setattr(schedule, works_of, works)
    with capture_logs() as lines:
        run()
    assert done == ["the rest"]
    (line,) = lines
    assert line["event"] == "schedule.failed"
    assert line["work"].endswith("fails")


def test_an_absent_database_ends_the_schedule_of_this_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    def finds_none() -> None:
        raise OperationalError

    done: list[str] = []
    monkeypatch.setattr(schedule, "_work", {finds_none: None, lambda: done.append("the rest"): None})
    with pytest.raises(OperationalError):
        schedule.run()
    assert not done


def test_every_turn_the_worker_tells_of_new_records() -> None:
    assert list(schedule._turns) == [delivering.deliver]


def test_this_is_all_that_the_worker_does_every_minute() -> None:
    names = {
        *("requeue_abandoned", "tend", "keep_rules", "beat", "measure_trail", "remember"),
        *("enqueue_what_is_due", "keep_accounts_daily_signups_fresh"),
        "keep_queries_popular_fresh",  # the sample app's
    }
    assert {work.__name__ for work in schedule._work} == names
