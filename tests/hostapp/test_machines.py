"""Virtual machines: which states follow which, what they measure, and that nobody spends what they have not got."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import product

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts import exporting, life_cycle, stats
from accounts.models import User
from auditlog.models import Record
from config import retention
from healthcheck.models import Figure
from healthcheck.registry import checks
from healthcheck.results import Status
from tests.factories import UserFactory
from tests.hostapp.machines import services
from tests.hostapp.machines.models import TRANSITIONS, Bill, Credit, Machine, Metric, Spending, State
from tests.live import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.hostapp.urls")]
committed = pytest.mark.django_db(transaction=True)


@pytest.fixture
def machine(owner: User) -> Machine:
    made: Machine = Machine.objects.create(owner=owner, name="web-1")
    return made


@pytest.fixture
def theirs(colleague: User) -> Machine:
    made: Machine = Machine.objects.create(owner=colleague, name="db-1")
    return made


def state(machine: Machine) -> str:
    return str(Machine.all_objects.values_list("state", flat=True).get(pk=machine.pk))


def refusal(action: Callable[[], object]) -> str:
    """The code with which it is refused, "" when it is not."""
    try:
        action()
    except ValidationError as refused:
        return str(refused.code)
    finally:
        if not connection.in_atomic_block:
            connection.close()  # of a thread that ends here
    return ""


# States


def test_every_state_is_followed_by_those_of_the_table_and_no_other(machine: Machine) -> None:
    for before, after in product(State.values, State.values):
        Machine.objects.filter(pk=machine.pk).update(state=before)
        code = refusal(partial(services.move, machine.owner, machine.pk, after))
        allowed = after in TRANSITIONS[before]
        assert (code, state(machine)) == (("", after) if allowed else ("illegal_transition", before))
    assert refusal(partial(services.move, machine.owner, machine.pk, "molten")) == "illegal_transition"
    moved = Figure.objects.get(name="machine_transitions", labels={"to": "failed"})
    assert moved.value == 3
    assert Record.objects.filter(resource="machines.machine", object_id=str(machine.pk), action="update").count() > 9


def test_nobody_moves_anothers_machine(browser: Client, machine: Machine, theirs: Machine) -> None:
    assert refusal(partial(services.move, machine.owner, theirs.pk, State.STARTING)) == "illegal_transition"
    assert browser.post(f"/host/machines/{theirs.pk}/move/", {"to": "starting"}).status_code == 404
    assert state(theirs) == State.STOPPED
    browser.post(f"/host/machines/{machine.pk}/move/", {"to": "starting"})
    browser.post(f"/host/machines/{machine.pk}/move/", {"to": "stopped"})
    page = browser.get("/host/machines/").content.decode()
    assert "web-1: starting" in page and "The machine cannot be stopped now." in page
    assert "db-1" not in page


@committed
def test_of_two_who_move_a_machine_at_once_one_wins() -> None:
    machine = Machine.objects.create(owner=UserFactory.create(), name="web-1", state=State.RUNNING)
    running = Record.objects.filter(resource="machines.machine", action="update", old__state=State.RUNNING)
    for turn in range(5):
        Machine.objects.filter(pk=machine.pk).update(state=State.RUNNING)
        moves = [partial(services.move, machine.owner, machine.pk, to) for to in (State.STOPPING, State.FAILED) * 3]
        codes = at_once([partial(refusal, move) for move in moves])
        assert 1 <= codes.count("") < 6  # stopping and failed may follow each other, but nothing follows itself
        assert running.count() == turn + 1


# Metrics


def test_metrics_are_appended_in_bulk_kept_for_60_days_and_leave_no_record(machine: Machine) -> None:
    now = timezone.now()
    ages = [timedelta(minutes=number) for number in range(1200)] + [timedelta(days=60, minutes=-1)]
    old = [timedelta(days=60, minutes=number) for number in range(1, 4)]
    metrics = (Metric(machine=machine, at=now - age, processor=0.5, memory=0.25) for age in ages + old)
    assert services.measured(metrics) == 1204
    assert retention.summary(retention.clean_up([retention.rules()["machine_metrics"]])) == {"machine_metrics": 3}
    assert Metric.objects.count() == 1201
    assert not Record.objects.filter(resource="machines.metric").exists()


# Credits


def balance(owner: User) -> Decimal:
    return Decimal(Credit.objects.get(owner=owner).balance)


def test_credits_are_bought_and_spent_once_for_each_key(machine: Machine, theirs: Machine) -> None:
    owner = machine.owner
    assert refusal(lambda: services.charge(machine, Decimal(1), key="too early")) == "credits_short"
    for _time in range(2):
        services.buy(owner, Decimal("10.50"), key="order 1")
        services.charge(machine, Decimal("3.25"), key="hour 1")
    assert refusal(lambda: services.charge(machine, Decimal("7.26"), key="hour 2")) == "credits_short"
    assert balance(owner) == Decimal("7.25")
    services.charge(machine, Decimal("7.25"), key="hour 2")  # a key that was refused has not been used
    assert balance(owner) == 0
    (spent,) = Spending.objects.filter(owner=owner)
    assert (spent.bought, spent.spent) == (Decimal("10.50"), Decimal("10.50"))
    assert spent.month == timezone.now().date().replace(day=1)
    assert refusal(lambda: services.charge(theirs, Decimal(1), key="hour 1")) == "credits_short"
    assert not Bill.objects.of(theirs.owner).exists()
    with pytest.raises(IntegrityError), transaction.atomic():
        Credit.objects.filter(owner=owner).update(balance=-1)


@committed
def test_charges_at_once_never_spend_more_than_there_is() -> None:
    machine = Machine.objects.create(owner=UserFactory.create(), name="web-1")
    services.buy(machine.owner, Decimal(5), key="order")
    charges = [partial(services.charge, machine, Decimal(1), key=f"hour {number // 2}") for number in range(16)]
    codes = at_once([partial(refusal, charge) for charge in charges])  # eight hours, each charged twice
    assert balance(machine.owner) == 0
    assert Bill.objects.filter(amount=-1).count() == 5
    assert codes.count("credits_short") == 6  # three hours, both times


# What it joins


def test_a_copy_holds_them_and_an_erasure_leaves_the_books(machine: Machine, theirs: Machine) -> None:
    owner = machine.owner
    services.buy(owner, Decimal(2), key="order")
    services.charge(machine, Decimal(1), key="hour")
    copy = exporting._parts["machines"](owner)
    assert [one["name"] for one in copy["machines"]] == ["web-1"]
    assert (copy["credits"], [bill["key"] for bill in copy["bills"]]) == ([1], ["hour", "order"])
    life_cycle.erase(owner, acting_user=None)
    assert list(Machine.all_objects.all()) == [theirs]
    assert [(bill.key, bill.machine) for bill in Bill.objects.order_by("id")] == [("order", None), ("hour", None)]
    trail = repr(
        [(one.object_label, one.before, one.after) for one in Record.objects.filter(resource="machines.machine")]
    )
    assert "db-1" in trail and "web-1" not in trail


def test_health_and_statistics_look_at_machines(machine: Machine) -> None:
    look = checks()["machines"].run
    assert (look().status, look().value) == (Status.PASS, 0)
    failed = [Machine(owner=machine.owner, name=f"{number}", state=State.FAILED) for number in range(10)]
    Machine.objects.bulk_create(failed)
    assert (look().status, look().code, look().value) == (Status.WARN, "machines_failed", 10)
    assert {one.name: one.value for one in stats.take(["machines"])["machines"]} == {"running": 0, "failed": 10}
