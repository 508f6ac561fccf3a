"""A burst of guesses never computes more hashes at once than is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from django.conf import settings
from django.contrib.auth.hashers import BasePasswordHasher

from accounts import hashers

KINDS: list[type[BasePasswordHasher]] = [hashers.BcryptHasher, hashers.Argon2idHasher, hashers.ScryptHasher]


@pytest.fixture
def all_slots_taken() -> Iterator[None]:
    """As many hashes as are allowed are being computed, by others."""
    for _slot in range(settings.PASSWORD_HASHES_AT_ONCE):
        assert hashers._slots.acquire(blocking=False)
    yield
    for _slot in range(settings.PASSWORD_HASHES_AT_ONCE - 1):
        hashers._slots.release()


def waits_for_a_slot(work: Callable[[], object]) -> bool:
    """Whether `work` does nothing until a slot is free, and then ends."""
    worker = Thread(target=work, daemon=True)
    worker.start()
    worker.join(0.3)
    waited = worker.is_alive()
    hashers._slots.release()
    worker.join(10)
    return waited and not worker.is_alive()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("all_slots_taken")
def test_making_a_hash_waits_for_its_turn(kind: type[BasePasswordHasher]) -> None:
    hasher = kind()
    assert waits_for_a_slot(lambda: hasher.encode("password", hasher.salt()))


@pytest.mark.parametrize("kind", KINDS)
def test_checking_a_hash_waits_for_its_turn(kind: type[BasePasswordHasher], request: pytest.FixtureRequest) -> None:
    hasher = kind()
    encoded = hasher.encode("password", hasher.salt())
    request.getfixturevalue("all_slots_taken")
    assert waits_for_a_slot(lambda: hasher.verify("password", encoded))


def test_a_failed_hash_gives_its_slot_back() -> None:
    for _try in range(settings.PASSWORD_HASHES_AT_ONCE + 1):
        with pytest.raises(UnicodeEncodeError):
            hashers.BcryptHasher().encode("\ud800", hashers.BcryptHasher().salt())
    assert hashers._slots.acquire(timeout=1)
    hashers._slots.release()
