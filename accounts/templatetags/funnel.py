"""The funnel of invitations as inline SVG, with the same numbers in a table behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import template
from django.utils.formats import number_format

from accounts.funnel import LABELS, Stages

register = template.Library()
WIDTH, HEIGHT = 1000, 28  # of a bar's ground, in its own units; it stretches to the width of the page
LEAST_SEEN = 4  # units: a single one of thousands must be seen
STEPS = ("made", "sent", "opened", "accepted")
UNUSED = ("waiting", "expired", "revoked")


@dataclass(frozen=True)
class Bar:
    """One step, in the middle of its ground; `share` is of those made."""

    name: str
    label: Any
    count: int
    share: float | None
    x: int
    width: int


@register.inclusion_tag("accounts/plots/funnel.html")
def funnel_plot(stages: Stages) -> dict[str, Any]:
    """Draw how many invitations came how far, and what became of those that let nobody in."""
    return {
        "parts": [("steps", bars(stages, STEPS)), ("unused", bars(stages, UNUSED))],
        "view": f"0 0 {WIDTH} {HEIGHT}",
        "width": WIDTH,
        "height": HEIGHT,
        "people": stages.people,
    }


def bars(stages: Stages, names: tuple[str, ...]) -> list[Bar]:
    drawn = []
    for name in names:
        count = getattr(stages, name)
        share = count / stages.made if stages.made else None
        width = max(LEAST_SEEN, round((share or 0) * WIDTH)) if count else 0
        drawn.append(Bar(name, LABELS[name], count, share, (WIDTH - width) // 2, width))
    return drawn


@register.filter
def percent(share: float | None) -> str:
    """``12 %``, with a digit more below ten; a dash for nothing."""
    if share is None:
        return "–"
    text = f"{100 * share:.0f}" if share in (0, 1) or share >= 0.1 else f"{100 * share:.1f}"
    return f"{number_format(text)} %"
