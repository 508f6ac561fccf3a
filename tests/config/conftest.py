from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest


class Lines(list[str]):
    """The lines that the root handler has written so far."""

    def __init__(self, stream: io.StringIO) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[str]:
        return iter(self.stream.getvalue().splitlines())

    def __len__(self) -> int:
        return len(self.stream.getvalue().splitlines())


@pytest.fixture
def log_lines() -> Iterator[Lines]:
    """Catch what the project's own handler and formatter would write to standard error."""
    (handler,) = [
        handler
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and type(handler.formatter).__name__ == "ProcessorFormatter"
    ]
    stream = io.StringIO()
    before = handler.setStream(stream)
    yield Lines(stream)
    handler.setStream(before or handler.stream)
