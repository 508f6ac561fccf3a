"""Everyday work that goes on through a drill: people sign up and redeem invitations, an administrator edits.

Everybody notes what the site has acknowledged, and what nobody can know because the answer was lost or a 503.
"""

from __future__ import annotations

import http.client
import itertools
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from urllib.parse import urlencode, urlsplit

from accounts import invitations, links, services
from accounts.models import User
from config.browser import NoForm
from tests.live import LOGIN, PASSWORD, PATIENCE, SIGNUP, Answer, Browser, Database, Site, is_busy_page, wait_until

KEEPER = "keeper"
COLLEAGUES = ("mona", "nils", "olga")  # each edited by one form after the other
CREW = ("pia", "quin")  # shut out and let in again together
NEWCOMERS, GUESTS = 2, 2
PAUSE = 0.02  # seconds between two things that somebody does
RECOVERED_WITHIN = 30.0  # seconds after the end of a fault; one or two, unless the machine is busy with other tests
USERS = "/admin/accounts/user/"
INVITATIONS = "/accounts/invitations/"
KINDS = ("signup", "redemption", "invitation", "edit", "bulk")
_AS_THEY_ARE = "SELECT username, id::text, full_name, is_active FROM accounts_user WHERE username = ANY(%s)"


@dataclass
class Notes:
    """What everybody has seen. A value is noted with whether the site has said that it is written."""

    people: dict[str, bool] = field(default_factory=dict)  # by username
    guests: dict[str, bool] = field(default_factory=dict)
    invitations: dict[str, bool] = field(default_factory=dict)  # by note
    names: dict[str, list[tuple[str, bool]]] = field(default_factory=lambda: defaultdict(list))
    active: dict[str, list[tuple[bool, bool]]] = field(default_factory=lambda: defaultdict(list))
    done: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # monotonic seconds, by kind
    busy: list[float] = field(default_factory=list)
    cut: list[float] = field(default_factory=list)
    cut_while_sending: int = 0
    slowest: float = 0.0  # seconds until a busy page
    signed_out: int = 0  # how often the administrator was
    wrong: list[str] = field(default_factory=list)


@dataclass
class Witness(Browser):
    """A browser that notes every answer, and holds a failure to what a fault allows: our busy page or a cut line."""

    notes: Notes = field(default_factory=Notes)

    def request(
        self, method: str, path: str, body: str | bytes | None = None, headers: dict[str, str] | None = None
    ) -> Answer:
        try:
            answer = super().request(method, path, body, headers)
        except (OSError, http.client.HTTPException):
            self.notes.cut.append(time.monotonic())
            self.notes.cut_while_sending += method == "POST"
            raise
        if is_busy_page(answer):
            self.notes.slowest = max(self.notes.slowest, answer.seconds)
            self.notes.busy.append(time.monotonic())
        elif answer.status >= 500:
            self.notes.wrong.append(f"{method} {path}: {answer.status} {answer.body[:300]}")
        return answer

    def send(self, path: str, fields: Mapping[str, object]) -> Answer | None:
        """Send a form; None when nobody knows what came of it."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        with suppress(OSError, http.client.HTTPException):
            answer = self.request("POST", path, urlencode(fields, doseq=True), headers)
            return None if answer.status == 503 else answer
        return None


class Load:
    """All of them at work, each in a thread, until `end`.

    `sessions_end`: the administrator may be signed out, and then signs in anew.
    """

    def __init__(self, site: Site, database: Database, link: str, name: str) -> None:
        self.notes = Notes()
        self.sessions_end = False
        self._site, self._database, self._link, self._name = site, database, link, name
        self._numbers = itertools.count(1)
        self._lock = Lock()
        self._over = Event()
        self._keeper = self._browser()
        self._ids: dict[str, str] = {}
        for username, key, full_name, active in database.rows(_AS_THEY_ARE, [*COLLEAGUES, *CREW]):
            self._ids[username] = key
            self.notes.names[username].append((full_name, True))
            self.notes.active[username].append((active, True))
        actors = [self._sign_up] * NEWCOMERS + [self._redeem] * GUESTS + [self._invite, self._edit, self._edit_all]
        self._threads = [Thread(target=self._go_on, args=[actor]) for actor in actors]

    def begin(self) -> None:
        self._sign_in()
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def flows(self) -> None:
        """Wait until everything has been done again, from now."""
        self._wait_for_all(time.monotonic(), PATIENCE)

    def recovers(self, since: float) -> float:
        """Return the seconds from `since` (monotonic) after which everything had been done again."""
        self._wait_for_all(since, RECOVERED_WITHIN)
        return max(next(at for at in self.notes.done[kind] if at > since) for kind in KINDS) - since

    def _wait_for_all(self, since: float, seconds: float) -> None:
        wait_until(lambda: self.notes.wrong or not self._missing(since), f"all goes on in {self._name}", seconds)
        assert not self.notes.wrong, self.notes.wrong[:3]

    def _missing(self, since: float) -> list[str]:
        return [kind for kind in KINDS if not any(at > since for at in self.notes.done[kind][-50:])]

    @property
    def failures(self) -> list[float]:
        return sorted(self.notes.busy + self.notes.cut)

    # What they do

    def _go_on(self, act: Callable[[], None]) -> None:
        while not self._over.wait(PAUSE):
            try:
                act()
            except (OSError, http.client.HTTPException):
                pass  # noted; nothing was sent
            except NoForm as refusal:
                if not str(refusal).endswith((" 503", " 302") if self.sessions_end else " 503"):
                    self.notes.wrong.append(str(refusal))
            except Exception as error:
                self.notes.wrong.append(repr(error))
                raise

    def _browser(self) -> Witness:
        return Witness(self._site.port, timeout=30, notes=self.notes)

    def _next(self) -> int:
        with self._lock:
            return next(self._numbers)

    def _note(self, kind: str, answer: Answer | None, status: int, place: str) -> bool:
        """Whether it was acknowledged by leading to `place`; anything but that, and not to know, is wrong."""
        if answer is None:
            return False
        if answer.status == status and answer.location.startswith(place):
            self.notes.done[kind].append(time.monotonic())
            return True
        if not (self.sessions_end and _leads_to_login(answer)):
            self.notes.wrong.append(f"{kind}: {answer.status} {answer.location} {answer.body[:300]}")
        return False

    def _sign_up(self) -> None:
        self._let_in("signup", self._browser(), SIGNUP, self.notes.people)

    def _redeem(self) -> None:
        browser = self._browser()
        answer = browser.get(self._link)
        if answer.status == 302:
            self._let_in("redemption", browser, answer.location, self.notes.guests)

    def _let_in(self, kind: str, browser: Witness, door: str, noted: dict[str, bool]) -> None:
        username = f"{self._name}-{kind}-{self._next()}"
        wanted = {"username": username, "email": f"{username}@drill.example", "full_name": "", "password": PASSWORD}
        fields = browser.open_form(door) | wanted
        answer = browser.send(door, fields)
        noted[username] = self._note(kind, answer, 303, LOGIN)

    def _invite(self) -> None:
        note = f"{self._name} {self._next()}"
        browser = self._tab()
        answer = browser.send(
            INVITATIONS, browser.open_form(INVITATIONS) | {"by": "link", "max_uses": "2", "note": note}
        )
        self.notes.invitations[note] = self._note("invitation", answer, 303, INVITATIONS)

    def _edit(self) -> None:
        number = self._next()
        name = COLLEAGUES[number % len(COLLEAGUES)]
        browser, path = self._tab(), f"{USERS}{self._ids[name]}/change/"
        wanted = {"username": name, "email": f"{name}@drill.example", "full_name": f"{self._name} {number}"}
        fields = browser.open_form(path) | wanted | {"is_active": "on", "_save": "Save"}
        answer = browser.send(path, fields)
        self.notes.names[name].append((wanted["full_name"], self._note("edit", answer, 302, USERS)))

    def _edit_all(self) -> None:
        for action, active in (("deactivate", False), ("restore", True)):
            browser, ids = self._tab(), [self._ids[name] for name in CREW]
            # To shut out is asked first; this is the answer.
            path = USERS if active else f"{USERS}confirm/"
            chosen: dict[str, object] = {"action": action, "_selected_action": ids, "ids": ",".join(ids)}
            answer = browser.send(path, chosen | browser.open_form(USERS))
            acknowledged = self._note("bulk", answer, 302, USERS)
            for name in CREW:
                self.notes.active[name].append((active, acknowledged))

    # The administrator

    def _tab(self) -> Witness:
        """A tab of its own: tabs share the session, not our dictionary."""
        with self._lock:
            if self.sessions_end and _leads_to_login(self._keeper.get(USERS)):
                self.notes.signed_out += 1
                self._keeper = self._browser()
                self._sign_in()
            return Witness(self._site.port, dict(self._keeper.cookies), timeout=30, notes=self.notes)

    def _sign_in(self) -> None:
        fields = self._keeper.open_form("/admin/login/") | {"username": KEEPER, "password": PASSWORD}
        answer = self._keeper.send(f"/admin/login/?next={USERS}", fields)
        if answer is not None and not (answer.status == 302 and answer.location == USERS):
            self.notes.wrong.append(f"login: {answer.status} {answer.body[:300]}")


def _leads_to_login(answer: Answer) -> bool:
    return answer.status in (302, 303) and "/login/" in answer.location


@contextmanager
def under_load(site: Site, database: Database, link: str, name: str) -> Iterator[Load]:
    """Let them work for the length of the block, from the moment on at which everything has been done once."""
    load = Load(site, database, link, name)
    load.begin()
    try:
        load.flows()
        yield load
    finally:
        load.end()
    assert not load.notes.wrong, load.notes.wrong[:3]


def prepare() -> str:
    """Make, in the database that Django uses, who is there before; returns the path of an invitation for many."""
    for name in (KEEPER, *COLLEAGUES, *CREW):
        user = User(username=name, email=f"{name}@drill.example", is_staff=name == KEEPER, is_superuser=name == KEEPER)
        user.set_password(PASSWORD)
        services.add_user(user, acting_user=None)
    (invitation,) = invitations.make_links(1, invitations.Terms(max_uses=10_000), acting_user=None)
    return urlsplit(links.invitation_url(invitation, mailed=False)).path
