"""One set-up for all tests of several hosts: it takes its time to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hosts.several import Several, several_hosts


@pytest.fixture(scope="package")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Several]:
    settings = {"WEB_THREADS": "16", "INVITATIONS_PER_DAY": "100000", "INVITATIONS_PER_DAY_OF_SITE": "100000"}
    with several_hosts(tmp_path_factory.mktemp("hosts"), **settings) as made:
        yield made
