"""Checks of the audit trail, the queue of jobs and the server's fitness; `GatehouseConfig` registers them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import Any

from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connection
from django.db.models import Case, Min, When
from django.db.models.functions import Greatest, Now
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_tasks.base import TaskResultStatus
from django_tasks_db.models import DBTaskResult

from accounts import activity, roles
from accounts.models import User
from auditlog import care, events, reading
from auditlog.describing import Described, describe
from auditlog.reading import Query
from config import deploying, policies
from config.checks import server_is_fit
from config.database.deadline import database_budget
from config.database.roles import has_two_roles
from config.worker import MOST_ATTEMPTS, JsonArrayLength
from healthcheck import advice, operations
from healthcheck.checks import limits, worse
from healthcheck.registry import Check, register
from healthcheck.results import Result, Status, judged

_SECONDS = 5.0  # that a check may wait for the database
_DETAIL_SECONDS = 0.5  # that a page may, for what it shows besides
_GIVEN_UP_FOR = timedelta(days=1)  # a job that was given up is news for so long


def audit() -> Result:
    """Whether the database records every change, and the trail is sealed and has room."""
    with database_budget(_SECONDS):
        state = care.state()
    if state.triggers_missing or state.triggers_unknown:
        return Result(Status.FAIL, "triggers_differ", state.triggers_missing + state.triggers_unknown)
    waits = (timezone.now() - state.unsealed_since) / timedelta(hours=1) if state.unsealed_since else 0.0
    return worse(
        [
            judged(round(waits, 2), "h", limits("audit_sealing"), "sealing_late"),
            judged(state.weeks_ahead, "weeks", limits("audit_partitions"), "partitions_run_out"),
            Result(Status.WARN if state.in_default else Status.PASS, "outside_partitions", state.in_default),
        ]
    )


def worker() -> Result:
    """How long the oldest job waits that could be done, and whether one was given up in the last day.

    Operations wait for each other, as long as they take.
    """
    jobs = DBTaskResult.objects.annotate(attempts=JsonArrayLength("worker_ids"))
    given_up = jobs.filter(
        status=TaskResultStatus.FAILED, attempts__gte=MOST_ATTEMPTS, finished_at__gt=timezone.now() - _GIVEN_UP_FOR
    )
    with database_budget(_SECONDS):
        ready = DBTaskResult.objects.ready().exclude(queue_name=operations.QUEUE)
        since = ready.aggregate(since=Min(_READY_SINCE))["since"]
        count = given_up.count()
    seconds = max(0.0, (timezone.now() - since).total_seconds()) if since else 0.0
    late = judged(round(seconds, 1), "s", limits("worker"), "late")
    return worse([late, Result(Status.WARN if count else Status.PASS, "given_up", count, "jobs")])


# A job that may be done at once has a time after all others.
_READY_SINCE = Case(When(run_after__gt=Now(), then="enqueued_at"), default=Greatest("enqueued_at", "run_after"))


def configuration() -> Result:
    """Whether the server is fit for production, and keeps apart the rows that it should.

    That pages could alter tables, with one role for all, is only told.
    """
    with database_budget(_SECONDS):
        if server_is_fit(databases=[DEFAULT_DB_ALIAS]):
            return Result(Status.FAIL, "unfit_server")
        if open_tables := policies.faults(connection):
            return Result(Status.FAIL, "policies_differ", len(open_tables))
    return Result(Status.PASS, "ok" if has_two_roles() else "one_role")


def clock() -> Result:
    """How far this host's clock is from the database's: links, codes and locks end by one or the other."""
    with database_budget(_SECONDS):
        offset = deploying.clock_offset()
    return judged(round(abs(offset), 2), "s", limits("clock"), "clock_differs")


def backups_made() -> Result:
    """How old the newest backup is on a host that has any; where none was ever made, another host makes them."""
    age = deploying.backup_age()
    if age is None:
        return Result(Status.PASS, "none")
    return judged(round(age / timedelta(hours=1), 1), "h", limits("backups"), "backup_overdue")


def roles_in_step() -> Result:
    """Whether the groups hold what the code declares; `migrate` puts them right."""
    with database_budget(_SECONDS):
        different = roles.differences()
    return Result(Status.WARN if different else Status.PASS, "roles_differ" if different else "ok", len(different))


def recent_records(request: HttpRequest) -> dict[str, Any]:
    """Return the newest records: all of them for whoever may see the trail, which is recorded, else one's own."""
    user = request.user
    if not isinstance(user, User):
        return {}
    try:
        with database_budget(_DETAIL_SECONDS):
            if user.has_perm("auditlog.view_record"):
                events.record("read", "auditlog.record", label="health", new={"page": "health"})
                return {"records": [_record(each) for each in describe(reading.newest(Query()).records)]}
            _page, entries = activity.page_of(user, {})
            return {"records": [_entry(entry) for entry in entries]}
    except (DatabaseError, InterfaceError):
        return {"records": None}


def _record(described: Described) -> dict[str, Any]:
    record = described.record
    return {
        "id": record.pk,
        "at": record.at.isoformat(),
        "action": record.action,
        "resource": record.resource,
        "object": described.object,
        "by": described.who,
        "changed": described.changed,
        "origin": record.origin,
    }


def _entry(entry: activity.Entry) -> dict[str, Any]:
    return asdict(entry) | {"at": entry.at.isoformat()}


_POLICIES_DIFFER = advice.Advice(
    _("The database may show people the rows of others: its policies are not those that the code declares."),
    _("Start “manage.py check --database default”, which names the tables; “manage.py migrate” puts policies right."),
)
_ROLES_DIFFER = advice.Advice(
    _("Somebody changed what a role may do, past the code that declares it. People may do more or less than meant."),
    _("Run “manage.py migrate”, which puts it right; the audit trail of the group says who changed it."),
)


_CLOCK_DIFFERS = advice.Advice(
    _("The clock of this host and the database’s differ. Links, codes of second factors and locks end by the clock."),
    _("Let both follow a time server (NTP)."),
)
_BACKUP_OVERDUE = advice.Advice(
    _("This host used to make backups and has made none for long. What was written since would be lost with the disk."),
    _("See why “manage.py backup” did not run, and run it."),
)


def register_all() -> None:
    """Register every check of this module."""
    register(Check(name="audit", label=_("Audit trail"), run=audit, every=300, detail=recent_records))
    register(Check(name="worker", label=_("Worker"), run=worker))
    register(Check(name="roles", label=_("Roles"), run=roles_in_step, every=300))
    advice.tell("roles", "roles_differ", _ROLES_DIFFER)
    advice.tell("configuration", "policies_differ", _POLICIES_DIFFER)
    register(Check(name="clock", label=_("Clock"), run=clock, every=300, scope="host"))
    advice.tell("clock", "clock_differs", _CLOCK_DIFFERS)
    register(Check(name="backups", label=_("Backups"), run=backups_made, every=300, scope="host"))
    advice.tell("backups", "backup_overdue", _BACKUP_OVERDUE)
    register(Check(name="configuration", label=_("Configuration"), run=configuration, every=300))
