"""Joins the operations of `healthcheck` to the rest: clean-up is one of them, and all of them are audited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext_lazy as _

import auditlog
from accounts import life_cycle
from accounts.models import User
from auditlog import Actor, describing
from config import retention
from healthcheck import operations
from healthcheck.models import Run
from healthcheck.operations import Failed, Operation, Progress
from healthcheck.signals import operation_asked, operation_ended


def join() -> None:
    operations.register(
        Operation(
            name="cleanup",
            label=_("Clean up old data"),
            permission="healthcheck.run_cleanup",
            run=_clean_up,
        )
    )
    operation_asked.connect(_record_asked, dispatch_uid="config.operation_asked")
    operation_ended.connect(_record_ended, dispatch_uid="config.operation_ended")
    life_cycle.on_erasure(_forget_who_asked)
    describing.name_actions(
        {"ask_operation": _("asked for an operation"), "end_operation": _("had an operation carried out")}
    )


def _clean_up(progress: Progress, arguments: Mapping[str, Any]) -> dict[str, Any]:
    rules, outcomes = retention.rules(), []
    for number, rule in enumerate(rules.values()):
        progress(number, len(rules), rule.name)
        outcomes += retention.clean_up([rule])
    result = {"deleted": retention.summary(outcomes)}
    if failed := [outcome.rule.name for outcome in outcomes if outcome.error]:
        raise Failed("incomplete", result | {"failed": failed})
    return result


def _record_asked(sender: type[Run], run: Run, **kwargs: Any) -> None:
    with auditlog.acting_as(_who_asked(run)):
        auditlog.record("ask_operation", run, label=run.operation, new=run.arguments or None)


def _record_ended(sender: type[Run], run: Run, **kwargs: Any) -> None:
    facts = {"state": run.state, "code": run.code or None, **run.result}
    with auditlog.acting_as(_who_asked(run)):
        auditlog.record(
            "end_operation", run, label=run.operation, new=facts, clear=retention.rules()
        )  # `sessions` is no secret


def _forget_who_asked(person: User) -> list[Run]:
    """The trail calls an operation by its own name, so of that nothing has to go."""
    Run.objects.filter(asked_by_kind="user", asked_by_id=str(person.pk)).update(asked_by_label="")
    return []


def _who_asked(run: Run) -> Actor:
    return Actor(run.asked_by_kind, run.asked_by_id or None, run.asked_by_label)
