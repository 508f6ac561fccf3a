"""How long the verdict on a password takes: the live meter asks for one at each pause of the typing."""

from __future__ import annotations

import random
import time
from statistics import median
from urllib.parse import urlencode

from tests.bench.figures import Figure

LONGEST_ANSWER = 30  # milliseconds, for any input up to 1,024 bytes
TURNS = 5
_DRAW = random.Random(6)  # noqa: S311 - the same inputs at every run

# Each was found to cost zxcvbn much; most by changing what cost most before.
ADVERSARIES = {
    "look-alikes": "4@8({[<3691!|17501$5+7%2" * 43,
    "look-alikes of two letters": "1!|7l1ti+7" * 100,
    "one letter": "a" * 1024,
    "one letter that is a word": "i" * 1024,
    "one digit": "1" * 1024,
    "two letters": "ab" * 512,
    "pairs": "aabb" * 256,
    "dates": "01012012" * 128,
    "years": "2020" * 256,
    "dates with separators": "12/12/12/" * 113,
    "digits in a row": "1234567890" * 102,
    "random digits": "".join(_DRAW.choices("0123456789", k=1024)),
    "a common password": "password" * 128,
    "the same in look-alikes": "p@ssw0rd" * 128,
    "neighbouring keys": "zxcvfr43edcxswqaz" * 60,
    "a row of keys": "qwertyuiop" * 102,
    "the alphabet": "abcdefghijklmnopqrstuvwxyz" * 39,
    "four kinds": "aA1!" * 256,
    "digits, almost alternating": "2121212121212121212121l1lj2a212lj2121221" * 25,
    "digits and letters": "33i75419a136319a1363789637457913579139155791300606jj046j6j4aa7777o1e" * 15,
    "a letter that grows in lower case": "İ" * 512,
    "two bytes": "Ünï-cödé-12345" * 60,
    "four bytes": "🙈🙉🙊" * 85,
    "NUL": "\0" * 1024,
    "line feeds": "\n" * 1024,
}


def meter_times() -> list[Figure]:
    """The slowest input of each kind, by the processor time of the thread that answers."""
    from django.test import RequestFactory

    from accounts import meter
    from accounts.password_views import password_meter
    from tests.accounts.corpus import corpus

    def verdict_time(password: str) -> float:
        body = urlencode({**_LONG_NAMES, "password": password}, errors="surrogatepass")
        request = RequestFactory().post("/", body, content_type="application/x-www-form-urlencoded")
        meter.budget.clear()
        begun = time.thread_time()
        answer = password_meter(request)
        took = time.thread_time() - begun
        assert answer.status_code == 200, answer.content
        return 1000 * took

    verdict_time("the first one loads the words")
    adversaries = {name: median(verdict_time(text) for _turn in range(TURNS)) for name, text in ADVERSARIES.items()}
    ordinary = [verdict_time(password) for password in corpus(2000)]
    worst = max(adversaries, key=lambda name: adversaries[name])
    return [
        Figure("meter, median of a corpus", median(ordinary), "ms", digits=1),
        Figure("meter, slowest of a corpus", max(ordinary), "ms", digits=1, at_most=LONGEST_ANSWER),
        Figure(f"meter, worst of 1,024 bytes ({worst})", adversaries[worst], "ms", digits=1, at_most=LONGEST_ANSWER),
    ]


# As many words of one's own as a form takes.
_LONG_NAMES = {
    "username": ".".join("ab1" for _part in range(16)),
    "email": ".".join(f"a{number}" for number in range(75)) + "@example.com",
    "full_name": " ".join(f"w{number}" for number in range(38)),
}
