"""Every address under ``/health/`` answers within a second while the database is frozen or gone, and truly."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.live import Answer, Database, Site, in_parallel, own_database, running_site, wait_until

TOKEN = "a-token-of-the-monitoring"
OPERATOR = "a-token-of-the-operators"
LONGEST = 1.0  # seconds, by the wall clock
# What nobody can ask is not known to be bad.
EXPECTED = {
    "/health/": (503, "fail"),
    "/health/database": (503, "fail"),
    "/health/database/statistics": (503, "fail"),
    "/health/system?days=30": (503, "fail"),
    "/health/migrations": (200, "warn"),
}
ADDRESSES = list(EXPECTED)


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    with own_database() as database:
        yield database


@pytest.fixture(scope="module")
def site(database: Database) -> Iterator[Site]:
    digests = {
        "HEALTH_TOKEN_DIGESTS": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "HEALTH_OPERATOR_TOKEN_DIGESTS": hashlib.sha256(OPERATOR.encode()).hexdigest(),
    }
    with running_site(database.environment | digests) as site:
        yield site


def ask(site: Site, address: str) -> Answer:
    return site.browser(headers={"Authorization": f"Bearer {TOKEN}"}).get(address)


def open_page(site: Site, address: str) -> Answer:
    return site.browser(headers={"Authorization": f"Bearer {TOKEN}", "Accept": "text/html"}).get(address)


def is_well(site: Site) -> bool:
    return ask(site, "/health/").status == 200


def test_a_frozen_database_is_told_within_a_second_and_forgotten_as_fast(site: Site, database: Database) -> None:
    wait_until(lambda: is_well(site), "all is well")
    with database.frozen():
        time.sleep(1.5)  # what was known before is no longer served
        for _ in range(3):
            answers = in_parallel([partial(ask, site, address) for address in ADDRESSES * 4])
            assert max(answer.seconds for answer in answers) <= LONGEST
            for address, answer in zip(ADDRESSES * 4, answers, strict=True):
                facts = json.loads(answer.body)
                assert (answer.status, facts["status"]) == EXPECTED[address], address
        for answer in in_parallel([partial(open_page, site, address) for address in ADDRESSES]):
            assert answer.seconds <= LONGEST
            assert "<h1" in answer.body
        for headers in ({"Cookie": "sessionid=of-somebody"}, {"Authorization": f"Bearer {OPERATOR}"}):
            refused = site.browser(headers=headers).post("/health/cleanup", {})
            assert (refused.status, refused.headers["Retry-After"]) == (503, "5")
            assert refused.seconds <= 3
    wait_until(lambda: is_well(site), "all is well again", 2)


def test_a_database_that_is_gone_is_told_at_once(site: Site, database: Database) -> None:
    wait_until(lambda: is_well(site), "all is well")
    database.kill()
    time.sleep(1.5)  # within which each process has seen it
    for address in ADDRESSES:
        answer = ask(site, address)
        assert (answer.status, json.loads(answer.body)["status"]) == EXPECTED[address]
        assert answer.seconds <= LONGEST
    database.cluster.ensure_running()
    wait_until(lambda: is_well(site), "all is well again")
