from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from tests.rulezero.house import House, furnish


@pytest.fixture
def house(quiet: None, db: None, settings: Settings, tmp_path: Path) -> House:
    settings.MAIL_DIRECTORY = tmp_path
    return furnish(tmp_path)


@pytest.fixture
def quiet() -> Iterator[None]:
    """Write no log lines: tens of thousands of them, which pytest would keep, take half of the time."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)
