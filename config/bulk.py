"""Many rows at once, in batches: each a short transaction of its own, repeated when it met a fault that passes.

So a run may be interrupted anywhere, and what it had counted is done; no table is locked for long. The audit trail
has a record of each row, versions are counted and soft deletion is kept, because the database does the first two and
the model's own queryset the third.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from django.db import models, transaction
from django.db.models import QuerySet

from config.database import retry

BATCH = 500  # rows
Row = TypeVar("Row", bound=models.Model)
Tell = Callable[[int], object]  # how many rows are done so far, after each commit
Enough = Callable[[], bool]  # asked before each batch


def _untold(done: int) -> None: ...


def _never() -> bool:
    return False


def create(rows: Iterable[Row], *, tell: Tell = _untold, enough: Enough = _never) -> int:
    """Insert `rows`, all of one model, and return how many; an endless iterable is read a batch at a time.

    Raises what the database has against one of them, and then the batch that has it is not written. After a connection
    that was lost during a commit nobody knows whether the batch is there, so it is not tried again either.
    """
    done, left = 0, iter(rows)
    while not enough() and (batch := list(islice(left, BATCH))):
        manager = type(batch[0])._base_manager  # noqa: SLF001 - public, says Django's documentation
        insert = partial(manager.bulk_create, batch)  # a transaction of its own
        done += len(retry.run(insert, idempotent=False, patience=retry.BACKGROUND))
        tell(done)
    return done


def each(
    rows: QuerySet[Row],
    work: Callable[[QuerySet[Row]], int],
    *,
    idempotent: bool = True,
    tell: Tell = _untold,
    enough: Enough = _never,
) -> int:
    """Do `work` on all of `rows`, once on each, and return the sum of what it returns.

    `work` gets a batch that is locked, in the order of the keys. What came to be, or ceased to match, after its turn is
    left out. A batch whose commit was lost with the connection is done again unless `work` is not `idempotent`.
    """
    done = 0
    for batch in _batches(rows, work, idempotent, enough):
        done += batch
        tell(done)
    return done


def update(rows: QuerySet[Row], *, tell: Tell = _untold, enough: Enough = _never, **values: Any) -> int:
    """Set `values` (no expressions, which could count twice) on all of `rows`; return how many there were."""
    return each(rows, lambda batch: batch.update(**values), tell=tell, enough=enough)


def delete(rows: QuerySet[Row], *, tell: Tell = _untold, enough: Enough = _never) -> int:
    """Delete all of `rows`, softly if that is how their model goes; return how many, without what hung on them."""
    label = rows.model._meta.label
    return each(rows, lambda batch: batch.delete()[1].get(label, 0), tell=tell, enough=enough)


def restore(rows: QuerySet[Any], *, tell: Tell = _untold, enough: Enough = _never) -> int:
    """Bring back all of `rows` (of `all_objects`) that were deleted softly; return how many were."""
    return each(rows, lambda batch: batch.restore(), tell=tell, enough=enough)  # type: ignore[attr-defined]


def _batches(
    rows: QuerySet[Row], work: Callable[[QuerySet[Row]], int], idempotent: bool, enough: Enough
) -> Iterator[int]:
    last: Any = None
    while not enough():
        batch = partial(_work_on_batch, rows, last, work)
        last, done = retry.run(batch, idempotent=idempotent, patience=retry.BACKGROUND)
        if last is None:
            return
        yield done


def _work_on_batch(rows: QuerySet[Row], last: Any, work: Callable[[QuerySet[Row]], int]) -> tuple[Any, int]:
    """Return the key of the last row of the batch, None when there is none left, and what `work` made of it."""
    left = (rows if last is None else rows.filter(pk__gt=last)).order_by("pk").select_for_update(of=("self",))
    with transaction.atomic(using=left.db):  # where it is written: `rows` may be read from a replica
        keys = list(left.values_list("pk", flat=True)[:BATCH])
        return (keys[-1], work(rows.filter(pk__in=keys))) if keys else (None, 0)
