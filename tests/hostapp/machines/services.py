"""What can happen to machines and credits. Refusals are ValidationErrors with a code."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from accounts.models import User
from config import bulk
from config.database import retry
from healthcheck.metrics import figures
from healthcheck.metrics.figures import labelled
from tests.hostapp.machines.models import TRANSITIONS, Bill, Credit, Machine, Metric


@transaction.atomic
def move(owner: User, machine_id: int, to: str) -> None:
    """Let a machine of `owner` be in the state `to`. Raises ValidationError (``illegal_transition``).

    The condition is in the UPDATE: of two who want different things at the same moment, the second waits for the first
    and is then refused, or not, by what the first has made of it.
    """
    before = [state for state, following in TRANSITIONS.items() if to in following]
    if not Machine.objects.of(owner).filter(pk=machine_id, state__in=before).update(state=to):
        raise ValidationError(_("The machine cannot be %(to)s now."), "illegal_transition", {"to": to})
    figures.increase({("machine_transitions", labelled(to=to)): 1})


def measured(metrics: Iterable[Metric]) -> int:
    """Append what machines have measured; returns how many metrics there were."""
    return bulk.create(metrics)


def buy(owner: User, amount: Decimal, *, key: str) -> Bill:
    """Give `owner` credits, once for each `key`."""
    return _book(owner, amount, key, None)


def charge(machine: Machine, amount: Decimal, *, key: str) -> Bill:
    """Take credits from the owner of `machine`, once for each `key`. Raises ValidationError (``credits_short``)."""
    return _book(machine.owner, -amount, key, machine)


def _book(owner: User, amount: Decimal, key: str, machine: Machine | None) -> Bill:
    """Safe to repeat: the key tells whether a commit whose answer was lost took place."""

    @transaction.atomic
    def book() -> Bill:
        bill: Bill
        bill, is_new = Bill.objects.get_or_create(owner=owner, key=key, defaults={"amount": amount, "machine": machine})
        if is_new:
            Credit.objects.get_or_create(owner=owner)
            # Of two charges at once the second waits here, and then looks at what the first has left.
            if not Credit.objects.filter(owner=owner, balance__gte=-amount).update(balance=F("balance") + amount):
                raise ValidationError(_("There are not enough credits."), "credits_short")
        return bill

    return retry.run(book, idempotent=True)
