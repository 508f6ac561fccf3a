"""One set-up for all tests of several hosts: it takes its time to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.several import Several, several_hosts


@pytest.fixture(scope="package")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    with several_hosts(tmp_path_factory.mktemp("hosts"), WEB_THREADS="16") as made:
        yield made
