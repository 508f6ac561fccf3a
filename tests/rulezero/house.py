"""Every door of the site, found by walking its URLconf, and everybody who may stand in front of one.

A page that is added later is walked too. It only has to be told here what opens it (`_TOKENS`), and a model in the
admin needs one row (`_furnish`); the walk says so when that is missing.
"""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote, urljoin

import django
import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import quote as admin_quote
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.core.mail import EmailMessage
from django.db import connection, transaction
from django.test import Client
from django.test.client import ClientHandler
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from accounts import jobs, links
from accounts.models import AddressChange, DataExport, Import, Invitation, LoginAttempt, Session, User
from accounts.second_factor.models import AuthenticatorApp, RecoveryLink
from auditlog.models import Record
from config.content_type import tamed
from config.mail_preview import MailDirectoryBackend
from config.middleware import CONTENT_SECURITY_POLICY, is_own_path
from healthcheck.models import ConnectionSample, Incident, Run, Sample
from tests.accounts.phones import give_phone
from tests.factories import InvitationFactory, UserFactory

LONGEST = 3.0  # seconds that any answer may take
TOKEN = "t" * 32  # the CSRF secret in every browser here; unmasked it is its own valid token
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW")

# What strangers put where a path has an argument; "_00" is how the admin spells a NUL in an id.
ODD = (
    "00000000-0000-0000-0000-000000000000",
    "0",
    "-1",
    "99999999999999999999",
    "None",
    "x" * 300,
    "_00",
    "_0A_FF",
    "'",
    "%",
    "{0}",
    "\ud7ff🙈",
    "..",
    ".",
    "a:b",
    "1/2/3",
    "MQ",
)
_ARGUMENT = re.compile(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>([^)]*)\)")
_INSIDE = (
    *("Traceback (most", 'File "/', "site-packages", "psycopg", "postgres", "PostgreSQL", "gunicorn", "SQLSTATE"),
    *("INSERT INTO", 'relation "', " object at 0x", "WHERE ("),
    *(django.get_version(), platform.python_version(), str(settings.BASE_DIR)),
)  # fmt: skip
_EXCEPTION = re.compile(r"(?<=[a-z])(?:Error|Exception)\b|SELECT .+ FROM")


@dataclass(frozen=True)
class Door:
    """One route, and paths that lead to it: the first opens what exists, the others are guesses."""

    route: str
    paths: tuple[str, ...]


@dataclass
class Answer:
    """What came back, how long it took, and the rows it wrote (sessions apart)."""

    asked: str
    response: Any
    seconds: float
    wrote: list[str]

    @cached_property
    def text(self) -> str:
        return b"".join(self.response).decode("utf-8", "replace")

    @property
    def status(self) -> int:
        return int(self.response.status_code)

    @property
    def _is_of_the_trail(self) -> bool:
        """Whether it is an export: it holds every record there is, also of errors that the tests before have made."""
        return "attachment" in self.response.get("Content-Disposition", "") and "/record/export/" in self.asked

    def faults(self) -> list[str]:
        """What rule zero has against it; every answer to anybody is held to the same."""
        found = []
        if self.status >= 500:
            found.append(f"status {self.status}")
        if self.seconds > LONGEST:
            found.append(f"took {self.seconds:.1f} s")
        if not self._is_of_the_trail:
            found += [f"shows {inside!r}" for inside in _INSIDE if inside in self.text]
            found += [f"shows {inside!r}" for inside in _EXCEPTION.findall(self.text)]
        if not is_own_path(urljoin("/x/", self.response.get("Location", "/"))):
            found.append(f"leads to {self.response['Location']!r}")
        if self.status == 405 and "Allow" not in self.response:
            found.append("405 without Allow")
        found += [f"{name}: {self.response.get(name)!r}" for name, is_right in _HEADERS.items() if not is_right(self)]
        return [f"{self.asked}: {fault}" for fault in found]


def _has_policy(answer: Answer) -> bool:
    given = answer.response.get("Content-Security-Policy", "")
    # Only the page that shows a mail adds to it: the hash of the mail's own style sheet.
    return given == CONTENT_SECURITY_POLICY or (
        given.startswith(f"{CONTENT_SECURITY_POLICY}; style-src 'self' ") and "/dev/mail/" in answer.asked
    )


def _is_not_kept(answer: Answer) -> bool:
    # Static files are the same for everybody.
    return "no-store" in answer.response.get("Cache-Control", "") or " /static/" in answer.asked


_HEADERS: dict[str, Callable[[Answer], bool]] = {
    "X-Content-Type-Options": lambda answer: answer.response.get("X-Content-Type-Options") == "nosniff",
    "X-Frame-Options": lambda answer: answer.response.get("X-Frame-Options") == "DENY",
    "Referrer-Policy": lambda answer: answer.response.get("Referrer-Policy") in ("same-origin", "no-referrer"),
    "Content-Security-Policy": _has_policy,
    "Cache-Control": _is_not_kept,
    "Server": lambda answer: "Server" not in answer.response,
}


class _Door(ClientHandler):
    """Django's handler behind what our WSGI door does first."""

    def __call__(self, environ: dict[str, Any]) -> Any:
        return super().__call__({**environ, "CONTENT_TYPE": tamed(environ.get("CONTENT_TYPE", ""))})


# Shared, because middleware is set up once a handler, which takes as long as ten requests.
_HANDLER = _Door(enforce_csrf_checks=True)


@dataclass
class House:
    """The site with somebody of every kind, and one row of every model that the admin shows."""

    member: User
    clerk: User
    keeper: User
    newcomer: User
    leaver: User
    doors: list[Door] = field(default_factory=list)
    _sessions: dict[str, str] = field(default_factory=dict)

    def browser(self, role: str) -> Client:
        """A fresh browser of a stranger, member, clerk (staff without rights) or keeper (superuser)."""
        browser = Client(raise_request_exception=False)
        browser.handler = _HANDLER
        browser.cookies = SimpleCookie({settings.CSRF_COOKIE_NAME: TOKEN})
        if role != "stranger":
            browser.cookies[settings.SESSION_COOKIE_NAME] = self._sessions[role]
        return browser

    def sign_in(self, *roles: str) -> None:
        for role in roles:
            browser = Client()
            browser.force_login(getattr(self, role), "accounts.backends.IdentityBackend")
            self._sessions[role] = browser.cookies[settings.SESSION_COOKIE_NAME].value


def ask(browser: Client, method: str, path: str, **request: Any) -> Answer:
    """Send one request, note what it wrote, and take it back."""
    with _writes() as wrote, _taken_back():
        started = time.perf_counter()
        response = browser.generic(method, path, **request)
        seconds = time.perf_counter() - started
    return Answer(f"{method} {path[:120]}", response, seconds, wrote)


def post(browser: Client, path: str, body: str | bytes = b"", *, token: str = TOKEN, **request: Any) -> Answer:
    """Send a form with the CSRF token in a header, so that any body may be sent."""
    request = {"content_type": "application/x-www-form-urlencoded", "HTTP_X_CSRFTOKEN": token} | request
    return ask(browser, "POST", path, data=body, **request)


@contextmanager
def _taken_back() -> Iterator[None]:
    before = transaction.savepoint()
    try:
        yield
    finally:
        transaction.savepoint_rollback(before)


# What an answer may write that refuses everything: the session of who asked, the try of a password, and the note that
# somebody used the page of an invitation.
_KEPT_BY_LOOKING = ("accounts_session", "accounts_loginattempt", "accounts_opening")


@contextmanager
def _writes() -> Iterator[list[str]]:
    """Collect the statements that changed a row, sessions apart: looking at a page may begin one."""
    wrote: list[str] = []

    def watch(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        statement = str(sql)
        changes = statement.startswith(("INSERT", "UPDATE", "DELETE")) and context["cursor"].rowcount
        if changes and not any(table in statement for table in _KEPT_BY_LOOKING):
            wrote.append(statement[:80])
        return result

    with connection.execute_wrapper(watch):
        yield wrote


def told(faults: list[str]) -> str:
    """The first of many faults, a line each."""
    return "\n".join([f"{len(faults)} faults", *faults[:20]])


# Finding the doors


def _routes(resolver: URLResolver, before: str = "") -> Iterator[str]:
    for entry in resolver.url_patterns:
        route = before + str(entry.pattern)
        if isinstance(entry, URLPattern):
            yield route
        else:
            yield from _routes(entry, route)


def find_doors(house: House) -> list[Door]:
    """Walk the URLconf; every argument is filled with what exists, and then with what does not."""
    return [Door(route, tuple(_paths(house, route))) for route in _routes(get_resolver())]


def _paths(house: House, route: str) -> Iterator[str]:
    names = [plain or named for plain, named, _choices in _ARGUMENT.findall(route)]
    if not names:
        yield f"/{route}"
        return
    for values in _fillings(house, route, names):
        filled = iter(values)
        path = _ARGUMENT.sub(lambda _found: quote(next(filled), safe="/"), route)  # noqa: B023 - used at once
        yield "/" + path.replace("^", "").removesuffix("$")


def _fillings(house: House, route: str, names: list[str]) -> Iterator[Sequence[str]]:
    opens = _opening(house, route)
    yield opens
    for place in range(len(names)):
        for odd in ODD:
            yield [*opens[:place], odd, *opens[place + 1 :]]


def _opening(house: House, route: str) -> Sequence[str]:
    if route in _TOKENS:
        return _TOKENS[route](house)
    for model in admin.site._registry:
        if route.startswith(f"admin/{model._meta.app_label}/{model._meta.model_name}/<path:object_id>/"):
            row = model._default_manager.first()
            assert row is not None, f"{model.__name__} is in the admin: add a row of it to _furnish in {__file__}"
            return [admin_quote(str(row.pk))]
    if "(?P<app_label>" in route:
        return ["accounts"]
    pytest.fail(f"The route {route!r} has arguments: say in _TOKENS of {__file__} what opens it.")


_TOKENS: dict[str, Callable[[House], Sequence[str]]] = {
    "accounts/verify/<str:token>/": lambda house: [links.verification_token(house.newcomer)],
    "accounts/delete/cancel/<str:token>/": lambda house: [links.cancel_erasure_token(house.leaver)],
    "accounts/password/reset/<str:uidb64>/<str:token>/": lambda house: (
        links.set_password_url(User.objects.get(pk=house.member.pk)).rstrip("/").split("/")[-2:]
    ),
    "accounts/email/confirm/<str:token>/": lambda house: [_token(links.confirm_address_url(_change(house, "waiting")))],
    "accounts/email/undo/<str:token>/": lambda house: [_token(links.undo_address_url(_change(house, "confirmed")))],
    "accounts/data/<uuid:export_id>/": lambda house: [str(DataExport.objects.get().pk)],
    "accounts/login/second-factor/recovery/<str:token>/": lambda house: [
        links.recovery_url(house.member, RecoveryLink.objects.get().nonce).rstrip("/").split("/")[-1]
    ],
    "accounts/invitation/<str:token>/": lambda house: [
        _token(links.invitation_url(Invitation.objects.get(), mailed=False))
    ],
    # An event may be about no object, and then has no history of one.
    "admin/auditlog/record/<path:object_id>/history/": lambda house: [
        str(Record.objects.filter(object_id=house.member.pk).latest("id").pk)
    ],
    **{
        f"accounts/invitations/<uuid:invitation_id>/{action}": lambda house: [str(Invitation.objects.get().pk)]
        for action in ("", "link/", "resend/", "replace/", "revoke/")
    },
    "accounts/security/sessions/<uuid:session_id>/end/": lambda house: [str(Session.objects.get(user=house.member).pk)],
    **{
        f"accounts/security/second-factor/<uuid:factor_id>/{action}": lambda house: [
            str(AuthenticatorApp.objects.get(user=house.member).pk)
        ]
        for action in ("", "remove/")
    },
    "admin/r/<path:content_type_id>/<path:object_id>/": lambda house: [
        str(ContentType.objects.get_for_model(User).pk),
        str(house.member.pk),
    ],
    **dict.fromkeys(["health/jobs/<uuid:run_id>", "health/jobs/<uuid:run_id>/"], lambda house: [_newest_run()]),
    "admin/healthcheck/run/start/<slug:name>/": lambda house: ["optimize"],
    **dict.fromkeys(["health/<slug:name>", "health/<slug:name>/"], lambda house: ["migrations"]),
    r"admin/(?P<url>.*)$": lambda house: ["nothing/of/the/kind/"],
    "dev/mail/<str:name>/": lambda house: [_newest_mail()],
    "dev/mail/<str:name>/html/": lambda house: [_newest_mail()],
}


def _token(link: str) -> str:
    return link.rstrip("/").split("/")[-1]


def _change(house: House, state: str) -> AddressChange:
    return AddressChange.objects.get(user=house.member, state=state)


def _newest_run() -> str:
    return str(Run.objects.latest("asked_at").pk)


def _newest_mail() -> str:
    return max(settings.MAIL_DIRECTORY.glob("*.eml")).stem


# Furnishing it


def furnish(mails: Any) -> House:
    """Make the cast and one row of every model in the admin; mails go to the directory `mails`."""
    settings.MAIL_DIRECTORY = mails
    message = EmailMessage("Hello", "Hello", to=["owner@example.com"])
    MailDirectoryBackend().send_messages([message])
    house = House(
        member=UserFactory.create(username="member"),
        clerk=UserFactory.create(username="clerk", is_staff=True),
        keeper=UserFactory.create(username="keeper", is_staff=True, is_superuser=True),
        newcomer=UserFactory.create(username="newcomer", email_verified_at=None),
        leaver=UserFactory.create(username="leaver", erase_at=timezone.now() + timedelta(days=1)),
    )
    _furnish(house)
    house.sign_in("member", "clerk", "keeper")  # first, because a link to choose a password dies with a login
    house.doors = find_doors(house)
    return house


def _furnish(house: House) -> None:
    Group.objects.create(name="porters")
    give_phone(house.member)
    RecoveryLink.objects.create(user=house.member)
    Run.objects.create(operation="optimize", state=Run.State.DONE, asked_by_kind="user", asked_by_label="keeper")
    Import.objects.create(kind="users", state="checked", file_name="people.csv", rows=0, started_by=house.keeper)
    LoginAttempt.objects.create(account=str(house.member.pk), network="192.0.2.1")
    InvitationFactory.create(invited_by=house.keeper, max_uses=1000)
    jobs.send_mail_to_user.enqueue("verify_email", str(house.newcomer.pk))
    now = timezone.now()
    before = {"old_email": "before@example.com", "new_email": house.member.email, "undo_until": now + timedelta(days=7)}
    AddressChange.objects.create(user=house.member, state="confirmed", confirmed_at=now, **before)
    AddressChange.objects.create(user=house.member, old_email=house.member.email, new_email="after@example.com")
    DataExport.objects.create(user=house.member, state="ready", made_at=now, expires_at=now + timedelta(days=2))
    Sample.objects.create(at=now, status="pass", milliseconds=0.7)
    ConnectionSample.objects.create(at=now, active=1, idle=2, idle_in_transaction=0, waiting=0, most=97)
    Incident.objects.create(check_name="disk", status="warn", code="filling", began_at=now)
