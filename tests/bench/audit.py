"""What it costs to be audited: each write of a model with thirteen fields against the same write of its twin.

The two are done by turns, so that whatever else the machine does meets both; the ratio is of the medians. Every
operation is one transaction, on behalf of a signed-in user with an address, a browser and a request id.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any

from django.db import transaction
from django.test import RequestFactory

from accounts.models import User
from auditlog.context import Context, in_context
from tests.bench.figures import Figure
from tests.factories import PASSWORD
from tests.hostapp.models import Tag, Thing, UnauditedThing

Model = type[Thing] | type[UnauditedThing]
MANY = 1000
_numbers = count(1)


@dataclass(frozen=True)
class Operation:
    """`prepare` makes what `act` then changes, for each turn anew unless it can be changed again; `act` is timed."""

    name: str
    goal: float | None
    prepare: Callable[[Model], Any]
    act: Callable[[Model, Any], object]
    turns: int
    again: bool = False


def _nothing(model: Model) -> None:
    return None


def _one(model: Model) -> Any:
    return model.objects.create(name=f"one {next(_numbers)}")


def _unsaved(model: Model) -> list[Any]:
    return [model(name=f"one of many {number}") for number in range(MANY)]


def _many(model: Model) -> list[Any]:
    model.objects.all().delete()
    return model.objects.bulk_create(_unsaved(model))


def _with_single_saves(model: Model) -> list[Any]:
    made = _many(model)
    for thing in made[:10]:
        _save_one_field(model, thing)
    return made


def _create(model: Model, _nothing: None) -> None:
    model.objects.create(name="new")


def _save_one_field(model: Model, thing: Any) -> None:
    thing.number = next(_numbers)
    thing.save(update_fields=["number"])


def _get_and_save(model: Model, thing: Any) -> None:
    found = model.objects.get(pk=thing.pk)
    found.number = next(_numbers)
    found.save()


def _save_ten_times(model: Model, thing: Any) -> None:
    for _time in range(10):
        thing.number = next(_numbers)
        thing.save()


def _bulk_update(model: Model, things: list[Any]) -> None:
    for thing in things:
        thing.number = next(_numbers)
    model.objects.bulk_update(things, ["number"])


def _operations(turns: int) -> list[Operation]:
    (tag,) = Tag.objects.bulk_create([Tag(name=f"tag {next(_numbers)}")])
    few = max(turns // 20, 9)
    return [
        Operation("create", 1.5, _nothing, _create, turns),
        Operation("save of one field", 1.6, _one, _save_one_field, turns, again=True),
        Operation("get and save", 1.35, _one, _get_and_save, turns, again=True),
        Operation("ten saves in one transaction", 1.25, _one, _save_ten_times, turns, again=True),
        Operation("delete", 1.45, _one, lambda _model, thing: thing.delete(), turns),
        Operation("many-to-many add", 1.5, _one, lambda _model, thing: thing.tags.add(tag), turns),
        Operation("update() of 1,000 rows", 2.0, _many, _update, few, again=True),
        Operation("the same after single saves", 2.0, _with_single_saves, _update, few, again=True),
        Operation("the same without a filter", None, _many, _update_all, few, again=True),
        Operation("bulk_create of 1,000", 1.3, _unsaved, lambda model, things: model.objects.bulk_create(things), few),
        Operation("bulk_update of 1,000", 1.1, _many, _bulk_update, few, again=True),
        Operation("queryset delete of 1,000", 1.4, _many, lambda model, _things: model.objects.all().delete(), few),
        Operation("reading", None, _one, lambda model, thing: model.objects.get(pk=thing.pk), turns, again=True),
    ]


def _update(model: Model, things: list[Any]) -> None:
    model.objects.filter(pk__in=[thing.pk for thing in things]).update(number=next(_numbers))


def _update_all(model: Model, _things: list[Any]) -> None:
    model.objects.update(number=next(_numbers))


def write_ratios(turns: int) -> list[Figure]:
    """Each operation audited, as a multiple of the same one unaudited."""
    user = User.objects.create_superuser("auditor", "auditor@example.com", PASSWORD)
    request = RequestFactory().get("/", REMOTE_ADDR="203.0.113.9", headers={"User-Agent": "Mozilla/5.0 (X11; Linux)"})
    request.user = user
    request.request_id = "0123456789abcdef0123456789abcdef"  # type: ignore[attr-defined]
    with in_context(Context(request=request)):
        return [_ratio(operation) for operation in _operations(turns)]


def _ratio(operation: Operation) -> Figure:
    models: tuple[Model, Model] = (Thing, UnauditedThing)
    for model in models:
        model.objects.all().delete()
        _time(operation, model, operation.prepare(model))
    kept = {model: operation.prepare(model) for model in models if operation.again}
    took: dict[Model, list[float]] = {model: [] for model in models}
    for turn in range(operation.turns):
        for model in models if turn % 2 else reversed(models):
            prepared = kept[model] if operation.again else operation.prepare(model)
            took[model].append(_time(operation, model, prepared))
    ratio = median(took[Thing]) / median(took[UnauditedThing])
    return Figure(f"audited: {operation.name}", ratio, at_most=operation.goal)


def _time(operation: Operation, model: Model, prepared: Any) -> float:
    gc.disable()
    try:
        begun = time.perf_counter()
        with transaction.atomic():
            operation.act(model, prepared)
        return time.perf_counter() - begun
    finally:
        gc.enable()
