"""Passwords known from leaks: the list that is always there, and the service that may be asked."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connections
from django.test import Client

from accounts import breaches, services
from accounts.breaches import leaked_suffixes
from accounts.models import User
from accounts.policy import judge
from tests.accounts.conftest import codes, jobs, sign_in, text_of
from tests.accounts.test_passwords import setting
from tests.factories import PASSWORD

LEAKED = "Leaked-Long-Ago-1"
DIGEST = hashlib.sha1(LEAKED.encode()).hexdigest().upper()  # noqa: S324 - what the service sorts by
OTHER = "0018A45C4D1DEF81644B54AB7F969B88D65"
MOST = 20  # seconds within which even a busy machine gives up on a service that hangs


class Service:
    """A range API of one's own on a real socket; `answer` is what it sends after the headers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.answer: Callable[[], bytes] = lambda: b""
        self.status = 200
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append((self.path, dict(self.headers)))
                body = service.answer()
                self.send_response(service.status)
                self.send_header("Location", "/elsewhere")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *args: None  # type: ignore[method-assign]  # who asked has left
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/range/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def knows(self, *suffixes: str) -> None:
        lines = [f"{OTHER}:3", *suffixes]
        self.answer = lambda: "\r\n".join(lines).encode()


@pytest.fixture
def service(settings: Any) -> Iterator[Service]:
    made = Service()
    made.knows(f"{DIGEST[5:]}:7")
    settings.PASSWORD_BREACH_CHECK, settings.PASSWORD_BREACH_URL = "remote", made.url
    yield made
    made.server.shutdown()
    made.server.server_close()


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "breach_check.failed" in record.getMessage()]


# --- the list ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "by_default", "when_off"),
    [
        ("letmein", True, True),
        ("LetMeIn", True, True),
        (" letmein ", True, True),
        ("WebSolutions", True, False),  # in zxcvbn's list only
        ("unheard-of", False, False),
    ],
)
def test_the_most_used_are_refused_and_more_of_them_by_default(
    settings: Any, password: str, by_default: bool, when_off: bool
) -> None:
    def is_common() -> bool:
        return "password_too_common" in [error.code for error in judge(password).refusals]

    assert is_common() == by_default
    settings.AUTH_PASSWORD_VALIDATORS = setting("AUTH_PASSWORD_VALIDATORS", PASSWORD_BREACH_CHECK="off")
    assert is_common() == when_off


def test_by_default_nobody_is_asked(service: Service, settings: Any) -> None:
    settings.PASSWORD_BREACH_CHECK = setting("PASSWORD_BREACH_CHECK")
    breaches.require_unknown(LEAKED)
    assert service.asked == []
    assert setting("PASSWORD_BREACH_CHECK") == "offline"


# --- the service ------------------------------------------------------------------------------------


def test_a_leaked_password_is_refused_and_five_digits_are_all_that_is_told(service: Service) -> None:
    with pytest.raises(ValidationError) as refused:
        breaches.require_unknown(LEAKED)
    assert refused.value.code == "password_breached"
    ((path, headers),) = service.asked
    assert path == f"/range/{DIGEST[:5]}"
    assert headers["Add-Padding"] == "true"
    assert DIGEST[5:] not in str(headers)
    service.knows(f"{DIGEST[5:]}:0")  # padding
    breaches.require_unknown(LEAKED)


@pytest.mark.parametrize("password", [PASSWORD, "\ud800" * 20, "\0", "x" * 1024, "🙈" * 20])
def test_an_unknown_password_passes_whatever_it_is_made_of(service: Service, password: str) -> None:
    breaches.require_unknown(password)
    assert len(service.asked) == 1


def test_what_is_no_line_is_passed_over() -> None:
    suffix = DIGEST[5:]
    assert leaked_suffixes(f"{suffix}:1") == {suffix}
    assert leaked_suffixes(f"\ufeffnonsense\r\n\n {suffix.lower()} : 00012 \r\n{OTHER}:0\n{OTHER}\n:5\n") == {suffix}
    for garbage in (
        "",
        "<html>",
        f"{suffix}:",
        f"{suffix}:-1",
        f"{suffix}0:1",
        f"{suffix}:1:1",
        f"{suffix}:{'9' * 99}",
    ):
        assert leaked_suffixes(garbage) == set()


def hang() -> bytes:
    time.sleep(MOST)
    return b""


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (500, lambda: b""),
        (429, lambda: b"slow down"),
        (404, lambda: b""),
        (302, lambda: b""),
        (200, lambda: b"\xff" * 2_000_000),
        (200, hang),
    ],
    ids=["broken", "busy", "absent", "moved", "endless", "hanging"],
)
def test_a_service_that_fails_keeps_nobody_and_is_noted(
    service: Service, caplog: pytest.LogCaptureFixture, status: int, answer: Callable[[], bytes]
) -> None:
    service.status, service.answer = status, answer
    begun = time.monotonic()
    breaches.require_unknown(LEAKED)
    assert time.monotonic() - begun < MOST / 2
    assert [path for path, _headers in service.asked] == [f"/range/{DIGEST[:5]}"]  # and not elsewhere
    (line,) = failures(caplog)
    assert LEAKED not in line
    assert DIGEST[5:] not in line


def test_nobody_listens_or_the_address_is_none(
    service: Service, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and does not listen
        for url in (f"http://127.0.0.1:{bound.getsockname()[1]}/", "http://[", "http://\x7f/", "nonsense:"):
            settings.PASSWORD_BREACH_URL = url
            breaches.require_unknown(LEAKED)
    assert len(failures(caplog)) == 4


def test_a_service_that_drips_is_left_after_the_budget(
    service: Service, caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    """A byte in time each time would keep a deadline by operation for ever."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            connected, _address = listening.accept()
            with connected:
                connected.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                try:
                    for _byte in range(10 * MOST):
                        connected.sendall(b"A")
                        time.sleep(0.1)
                except OSError:
                    left.set()

        left = threading.Event()
        threading.Thread(target=drip, daemon=True).start()
        settings.PASSWORD_BREACH_URL = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        begun = time.monotonic()
        breaches.require_unknown(LEAKED)
        assert time.monotonic() - begun < MOST / 2
        assert left.wait(MOST)  # its thread does not stay behind either
    assert len(failures(caplog)) == 1


def test_open_questions_are_bounded(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    taken = [breaches._asking.acquire(blocking=False) for _each in range(breaches.MOST_AT_ONCE)]
    try:
        assert all(taken)
        breaches.require_unknown(LEAKED)
    finally:
        breaches._asking.release(len(taken))
    assert service.asked == []
    assert "too many questions are open" in failures(caplog)[0]
    assert breaches.is_known(LEAKED)


# --- where it is asked ------------------------------------------------------------------------------

SIGNUP_FORM = {"username": "jane", "email": "jane@example.com", "password": LEAKED}


@pytest.mark.django_db
def test_a_signup_with_a_leaked_password_is_refused_beside_the_field(stranger: Client, service: Service) -> None:
    response = stranger.post("/accounts/signup/", SIGNUP_FORM)
    assert response.status_code == 422
    assert codes(response.context["form"], "password") == ["password_breached"]
    assert "Not accepted yet" in text_of(response)  # the verdict follows
    assert not User.objects.exists()
    assert jobs() == []
    service.status = 500
    assert stranger.post("/accounts/signup/", SIGNUP_FORM).status_code == 303


@pytest.mark.django_db
def test_a_change_to_a_leaked_password_is_refused(owner: User, service: Service) -> None:
    browser = Client()
    sign_in(browser, "owner")
    form = {"old_password": PASSWORD, "new_password1": LEAKED, "new_password2": LEAKED}
    response = browser.post("/accounts/password/change/", form)
    assert response.status_code == 422
    assert codes(response.context["form"], "new_password1") == ["password_breached"]
    assert User.objects.get().check_password(PASSWORD)


@pytest.mark.django_db
def test_the_command_refuses_it_too(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_PASSWORD", LEAKED)
    with pytest.raises(CommandError, match="known from a leak"):
        call_command("create_user", "jane", "jane@example.com")
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_it_is_asked(owner: User, service: Service) -> None:
    """Neither a signup's, nor that of a change or a reset."""
    open_transactions: list[bool] = []
    ours = connections["default"]  # of this thread, looked at from the service's

    def answer() -> bytes:
        open_transactions.append(ours.in_atomic_block)
        return b""

    service.answer = answer
    services.sign_up(services.SignUp(username="jane", email="j@example.com", password=LEAKED, browser="b"))
    services.change_password(owner, LEAKED)
    assert open_transactions == [False, False]
