from __future__ import annotations

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from tests.rulezero.house import House, furnish


@pytest.fixture
def house(db: None, settings: Settings, tmp_path: Path) -> House:
    settings.MAIL_DIRECTORY = tmp_path
    return furnish(tmp_path)
