"""What this app tells a person of their machines, and how it forgets them."""

from __future__ import annotations

from typing import Any

from accounts.exporting import MOST_ROWS
from accounts.models import User
from tests.hostapp.machines.models import Bill, Credit, Machine


def facts_about(person: User) -> dict[str, Any]:
    """For the copy of all that is kept about `person`."""
    return {
        "machines": list(Machine.all_objects.of(person).values("name", "state", "price", "deleted_at")[:MOST_ROWS]),
        "credits": list(Credit.objects.of(person).values_list("balance", flat=True)),
        "bills": list(Bill.objects.of(person).order_by("-at").values("at", "key", "amount")[:MOST_ROWS]),
    }


def forget(person: User) -> list[Machine]:
    """Delete the machines of an erased person. The bills stay, for the books: they name nobody."""
    theirs = list(Machine.all_objects.of(person))
    Machine.all_objects.of(person).erase()
    return theirs
