"""Counting for one test: beginning with nothing, in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from healthcheck.metrics.tallies import Tallies, tallies


@pytest.fixture
def counted() -> Iterator[Tallies]:
    """What this process counts."""
    tallies.keep_to_oneself()
    yield tallies
    tallies.keep_to_oneself()
