"""Many signups at the same moment, over real HTTP, and what came of them.

A rehearsal has a scenario (what many people try at once, and how many of them must get in) and a stage (a site to
try it on, as a rule a scratch one of this code). Everybody opens the form in a browser of their own first; then
all forms are sent at one barrier. What counts is how many accounts the database holds afterwards.
"""

from __future__ import annotations

import http.client
import json
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from html import escape
from http import HTTPStatus
from statistics import median
from threading import Barrier
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user_model
from django.urls import reverse

from accounts.errors import MESSAGES
from config.browser import Answer, Browser, NoForm
from config.env import Environment
from config.scratch import Database, ScratchError, manage, running_site

T = TypeVar("T")
Progress = Callable[[int, int], None]  # how many are done, of how many

LET_IN = "let_in"
LOST = "lost"
USED_UP = "invitation_used"
PREFIX = "rehearsal-"
MODES = ("name", "distinct", "invitation", "all")
OPENING = 16  # browsers that load the form at the same time; only sending it is rehearsed


# Acting together


def in_parallel(
    actions: Sequence[Callable[[], T]], *, threads: int = OPENING, progress: Progress | None = None
) -> list[T]:
    """Run the actions in threads; return their results in order, or raise what the first of them raised."""
    pool = ThreadPoolExecutor(threads)
    try:
        running = [pool.submit(action) for action in actions]
        for done, each in enumerate(as_completed(running), start=1):
            each.result()
            if progress:
                progress(done, len(actions))
        return [each.result() for each in running]
    finally:
        # After Ctrl-C nobody waits here: whoever ends the site ends the requests.
        pool.shutdown(wait=False, cancel_futures=True)


def at_once(actions: Sequence[Callable[[], T]], *, progress: Progress | None = None) -> list[T]:
    """Run every action in a thread of its own, all released at one barrier; return the results in order."""
    barrier = Barrier(len(actions))

    def run(action: Callable[[], T]) -> T:
        barrier.wait()
        return action()

    try:
        together = [partial(run, action) for action in actions]
        return in_parallel(together, threads=len(actions), progress=progress)
    finally:
        barrier.abort()  # if not all threads came to be, the others must not wait for ever


@dataclass
class OpenForm:
    """A signup page that somebody has open in a browser of their own, filled in but not yet sent."""

    browser: Browser
    path: str
    fields: dict[str, str]

    @property
    def username(self) -> str:
        return self.fields["username"]

    def send(self) -> Answer:
        return self.browser.post(self.path, self.fields)


def open_form(browser: Browser, door: str, wanted: dict[str, str]) -> OpenForm:
    """Open the signup form behind `door`, which an invitation's link leads to by a redirect; raises NoForm."""
    path = door if door == reverse("signup") else _follow(browser, door)
    return OpenForm(browser, path, browser.open_form(path) | wanted)


def _follow(browser: Browser, link: str) -> str:
    answer = browser.get(link)
    if not answer.location:
        raise NoForm(f"The invitation's link answered {answer.status}")  # the link itself is a secret
    return answer.location


# What is rehearsed


@dataclass(frozen=True)
class Scenario:
    """What so many `people` try at the same moment; `expected` of them must get in, no more and no fewer."""

    name: str
    people: int
    expected: int
    uses: int = 0  # of the invitation that all of them hold; 0: there is none, sign-up is open

    def wishes(self) -> list[dict[str, str]]:
        """Everybody's form. No two rehearsals share a name or an address, so that they can share a database."""
        domain = next(iter(settings.SIGNUP_EMAIL_DOMAINS), "rehearsal.example")
        password = f"{secrets.token_urlsafe(16)}-aA1"  # kept by nobody
        prefix = f"{PREFIX}{secrets.token_hex(4)}"
        own = [f"{prefix}-{number}" for number in range(self.people)]
        names = [prefix] * self.people if self.name == "name" else own
        return [
            {"username": name, "email": f"{each}@{domain}", "full_name": "", "password": password}
            for name, each in zip(names, own, strict=True)
        ]


def scenarios(mode: str, people: int) -> list[Scenario]:
    """The scenarios of a mode of `MODES`."""
    by_mode = {
        "name": [Scenario("name", people, 1)],
        "distinct": [Scenario("distinct", people, people)],
        "invitation": [Scenario(f"invitation-{uses}", people, min(uses, people), uses) for uses in (1, 5)],
    }
    return [scenario for name, found in by_mode.items() if mode in (name, "all") for scenario in found]


# Where it is rehearsed


@dataclass(frozen=True)
class Stage:
    """A site to rehearse on, and how to look behind it; a count that cannot be had is None."""

    new_browser: Callable[[], Browser]
    door: str
    count_accounts: Callable[[], int | None] = lambda: None
    count_uses: Callable[[], int | None] = lambda: None
    log: Callable[[], str] = lambda: ""


@contextmanager
def scratch_stage(database: Database, scenario: Scenario, *, processes: int) -> Iterator[Stage]:
    """This code and this site's settings in front of a scratch database.

    Raises ScratchError when the site does not start or makes no invitation.
    """
    environment = database.environment | {
        "SECRET_KEY": secrets.token_urlsafe(64),  # nothing that is signed here is worth anything there
        "SIGNUP_MODE": "invite" if scenario.uses else "open",
        "EMAIL_URL": "dummymail://",  # no worker runs that would send one; this is the second lock on that door
    }
    door = _invite(environment, scenario.uses) if scenario.uses else reverse("signup")
    uses = "SELECT coalesce(sum(uses), 0) FROM accounts_invitation" if scenario.uses else "SELECT NULL"
    with running_site(environment, processes=processes) as site:
        yield Stage(
            partial(site.browser, headers=_as_proxied(), timeout=_patience(scenario)),
            door,
            count_accounts=partial(database.value, "SELECT count(*) FROM accounts_user"),
            count_uses=partial(database.value, uses),
            log=site.program.says,
        )


def _invite(environment: dict[str, str], uses: int) -> str:
    """Make an invitation that may be used so often; the path of its link."""
    made = manage("invite", "--count", "1", "--uses", str(uses), "--json", environment=environment)
    if made.returncode:
        raise ScratchError(f"No invitation could be made: {made.stderr.strip()}")
    return link_path(made.stdout)


def link_path(printed: str) -> str:
    """The path of the first link that ``manage.py invite --json`` printed; raises ScratchError."""
    try:
        return urlsplit(str(json.loads(printed)[0]["link"])).path
    except (ValueError, LookupError, TypeError) as error:
        # The text itself may hold a token, so it is not repeated.
        raise ScratchError("What “manage.py invite --json” printed is no list of invitations with links.") from error


@contextmanager
def running_stage(url: str, scenario: Scenario) -> Iterator[Stage]:
    """A site that runs already, perhaps on another machine; raises Faults when `url` is no site's address.

    Its accounts are counted when it is this process's own site; the new ones stay.
    """
    url, env = url.rstrip("/"), Environment()
    base = env.site_address("--url", url)
    env.raise_faults()
    secure = base.scheme == "https"
    browser = partial(
        Browser,
        base.port or (443 if secure else 80),
        host=base.hostname or "",
        connect=http.client.HTTPSConnection if secure else http.client.HTTPConnection,
        headers={"Referer": f"{url}/"},
        timeout=_patience(scenario),
    )
    ours = get_user_model().objects.filter(username_canonical__startswith=PREFIX)
    yield Stage(browser, reverse("signup"), count_accounts=ours.count if url == settings.BASE_URL else lambda: None)


def _as_proxied() -> dict[str, str]:
    """What the proxy in front of this site says with each request; without it production redirects to https."""
    base = urlsplit(settings.BASE_URL)
    return {"Host": base.netloc, "Referer": f"{settings.BASE_URL}/", "X-Forwarded-Proto": base.scheme}


def _patience(scenario: Scenario) -> float:
    """Seconds after which an answer counts as lost: one for each form in the queue, since a hash may cost that."""
    return 60.0 + scenario.people


# What came of it


@dataclass(frozen=True)
class Outcome:
    """What one person got: LET_IN, LOST, the code of a friendly refusal, or the status of any other answer."""

    kind: str
    seconds: float | None  # until the answer, if there was one


@dataclass(frozen=True)
class Result:
    """What all of them got, and how many accounts and uses the database then counted more than before, if known."""

    scenario: Scenario
    outcomes: Sequence[Outcome]
    accounts: int | None
    uses: int | None

    @cached_property
    def _kinds(self) -> Counter[str]:
        return Counter(outcome.kind for outcome in self.outcomes)

    @property
    def facts(self) -> dict[str, Any]:
        """The figures, in the order in which they are read."""
        seconds = [outcome.seconds for outcome in self.outcomes if outcome.seconds is not None]
        return {
            "mode": self.scenario.name,
            "requests": len(self.outcomes),
            "let_in": self._kinds[LET_IN],
            "refused": {kind: count for kind, count in self._kinds.items() if kind in (*MESSAGES, USED_UP)},
            "other_answers": {kind: count for kind, count in self._kinds.items() if kind.isdecimal() and kind < "500"},
            "server_errors": {kind: count for kind, count in self._kinds.items() if kind.isdecimal() and kind >= "500"},
            "lost_connections": self._kinds[LOST],
            "median_ms": round(1000 * median(seconds)) if seconds else None,
            "slowest_ms": round(1000 * max(seconds)) if seconds else None,
            "accounts_in_database": self.accounts,
            "uses_counted": self.uses,
        }

    @property
    def faults(self) -> list[str]:
        """What is not as it must be, in words; the verdict holds when there is nothing."""
        facts, expected = self.facts, self.scenario.expected
        counts = [(in_words(name), facts[name]) for name in ("let_in", "accounts_in_database", "uses_counted")]
        wrong = [f"{name}: {count} instead of {expected}" for name, count in counts if count not in (None, expected)]
        bad = [(in_words(name), facts[name]) for name in ("other_answers", "server_errors")]
        wrong += [f"{name}: {status} ({count} times)" for name, found in bad for status, count in found.items()]
        return wrong + ([f"lost connections: {facts['lost_connections']}"] if facts["lost_connections"] else [])

    @property
    def holds(self) -> bool:
        return not self.faults


def in_words(name: str) -> str:
    return name.replace("_", " ")


def rehearse(scenario: Scenario, stage: Stage, progress: Progress | None = None) -> Result:
    """Let everybody send the form at the same moment; raises NoForm, OSError when it cannot even be opened."""
    accounts, uses = stage.count_accounts(), stage.count_uses()
    forms = in_parallel([partial(open_form, stage.new_browser(), stage.door, wish) for wish in scenario.wishes()])
    outcomes = at_once([partial(send, form) for form in forms], progress=progress)
    return Result(
        scenario, outcomes, _more(stage.count_accounts(), than=accounts), _more(stage.count_uses(), than=uses)
    )


def _more(now: int | None, *, than: int | None) -> int | None:
    return None if now is None or than is None else now - than


def send(form: OpenForm) -> Outcome:
    """Send the form; what its owner gets, also when that is nothing."""
    try:
        answer = form.send()
    except (OSError, http.client.HTTPException):
        return Outcome(LOST, None)
    return Outcome(kind_of(answer), answer.seconds)


def kind_of(answer: Answer) -> str:
    """As in `Outcome`. A refusal is friendly when it is a page that says why in the words of its code."""
    if (answer.status, answer.location) == (HTTPStatus.SEE_OTHER, reverse("login")):
        return LET_IN
    if answer.status == HTTPStatus.GONE:
        return USED_UP
    if answer.status in (HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY):
        codes = (code for code, message in MESSAGES.items() if escape(str(message)) in answer.body)
        return next(codes, str(answer.status))
    return str(answer.status)
