"""Whether the time of an answer tells who has an account: real pages over HTTP, known and unknown by turns."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from django.contrib.auth.hashers import make_password
from django.db import connection
from django.utils import timezone

from accounts.models import User
from tests.bench.figures import Figure
from tests.live import LOGIN, PASSWORD, Browser, Database, Site, running_site

MOST_DIFFERENCE = 5.0  # percent
QUICK = 20  # times as many pairs on pages that hash nothing: what they take is small, so its noise is great
PAGES = {
    "login": (LOGIN, 2, lambda name: {"username": name, "password": "Wrong-Password-1"}),
    "reset": ("/accounts/password/reset/", QUICK, lambda name: {"email": f"{name}@example.com"}),
    "resend": ("/accounts/verify/again/", QUICK, lambda name: {"email": f"{name}@example.com"}),
}


def answer_times(database: Database, pairs: int) -> list[Figure]:
    _add_users(pairs * QUICK)
    # Every name is tried once, but all of them from one network.
    with running_site(database.environment | {"LOGIN_FAILURES_PER_NETWORK": "100000"}) as site:
        return [
            figure
            for page, (path, times, fields) in PAGES.items()
            for figure in _compare(site, page, path, fields, pairs * times)
        ]


def _add_users(count: int) -> None:
    password, now = make_password(PASSWORD), timezone.now()
    User.objects.bulk_create(
        User(username=name, email=f"{name}@example.com", password=password, email_verified_at=now, signup_key=None)
        for name in (f"known{number}x" for number in range(count))
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE accounts_user")


def _compare(site: Site, page: str, path: str, fields: Callable[[str], dict[str, str]], pairs: int) -> list[Figure]:
    form = site.browser()
    token = form.open_form(path)
    times: dict[str, list[float]] = {"known": [], "other": []}
    for number in range(-2, pairs):
        # Whoever comes second may profit from the first, so they change places.
        for whose in sorted(times, reverse=number % 2 == 0):
            browser = Browser(site.port, dict(form.cookies))
            answer = browser.post(path, token | fields(f"{whose}{max(number, 0)}x"))
            assert answer.status in (303, 422), f"{path} answered {answer.status}"
            if number >= 0:  # the first ones only warm up
                times[whose].append(answer.seconds)
    # Of neighbours, which the machine's other work slowed down alike.
    ratio = median(known / unknown for known, unknown in zip(times["known"], times["other"], strict=True))
    return [
        Figure(f"{page} of a known account, median", 1000 * median(times["known"]), "ms", digits=1),
        Figure(f"{page} of an unknown one, median", 1000 * median(times["other"]), "ms", digits=1),
        Figure(f"{page}: known against unknown", 100 * abs(ratio - 1), "%", at_most=MOST_DIFFERENCE),
    ]
