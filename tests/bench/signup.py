"""What a signup costs: against the bare hash that it must compute, in statements, and by the clock."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from statistics import median
from threading import Barrier

from django.contrib.auth.hashers import make_password
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import services
from accounts.forms import SignUpForm
from tests.bench.figures import Figure
from tests.live import PASSWORD, SIGNUP

THREADS = os.cpu_count() or 1
TURNS = 6  # of each thread in one round: a second or two, so that the ends weigh little
LEAST_RATIO = 0.90  # signups per second to bare hashes per second
MOST_STATEMENTS = 8
_numbers = count()
_BOUNDARY = re.compile(r"BEGIN|COMMIT|ROLLBACK|SAVEPOINT|RELEASE SAVEPOINT")


def throughput(rounds: int) -> list[Figure]:
    """Signups against bare hashes, round about, in the same threads; the ratio is of neighbouring rounds."""
    signups, hashes = [], []
    with ThreadPoolExecutor(THREADS) as threads:
        for act in (sign_up, bare_hash):
            _per_second(threads, act, turns=1)  # opens the threads' connections, fills caches
        for _round in range(rounds):
            hashes.append(_per_second(threads, bare_hash))
            signups.append(_per_second(threads, sign_up))
        _per_second(threads, connections.close_all, turns=1)
    ratios = [made / possible for made, possible in zip(signups, hashes, strict=True)]
    return [
        Figure(f"bare hashes, {THREADS} threads", median(hashes), "1/s"),
        Figure(f"signups by form and service, {THREADS} threads", median(signups), "1/s"),
        Figure("signups to bare hashes", median(ratios), digits=3, at_least=LEAST_RATIO),
    ]


def _per_second(threads: ThreadPoolExecutor, act: Callable[[], None], turns: int = TURNS) -> float:
    start = Barrier(THREADS + 1)

    def take_turns() -> None:
        start.wait()
        for _turn in range(turns):
            act()

    running = [threads.submit(take_turns) for _thread in range(THREADS)]
    start.wait()
    begun = time.perf_counter()
    for each in running:
        each.result()
    return THREADS * turns / (time.perf_counter() - begun)


def bare_hash() -> None:
    make_password(PASSWORD)


def sign_up() -> None:
    """What the view does with a new visitor's form."""
    form = SignUpForm(_new_fields(), browser=secrets.token_hex())
    assert form.is_valid(), form.errors
    assert services.sign_up(form.signup()) is services.SignUpOutcome.CREATED


def _new_fields(email: str = "") -> dict[str, str]:
    name = f"visitor-{next(_numbers)}"
    return {"username": name, "email": email or f"{name}@example.com", "password": PASSWORD}


def statements() -> list[Figure]:
    """SQL statements of one signup through the whole page, middleware included."""
    _post(_new_fields())  # what happens once per process
    with CaptureQueriesContext(connection) as captured:
        _post(_new_fields())
    assert captured.captured_queries, "nothing was captured"
    kinds = Counter(bool(_BOUNDARY.match(query["sql"])) for query in captured.captured_queries)
    return [
        Figure("statements per signup", kinds[False], digits=0, at_most=MOST_STATEMENTS),
        Figure("and BEGIN, COMMIT, SAVEPOINT", kinds[True], digits=0),
    ]


def answer_times(pairs: int) -> list[Figure]:
    """The page's answer for a new and for a known address, by turns, from one thread."""
    known_address = "known@example.com"
    _post(_new_fields(known_address))
    new, known = [], []
    for _pair in range(pairs):
        new.append(_post(_new_fields()))
        known.append(_post(_new_fields(known_address)))
    difference = 100 * (median(known) / median(new) - 1)
    return [
        Figure("answer for a new address, median", 1000 * median(new), "ms", digits=1),
        Figure("answer for a known address, median", 1000 * median(known), "ms", digits=1),
        Figure("known against new", difference, "%", digits=1),
    ]


def _post(fields: dict[str, str]) -> float:
    """Post the form as somebody without cookies; the seconds until the answer."""
    client = Client()
    begun = time.perf_counter()
    answer = client.post(SIGNUP, fields)
    took = time.perf_counter() - begun
    assert answer.status_code == 303, answer.content
    return took
