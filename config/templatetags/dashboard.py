"""The plots of the console's first page: bars, with the same numbers in a table behind them."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.formats import number_format
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from config.dashboard import Number, Panel, Steps

register = template.Library()
WIDTH, GAP, HEIGHT = 10, 2, 100  # of a bar, in the drawing's own units; it stretches to the width of the page
LEAST_SEEN = 3  # units: a single one beside thousands must be seen


@register.inclusion_tag("config/dashboard/bars.html")
def bars(panel: Panel, number: Number) -> dict[str, Any]:
    """Draw the steps of a number of `panel`, from nothing to the highest of them."""
    top = max(count or 0 for count in number.steps)
    return {
        "panel": panel,
        "number": number,
        "top": top,
        "view": f"0 0 {len(number.steps) * WIDTH - GAP} {HEIGHT}",
        "path": _path(number.steps, top),
    }


@register.filter
def cells(counts: Steps) -> SafeString:
    """A row of the table; hundreds of them by tags of a template would take as long as the database does."""
    return format_html_join("", "<td>{}</td>", ((_written(count),) for count in counts))


def _written(count: int | None) -> str:
    return "–" if count is None else number_format(count, force_grouping=True)


def _path(steps: Steps, top: int) -> str:
    """One for all bars, which makes the page much lighter."""
    return "".join(
        f"M{place * WIDTH} {HEIGHT}v-{_height(count, top)}h{WIDTH - GAP}V{HEIGHT}z"
        for place, count in enumerate(steps)
        if count
    )


def _height(count: int, top: int) -> int:
    return max(LEAST_SEEN, round(count / top * HEIGHT))
