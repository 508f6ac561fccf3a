"""The figures of `stats` as text: two columns where there is room, and a chart of what has a number for each day."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

from accounts import stats
from accounts.stats import Figure

GAP = 4  # between two columns
NARROWEST, WIDEST = 32, 100  # of a line
ROWS = 3  # of a chart
_PERIOD = 8  # characters for a number of one period
_TITLES = {"today": "today", "days_7": "7 days", "days_30": "30 days"}
_BLOCKS = " ▁▂▃▄▅▆▇█"
_PLAIN = str.maketrans({**dict(zip("▁▂▃▄▅▆▇█─", "..::||##-", strict=True)), "±": "~", "–": "-"})
Paint = Callable[[str], str]


@dataclass(frozen=True)
class _Block:
    """Lines of one section; `wide` ones take the whole width."""

    lines: list[str]
    wide: bool = False


def as_text(
    taken: Mapping[str, Sequence[Figure]], at: datetime, *, width: int = 80, plain: bool = False, paint: Paint = str
) -> list[str]:
    """Return lines of at most `width` characters; `plain` ones hold ASCII only. `paint` colours whole titles."""
    room, width = width, max(NARROWEST, min(width, WIDEST))
    column = (width - GAP) // 2 if width >= 2 * NARROWEST + GAP else width
    sections = stats.sections()
    titles = set()
    blocks: list[_Block] = []
    for name, figures in taken.items():
        title = str(sections[name].label).upper()
        titles.add(title)
        blocks += _blocks(title, figures, column, width)
    time = f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    lines = [f"Gatehouse {time:>{width - 10}}", "─" * width, *_laid_out(blocks, column, width), *_notes(taken, width)]
    if plain:
        lines = [line.translate(_PLAIN).encode("ascii", "replace").decode() for line in lines]
    return [_painted(line[:room], titles, paint) for line in lines]


def _painted(line: str, titles: set[str], paint: Paint) -> str:
    for title in titles:
        if line.startswith(title):
            line = paint(title) + line[len(title) :]
        elif f"{' ' * GAP}{title}" in line:
            before, _title, after = line.partition(title)
            line = before + paint(title) + after
    return line


# Sections


def _blocks(title: str, figures: Sequence[Figure], column: int, width: int) -> Iterator[_Block]:
    charts = [figure for figure in figures if _is_per_day(figure)]
    others = [figure for figure in figures if not _is_per_day(figure)]
    for figure in charts:
        yield _Block(_chart(f"{title} {figure.label}", figure, width), wide=True)
    if others or not charts:
        yield _Block(list(_table(title, others, column)))


def _is_per_day(figure: Figure) -> bool:
    return isinstance(figure.value, Mapping) and not _is_over_periods(figure)


def _is_over_periods(figure: Figure) -> bool:
    return isinstance(figure.value, Mapping) and set(figure.value) == set(stats.PERIODS)


def _table(title: str, figures: Sequence[Figure], column: int) -> Iterator[str]:
    single = [figure for figure in figures if not _is_over_periods(figure)]
    over_periods = [figure for figure in figures if _is_over_periods(figure)]
    heading = "".join(f"{_TITLES[name]:>{_PERIOD}}" for name in stats.PERIODS)
    fits = over_periods and not single and len(title) + len(heading) < column
    yield f"{title}{heading:>{column - len(title)}}" if fits else title
    yield from (_line(figure, column) for figure in single)
    if over_periods and not fits:
        yield f"{heading:>{column}}"
    yield from (_line(figure, column) for figure in over_periods)
    if not figures:
        yield "nothing yet"


def _line(figure: Figure, column: int) -> str:
    number = _numbers(figure)
    label = str(figure.label)
    room = column - len(number) - 1
    return f"{label if len(label) <= room else label[: room - 1] + '…':<{room}} {number}"


def _numbers(figure: Figure) -> str:
    value = figure.value
    if isinstance(value, Mapping):
        return "".join(f"{_short(value[name]):>{_PERIOD}}" for name in stats.PERIODS)  # type: ignore[index]
    text = _share(value) if figure.is_share else f"{value:,.0f}"
    if not figure.estimated:
        return text
    if figure.margin is None:
        return f"about {text}"
    return f"{text} ±{_share(figure.margin) if figure.is_share else f'{figure.margin:,.0f}'}"


def _short(number: float) -> str:
    return f"{number:,}" if number < 1_000_000 else f"{number / 1_000_000:.4g} M"


def _share(share: float) -> str:
    return f"{100 * share:.1f} %"


# Charts


def _chart(heading: str, figure: Figure, width: int) -> list[str]:
    days: Mapping[date, int] = figure.value  # type: ignore[assignment]
    highest = max(days.values())
    if not highest:
        return [heading, f"none in {len(days)} days"]
    legend = f"{sum(days.values()):,} in {len(days)} days, at most {highest:,}"
    wide = max(1, width // len(days))  # of a day
    first, last = f"{min(days):%-d %b}", f"{max(days):%-d %b}"
    rows = ["".join(_cell(count, highest, row) * wide for count in days.values()).rstrip() for row in range(ROWS)]
    ends = f"{first}{last:>{max(1, wide * len(days) - len(first))}}"
    above = [f"{heading}{legend:>{width - len(heading)}}"] if len(heading) + len(legend) < width else [heading, legend]
    return [*above, *reversed(rows), ends]


def _cell(count: int, highest: int, row: int) -> str:
    """The part of a day's bar that lies in `row`, counted from below; a day with any is never empty."""
    if not count:
        return " "
    eighths = max(1, round(count / highest * 8 * ROWS)) - 8 * row
    return _BLOCKS[max(0, min(8, eighths))]


# The page


def _laid_out(blocks: Sequence[_Block], column: int, width: int) -> Iterator[str]:
    for block in blocks:
        if block.wide:
            yield from ("", *block.lines)
    yield from _in_columns([block for block in blocks if not block.wide], column, width)


def _in_columns(blocks: Sequence[_Block], column: int, width: int) -> Iterator[str]:
    """Put each block under the shorter column."""
    columns: list[list[str]] = [[], []] if column < width else [[]]
    for block in blocks:
        shortest = min(columns, key=len)
        shortest += ["", *block.lines]
    for place in range(max(len(lines) for lines in columns)):
        cells = [lines[place] if place < len(lines) else "" for lines in columns]
        yield (" " * GAP).join(f"{cell:<{column}}" for cell in cells).rstrip()


def _notes(taken: Mapping[str, Sequence[Figure]], width: int) -> Iterator[str]:
    if any(figure.estimated for figures in taken.values() for figure in figures):
        note = "± estimated from a sample of the table, right in 95 of 100 cases."
        yield from ("", note[:width])
