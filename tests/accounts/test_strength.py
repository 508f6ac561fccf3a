"""The estimate of a password's strength, and that no input makes it slow."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from zxcvbn import matching, scoring

from accounts import strength
from accounts.strength import MOST_CHARACTERS, MOST_SUBSTITUTIONS, estimate
from tests.bench.passwords import ADVERSARIES


def test_the_more_guesses_the_higher_the_score() -> None:
    ladder = ["password", "password-tree", "tree-password-lamp", "Correct-Horse-7-Battery", "q7R#mZ2v@Lx9+Wd3kT5!"]
    scores = [estimate(password).score for password in ladder]
    assert scores == sorted(scores)
    assert scores[0] < 5
    assert scores[-1] == 100


@pytest.mark.parametrize("password", ["", "a", "\0", "\ud800", "İ" * 50, "١٢٣٤" * 20, "\n" * 50, "🙈" * 300])
def test_odd_input_has_a_score_too(password: str) -> None:
    assert 0 <= estimate(password).score <= 100


@pytest.mark.parametrize(
    ("password", "reason", "advice"),
    [
        ("letmein", "common_password", []),
        ("p@ssw0rd", "common_password", ["look_alikes"]),
        ("drowssap", "common_password", ["backwards"]),
        ("cheeseburgers", "words", []),
        ("bhunjimko", "keyboard", ["patterns"]),
        ("kjkjkjkjkjkj", "repeat", ["patterns"]),
        ("hijklmnop", "sequence", ["patterns"]),
        ("23.11.1987", "date", ["patterns"]),
        ("olivia.owner", "own", ["not_yours"]),
    ],
)
def test_what_makes_it_weak_is_told(password: str, reason: str, advice: list[str]) -> None:
    found = estimate(password, own=["owner", "owner@example.com", "Olivia Owner"])
    assert reason in found.reasons
    assert {"longer", *advice} <= set(found.advice)
    assert "not_yours" not in found.advice or reason == "own"


def test_a_strong_one_needs_no_words() -> None:
    found = estimate("q7R#mZ2v@Lx9+Wd3kT5!")
    assert (found.score, found.reasons, found.advice) == (100, [], [])


def test_the_own_name_counts_for_its_owner_alone() -> None:
    password = "zyxquub-1987-grommel"
    assert estimate(password, own=["zyxquub"]).score < estimate(password).score
    assert matching.RANKED_DICTIONARIES.keys().isdisjoint({"user_inputs", "own"})  # what all threads share


def test_threads_do_not_see_each_others_names() -> None:
    password, owners = "zyxquub-grommel", ["zyxquub", "somebody"] * 40
    expected = [estimate(password, [owner]) for owner in owners]
    assert expected[0] != expected[1]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda owner: estimate(password, [owner]), owners)) == expected


# --- bounded ----------------------------------------------------------------------------------------


def test_only_the_first_characters_are_looked_at() -> None:
    weak, strong = "tree" * 10, "q7R#mZ2v"
    assert len(weak) == MOST_CHARACTERS
    assert estimate(weak + strong) == estimate(weak)
    assert estimate(weak[:-8] + strong).score > estimate(weak).score


@pytest.mark.parametrize("password", ADVERSARIES.values(), ids=list(ADVERSARIES))
def test_what_the_scoring_is_fed_is_bounded_whatever_is_typed(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    """The scoring tries every span with every number of parts, so spans and ways are what its time depends on."""
    fed: list[tuple[int, int]] = []
    walks: list[str] = []
    score, walk = scoring.most_guessable_match_sequence, matching.dictionary_match

    def counting(text: str, matches: list[strength.Match], *args: object) -> object:
        fed.append((len(text), len(matches)))
        assert len({(match["i"], match["j"]) for match in matches}) == len(matches)
        assert all(match["i"] < match["j"] for match in matches)
        return score(text, matches, *args)

    def walking(text: str, *args: object, **given: object) -> object:
        walks.append(text)
        return walk(text, *args, **given)

    monkeypatch.setattr(scoring, "most_guessable_match_sequence", counting)
    monkeypatch.setattr(matching, "dictionary_match", walking)
    estimate(password)
    assert sum(length for length, _matches in fed) <= 3 * MOST_CHARACTERS
    assert max(length for length, _matches in fed) <= MOST_CHARACTERS
    # Forwards, backwards and once for each way to read look-alikes, of which two letters share some.
    assert len([text for text in walks if len(text) == MOST_CHARACTERS]) <= 2 + 4 * MOST_SUBSTITUTIONS


def test_the_bounds_change_no_ordinary_estimate() -> None:
    """Against the library's own, which nothing bounds."""
    from zxcvbn import zxcvbn

    draw = random.Random(6)  # noqa: S311 - the same at every run
    words = [*list(matching.RANKED_DICTIONARIES["english_wikipedia"])[:3000], "qwerty", "1987", "p@ssw0rd", "abcabc"]
    for _each in range(150):
        password = draw.choice(["-", ".", ""]).join(draw.choices(words, k=draw.randint(1, 3)))[:MOST_CHARACTERS]
        theirs = min(100, int(strength.POINTS_FOR_TEN * zxcvbn(password)["guesses_log10"]))
        matching.RANKED_DICTIONARIES.pop("user_inputs")
        assert abs(estimate(password).score - theirs) <= 2, password
