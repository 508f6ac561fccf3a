"""A progress bar for commands: on a terminal a line that is wiped away at the end, in a pipe nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BAR = 40  # characters
WIPE = "\r\033[K"
Tell = Callable[[str, int, int], None]  # what is done now, how much of it, of how much


def silent(what: str, done: int, of: int) -> None:
    """For whoever nobody looks at."""


@contextmanager
def progress_bar() -> Iterator[Tell]:
    """Yield what is to be told: a bar on a terminal, `silent` in a pipe."""
    if not sys.stderr.isatty():
        yield silent
        return

    def show(what: str, done: int, of: int) -> None:
        share = min(1.0, done / max(1, of))
        sys.stderr.write(f"{WIPE}{what:<10} [{'#' * round(BAR * share):<{BAR}}] {share:4.0%}")
        sys.stderr.flush()

    try:
        yield show
    finally:
        sys.stderr.write(WIPE)
        sys.stderr.flush()
