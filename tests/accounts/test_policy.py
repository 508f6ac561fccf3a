"""The judge of passwords: the same answer at every door, and a generator that it never refuses."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.test import RequestFactory

from accounts import meter, policy
from accounts.forms import ChoosePasswordForm
from accounts.models import User
from accounts.password_views import password_meter
from tests.accounts.corpus import corpus
from tests.accounts.test_passwords import nist, nist_validators  # noqa: F401 - fixtures
from tests.factories import PASSWORD

SHARDS = 4  # which run side by side
OWNER = {"username": "owner", "email": "owner@example.com", "full_name": "Olivia Owner"}


def body_of(password: str, *names: str, **more: str) -> bytes:
    """What a browser sends, also of what is no text."""
    return urlencode(dict.fromkeys(names, password) | more, errors="surrogatepass").encode()


def measured(password: str) -> dict[str, Any]:
    """What the live meter answers to somebody who types this."""
    kind = "application/x-www-form-urlencoded"
    meter.budget.clear()
    request = RequestFactory().post("/", body_of(password, "password", **OWNER), content_type=kind)
    answer = password_meter(request)
    assert answer.status_code == 200
    facts: dict[str, Any] = json.loads(answer.content)
    return facts


def refused_by_the_form(password: str) -> list[str]:
    """The codes that the form of a new password answers when this is sent."""
    data = QueryDict(body_of(password, "new_password1", "new_password2"))
    form = ChoosePasswordForm(User(**OWNER), data)
    return [str(error.code) for errors in form.errors.as_data().values() for error in errors]


def faults_of(password: str) -> list[str]:
    facts, refusals = measured(password), refused_by_the_form(password)
    at_most = policy.REFUSED_AT_MOST if refusals else 100
    right = {
        "the codes": facts["codes"] == refusals,
        "the verdict": facts["accepted"] == (not refusals),
        "the level": (facts["level"] == "refused") == bool(refusals),
        "the words": facts["summary"].startswith("Not accepted") == bool(refusals),
        "the reasons": bool(facts["reasons"]) or not refusals,
        "the score": 0 <= facts["score"] <= at_most,
    }
    return [f"{password[:80]!r}: {what}, {facts}, {refusals}" for what, is_right in right.items() if not is_right]


@pytest.mark.parametrize("shard", range(SHARDS))
def test_meter_and_form_agree_on_ten_thousand_passwords(shard: int) -> None:
    passwords = list(corpus(10_000))
    assert len(set(passwords)) > 7_000
    assert [fault for password in passwords[shard::SHARDS] for fault in faults_of(password)] == []


@pytest.mark.usefixtures("nist")
def test_meter_and_form_agree_under_the_other_policy_too() -> None:
    passwords = list(corpus(1_000))
    assert [fault for password in passwords for fault in faults_of(password)] == []
    assert measured("correct horse battery")["accepted"]


def test_the_corpus_holds_many_of_both_verdicts() -> None:
    verdicts = Counter(policy.judge(password).accepted for password in corpus(1_000))
    assert min(verdicts[True], verdicts[False]) > 200


@pytest.mark.django_db
def test_what_the_judge_refuses_cannot_be_set(owner: User) -> None:
    for password in corpus(300):
        verdict = policy.judge(password, owner)
        if not verdict.accepted:
            with pytest.raises(ValidationError) as refused:
                owner.set_password(password)
            assert [e.code for e in refused.value.error_list] == [e.code for e in verdict.refusals]


def test_a_refused_password_shows_no_high_score_and_its_rules_come_first() -> None:
    verdict = policy.judge("q7r#mz2v@lx9+wd3kt5!")  # hard to guess, but without a capital
    assert (verdict.score, verdict.level) == (30, "refused")
    assert verdict.reasons == ["Use at least one upper-case letter."]
    assert policy.judge("Q7r#mz2v@lx9+wd3kt5!").score == 100


def test_an_accepted_password_may_be_weak_and_says_so() -> None:
    verdict = policy.judge("Password-1234")
    assert (verdict.accepted, verdict.level) == (True, "weak")
    assert verdict.summary == f"Accepted, but easy to guess: {verdict.score} of 100"
    assert "It holds one of the most used passwords." in verdict.reasons
    assert verdict.advice


def test_a_verdict_shows_its_password_to_nobody() -> None:
    verdict = policy.judge(PASSWORD)
    assert repr(verdict) == "<Verdict accepted>"
    assert PASSWORD not in json.dumps(verdict.as_facts())


# --- the generator ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [12, 20, 128])
def test_what_it_makes_is_accepted_and_never_twice_the_same(length: int) -> None:
    made = {policy.generate(length) for _each in range(50)}
    assert len(made) == 50
    for password in made:
        assert len(password) == length
        validate_password(password)


@pytest.mark.usefixtures("nist")
def test_it_follows_the_other_policy() -> None:
    assert policy.shortest_length() == 15
    validate_password(policy.generate(15))
    with pytest.raises(ValueError):
        policy.generate(12)


@pytest.mark.parametrize("length", [-1, 0, 11, 129])
def test_it_refuses_lengths_that_it_cannot_make(length: int) -> None:
    with pytest.raises(ValueError):
        policy.generate(length)


def test_every_character_is_as_likely_as_the_others() -> None:
    counts = Counter("".join(policy.generate(128) for _each in range(300)))
    expected = 300 * 128 / len(policy.ALPHABET)
    assert counts.keys() == set(policy.ALPHABET)
    # Six standard deviations: once in eight million runs by chance.
    assert max(abs(count - expected) for count in counts.values()) < 6 * expected**0.5
    assert not re.search("[0O1lI]", policy.ALPHABET)
