"""Tokens that work once, whoever else tries at the same moment, and digests that only the key's owner can make."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from hashlib import sha256
from typing import Any

import pytest
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.models.functions import Now
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from pytest_django.plugin import DjangoDbBlocker

from auditlog.models import Record
from config import keyed_hash, one_use
from config.models import OneUseToken
from tests.live import at_once

HOUR = timedelta(hours=1)


def refusal(purpose: str, text: Any) -> str:
    with pytest.raises(one_use.Invalid) as refused:
        one_use.redeem(purpose, text)
    return refused.value.code


# --- tokens -----------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_token_gives_its_payload_back_once() -> None:
    payload = {"task": 7, "words": ["ä", None]}
    token = one_use.make("share", payload, lasts=HOUR)
    assert len(token) == 43
    assert one_use.redeem("share", token) == payload
    assert refusal("share", token) == "used"


@pytest.mark.django_db
def test_no_two_tokens_are_alike_and_each_has_its_own_payload() -> None:
    tokens = {one_use.make("share", number, lasts=HOUR): number for number in range(3)}
    assert {token: one_use.redeem("share", token) for token in tokens} == {token: tokens[token] for token in tokens}


@pytest.mark.django_db
def test_a_token_of_another_purpose_is_unknown_and_stays_good() -> None:
    token = one_use.make("share", 7, lasts=HOUR)
    assert refusal("delete", token) == "unknown"
    OneUseToken.objects.update(purpose="delete")  # whoever writes to the table cannot turn one into another either
    assert refusal("delete", token) == "unknown"
    OneUseToken.objects.update(purpose="share")
    assert one_use.redeem("share", token) == 7


@pytest.mark.django_db
def test_a_token_ends_with_its_time_by_the_clock_of_the_database() -> None:
    token = one_use.make("share", 7, lasts=HOUR)
    OneUseToken.objects.update(expires_at=Now())  # exactly then is too late
    assert refusal("share", token) == "expired"
    OneUseToken.objects.update(expires_at=Now() + timedelta(seconds=5))
    assert one_use.redeem("share", token) == 7
    OneUseToken.objects.update(expires_at=Now() - HOUR)
    assert refusal("share", token) == "used"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text", ["", "x", "x" * 43, "x" * 5_000_000, "a\0b", "\udc80", "ä😀", "%s' --", None, 7, b"bytes", ["x"], {}]
)
def test_whatever_is_no_token_is_unknown(text: Any) -> None:
    assert refusal("share", text) == "unknown"


@pytest.mark.django_db
def test_a_token_outlives_a_change_of_the_secret_key() -> None:
    old, new = settings.SECRET_KEY, "new" * 20
    first, second = (one_use.make("share", 7, lasts=HOUR) for _ in range(2))
    with override_settings(SECRET_KEY=new, SECRET_KEY_FALLBACKS=["older" * 12, old]):
        assert one_use.redeem("share", first) == 7
    with override_settings(SECRET_KEY=new):
        assert refusal("share", second) == "unknown"


@pytest.mark.django_db
@pytest.mark.parametrize("payload", ["x" * 4096, "a\0b", "\udc80", object(), float("nan")])
def test_a_payload_is_small_and_json(payload: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        one_use.make("share", payload, lasts=HOUR)
    with pytest.raises(ValueError, match="has to last"):
        one_use.make("share", 7, lasts=timedelta())


@pytest.mark.django_db
def test_what_a_token_is_stands_in_no_table_statement_or_record() -> None:
    with CaptureQueriesContext(connection) as queries:
        token = one_use.make("share", 7, lasts=HOUR)
        one_use.redeem("share", token)
    assert len(queries) == 3
    assert token not in str([query["sql"] for query in queries])
    assert token not in str(OneUseToken.objects.values_list())
    assert not Record.objects.filter(resource="config.oneusetoken").exists()


@pytest.fixture
def committed(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """Real commits, cleared away by hand: it takes less than emptying all tables."""
    with django_db_blocker.unblock():
        yield
        OneUseToken.objects.all().delete()


@pytest.mark.usefixtures("committed")
def test_of_many_who_redeem_a_token_at_once_one_gets_it() -> None:
    token = one_use.make("share", 7, lasts=HOUR)

    def redeem() -> object:
        try:
            with transaction.atomic():
                return one_use.redeem("share", token)
        except one_use.Invalid as refused:
            return refused.code
        finally:
            connections.close_all()

    assert sorted(map(str, at_once([redeem] * 8))) == ["7", *["used"] * 7]


@pytest.mark.django_db
def test_a_token_is_redeemed_with_the_transaction_or_not_at_all() -> None:
    token = one_use.make("share", 7, lasts=HOUR)
    with suppress(ZeroDivisionError), transaction.atomic():
        assert one_use.redeem("share", token) == 7
        raise ZeroDivisionError
    assert one_use.redeem("share", token) == 7


# --- digests ----------------------------------------------------------------------------------------


def test_a_digest_is_an_hmac_with_a_key_of_its_purpose() -> None:
    key = sha256(f"config.keyed_hash names{settings.SECRET_KEY}".encode()).digest()
    assert keyed_hash.digest("names", "ada") == hmac.new(key, b"ada", "sha256").hexdigest()
    assert keyed_hash.digest("names", "ada") != keyed_hash.digest("phones", "ada")


def test_a_digest_matches_its_own_text_and_purpose_only() -> None:
    digest = keyed_hash.digest("names", "ada")
    assert keyed_hash.matches("names", "ada", digest)
    for other in (("names", "bob", digest), ("phones", "ada", digest), ("names", "ada", digest[:-1])):
        assert not keyed_hash.matches(*other)


@pytest.mark.parametrize("text", ["", "\0", "\udc80", "ä😀", "x" * 100_000])
def test_every_text_has_a_digest_and_no_text_is_one_by_chance(text: str) -> None:
    assert keyed_hash.matches("names", text, keyed_hash.digest("names", text))
    assert not keyed_hash.matches("names", "ada", text)


def test_a_digest_matches_under_former_keys_too() -> None:
    digest, old = keyed_hash.digest("names", "ada"), settings.SECRET_KEY
    with override_settings(SECRET_KEY="new" * 20):
        assert not keyed_hash.matches("names", "ada", digest)
    with override_settings(SECRET_KEY="new" * 20, SECRET_KEY_FALLBACKS=["older" * 12, old]):
        assert keyed_hash.matches("names", "ada", digest)
        assert keyed_hash.digests("names", "ada")[2] == digest
        assert keyed_hash.digest("names", "ada") == keyed_hash.digests("names", "ada")[0] != digest
