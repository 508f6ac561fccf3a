"""A measured number, with its goal if it has one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`digits` is for the table; the goal is a bound that `value` itself must keep, unrounded."""

    name: str
    value: float
    unit: str = ""
    digits: int = 2
    at_least: float | None = None
    at_most: float | None = None

    @property
    def missed(self) -> bool:
        too_low = self.at_least is not None and self.value < self.at_least
        return too_low or (self.at_most is not None and self.value > self.at_most)

    @property
    def goal(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""


def as_facts(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    return [
        {
            "name": figure.name,
            "value": round(figure.value, 6),
            "unit": figure.unit,
            "goal": figure.goal or None,
            "met": not figure.missed if figure.goal else None,
        }
        for figure in figures
    ]


def as_table(figures: Sequence[Figure]) -> str:
    width = max(len(figure.name) for figure in figures)
    lines = [f"{'':<{width}}  {'measured':>9}  {'unit':<5}  {'goal':<7}"]
    for figure in figures:
        verdict = "" if not figure.goal else "missed" if figure.missed else "met"
        number = f"{figure.value:.{figure.digits}f}"
        lines.append(f"{figure.name:<{width}}  {number:>9}  {figure.unit:<5}  {figure.goal:<7}  {verdict}".rstrip())
    return "\n".join(lines) + "\n"
