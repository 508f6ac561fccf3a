"""The same many passwords at every run: what people type, what they paste, and what nobody should."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import cycle, islice

from zxcvbn import matching

from accounts.policy import ALPHABET

_LEET = str.maketrans("aeios", "@31o$")


def corpus(count: int) -> Iterator[str]:
    """Yield `count` passwords, none of them empty, of each kind in turn."""
    people = _People()
    usual = [
        people.a_common,
        people.a_mutated,
        people.a_random,
        people.a_phrase,
        people.of_its_owner,
        people.of_all_scripts,
        people.odd,
    ]
    # A long one in fifty: they take the most time, and differ the least.
    return islice((kind() for kind in cycle([*usual * 7, people.long])), count)


class _People:
    def __init__(self) -> None:
        self.draw = random.Random(6)  # noqa: S311 - the same at every run
        self.common: list[str] = list(matching.RANKED_DICTIONARIES["passwords"])
        self.words: list[str] = list(matching.RANKED_DICTIONARIES["english_wikipedia"])

    def a_common(self) -> str:
        return self.draw.choice(self.common)

    def a_mutated(self) -> str:
        password = self.a_common().translate(self.draw.choice([_LEET, {}])).title()
        before, after = ["", "X-", "!!"], ["", "1", "!", "-2024", "Aa1!", "#7Kq", "." * 6]
        return self.draw.choice(before) + password + self.draw.choice(after)

    def a_random(self) -> str:
        return "".join(self.draw.choices(ALPHABET, k=self.draw.randint(8, 24)))

    def a_phrase(self) -> str:
        phrase = self.draw.choice(["-", " ", "", "_"]).join(self.draw.choices(self.words, k=self.draw.randint(2, 4)))
        return self.draw.choice([phrase, phrase.title(), f"{phrase.title()}-{self.draw.randint(0, 99)}"])

    def of_its_owner(self) -> str:
        part = self.draw.choice(["owner", "Olivia", "Olivia-Owner", "owner@example.com"])
        return part + self.draw.choice(["", "1", "-1!", "-Xq7#kkT9v"])

    def of_all_scripts(self) -> str:
        return "".join(self.draw.choices("äöüßÄÖÜéЖя中文字١٢٣🙈İıſKＡ-7aB!", k=self.draw.randint(1, 20)))

    def odd(self) -> str:
        base = self.draw.choice(["Correct-Horse-7-Battery", "correct horse battery", "weak", "Abcdefgh-123"])
        strange = "\0\ud800\udfff\n\t\u200b\u00a0\x1b\ufffd "
        place = self.draw.randint(0, len(base))
        return base[:place] + self.draw.choice(strange) + base[place:]

    def long(self) -> str:
        part, length = self.draw.choice(["Aa1-", "x", "ü", "🙈7aB!"]), self.draw.choice([64, 72, 73, 512, 1024, 1025])
        return (part * length)[:length]
