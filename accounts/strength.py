"""How many guesses a password withstands, by the library zxcvbn, in bounded time.

The library's own entry point is not used: its time grows with the cube of the length and with the product of the
look-alikes (2.6 s for 72 characters of symbols), and it keeps the words of one caller where the next thread finds
them. Its matchers and its scoring are; here is what they are fed. ``docs/accounts.md`` says what the score means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from django.utils.translation import gettext_lazy as _
from zxcvbn import matching, scoring

# Characters that are looked at. Random or uncommon ones reach the full score well before; common ones hardly gain by
# more. Of the worst inputs found, the 72 of the library's limit took 31 ms, these 8 to 12.
MOST_CHARACTERS = 40
MOST_SUBSTITUTIONS = 4  # ways to read look-alikes (@ for a) as letters; each costs a walk through the words
MOST_OWN_WORDS = 24
SHORTEST_OWN_WORD = 3
POINTS_FOR_TEN = 5  # for each factor of ten; so 100 points stand for 10^20 guesses

Match = dict[str, Any]
Words = dict[str, dict[str, int]]

REASONS = {
    "own": _("It holds your own name or address."),
    "common_password": _("It holds one of the most used passwords."),
    "words": _("It holds common words or names."),
    "keyboard": _("It follows neighbouring keys."),
    "repeat": _("It repeats itself."),
    "sequence": _("It holds a sequence like abc or 6543."),
    "date": _("It holds a date or a year."),
}
ADVICE = {
    "longer": _("Make it longer: another word or two that do not belong together help most."),
    "look_alikes": _("Look-alikes, like @ for a, help little."),
    "backwards": _("Writing a word backwards helps little."),
    "patterns": _("Leave out rows of keys, repetitions, sequences and dates."),
    "not_yours": _("Leave out whatever belongs to you."),
}
_ENOUGH = 80  # from this score on nothing has to be said
_PATTERNS = {"spatial": "keyboard", "repeat": "repeat", "sequence": "sequence", "regex": "date", "date": "date"}


@dataclass(frozen=True)
class Strength:
    """`reasons` and `advice` are keys of `REASONS` and `ADVICE`, the weightiest first."""

    score: int
    reasons: list[str]
    advice: list[str]


def estimate(password: str, own: Iterable[str] = ()) -> Strength:
    """Estimate from 0 to 100, with what makes it weak; `own` are names and addresses of whose password it is."""
    # The library takes it that a letter stays one letter in lower case; this one does not.
    looked_at = password[:MOST_CHARACTERS].replace("İ", "I")
    if not looked_at:
        return Strength(0, [], [])
    words = {"words": _words(), "own": _own_words(own)}
    found = scoring.most_guessable_match_sequence(looked_at, _matches(looked_at, words))
    score = min(100, int(POINTS_FOR_TEN * found["guesses_log10"]))
    if score >= _ENOUGH:
        return Strength(score, [], [])
    weak = [match for match in found["sequence"] if match["pattern"] != "bruteforce" and len(match["token"]) > 2]
    reasons = {_reason(match) for match in weak}
    return Strength(score, [each for each in REASONS if each in reasons], _advice(weak, reasons))


def is_common(password: str) -> bool:
    """Whether it is one of the 30,000 most used passwords of zxcvbn's list, in whatever case."""
    return password.lower() in matching.RANKED_DICTIONARIES["passwords"]


@cache
def _words() -> dict[str, int]:
    """The library's six dictionaries as one, each word with its best rank: the same estimate in a third of the time."""
    best: dict[str, int] = {}
    for name, ranked in matching.RANKED_DICTIONARIES.items():
        if name != "user_inputs":
            for word, rank in ranked.items():
                best[word] = min(rank, best.get(word, rank))
    return best


def _own_words(own: Iterable[str]) -> dict[str, int]:
    whole = [text.lower() for text in own]
    parts = [part for text in whole for part in re.split(r"[\W_]+", text)]
    words = dict.fromkeys(word for word in [*whole, *parts] if len(word) >= SHORTEST_OWN_WORD)
    return {word: rank for rank, word in enumerate(list(words)[:MOST_OWN_WORDS], start=1)}


def _matches(password: str, words: Words) -> list[Match]:
    """What `matching.omnimatch` finds, less what makes it slow."""
    given = {"_ranked_dictionaries": words}
    found: list[Match] = []
    for matcher in (
        matching.dictionary_match,
        matching.reverse_dictionary_match,
        matching.spatial_match,
        matching.sequence_match,
        matching.regex_match,
        matching.date_match,
    ):
        found += matcher(password, **given)
    found += matching.l33t_match(password, **given, _l33t_table=_look_alikes(password))
    found += _repeats(password, words)
    return _easiest(found, password)


def _easiest(found: list[Match], password: str) -> list[Match]:
    """Of several readings of the same characters only the easiest to guess: no other can be part of the result.

    Words of one letter are as hard to guess as any letter, and let the scoring try every number of them.
    """
    easiest: dict[tuple[int, int], Match] = {}
    for match in found:
        if match["i"] == match["j"]:
            continue
        place = match["i"], match["j"]
        guesses = scoring.estimate_guesses(match, password)
        if place not in easiest or guesses < easiest[place]["guesses"]:
            easiest[place] = match
    return sorted(easiest.values(), key=lambda match: (match["i"], match["j"]))


def _look_alikes(password: str) -> dict[str, list[str]]:
    """The look-alikes in the password that are read as letters; of many only the first for each letter."""
    table: dict[str, list[str]] = matching.relevant_l33t_subtable(password, matching.L33T_TABLE)
    ways = 1
    for letter, symbols in table.items():
        table[letter] = symbols if ways * len(symbols) <= MOST_SUBSTITUTIONS else symbols[:1]
        ways *= len(table[letter])
    return table


def _repeats(password: str, words: Words) -> Iterator[Match]:
    """As `matching.repeat_match`, whose look at the repeated part is not bounded."""
    start = 0
    while (longest := _GREEDY.search(password, start)) and (shortest := _LAZY.search(password, start)):
        found, base = shortest, shortest[1]
        # aabaab: twice aab instead of aa
        if len(longest[0]) > len(shortest[0]) and (whole := _LAZY.fullmatch(longest[0])):
            found, base = longest, whole[1]
        scored = scoring.most_guessable_match_sequence(base, _matches(base, words))
        yield {
            "pattern": "repeat",
            "i": found.start(),
            "j": found.end() - 1,
            "token": found[0],
            "base_token": base,
            "base_guesses": scored["guesses"],
            "repeat_count": Decimal(len(found[0])) / len(base),
        }
        start = found.end()


_GREEDY = re.compile(r"(.+)\1+", re.S)
_LAZY = re.compile(r"(.+?)\1+", re.S)


def _reason(match: Match) -> str:
    if match["pattern"] != "dictionary":
        return _PATTERNS[match["pattern"]]
    if match["dictionary_name"] == "own":
        return "own"
    is_password = matching.RANKED_DICTIONARIES["passwords"].get(match["matched_word"]) == match["rank"]
    return "common_password" if is_password else "words"


def _advice(weak: list[Match], reasons: set[str]) -> list[str]:
    needed = {
        "longer": True,
        "look_alikes": any(match.get("l33t") for match in weak),
        "backwards": any(match.get("reversed") and not _is_palindrome(match["token"]) for match in weak),
        "patterns": not reasons.isdisjoint(_PATTERNS.values()),
        "not_yours": "own" in reasons,
    }
    return [each for each in ADVICE if needed[each]]


def _is_palindrome(token: str) -> bool:
    return token == token[::-1]
