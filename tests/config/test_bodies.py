"""How much may be sent: 16 KB by strangers and on their pages, 1 MB when signed in, never an unknown length."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import bcrypt
import pytest
from django.test import Client

from accounts.models import User
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

LIMIT = 16 * 1024
MEGABYTE = 1024 * 1024
FORM = "application/x-www-form-urlencoded"
DOORS = [
    "/accounts/signup/",
    "/accounts/login/",
    "/admin/login/",
    "/accounts/password/reset/",
    "/accounts/password/reset/MQ/set-password/",
    "/accounts/verify/",
    "/accounts/verify/again/",
]
FIELDS = {"username": "anna", "email": "anna@example.com", "password": "Correct-Horse-7-Battery"}


@pytest.fixture
def hashes(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The password hashes that were computed."""
    made: list[bytes] = []
    hashpw = bcrypt.hashpw

    def counted(password: bytes, salt: bytes) -> bytes:
        made.append(hashpw(password, salt))
        return made[-1]

    monkeypatch.setattr(bcrypt, "hashpw", counted)
    return made


def body_of(length: int) -> bytes:
    """A form's body of exactly `length` bytes."""
    body = urlencode(FIELDS) + "&padding="
    return (body + "a" * (length - len(body))).encode()


def send(browser: Client, address: str, length: int) -> Any:
    return browser.generic("POST", address, body_of(length), FORM)


@pytest.fixture
def members_browser() -> Client:
    browser = Client()
    browser.force_login(UserFactory.create())
    return browser


@pytest.mark.parametrize("address", DOORS)
def test_16_kilobytes_reach_a_strangers_page(address: str) -> None:
    assert send(Client(), address, LIMIT).status_code in (200, 302, 303, 404, 422)


@pytest.mark.parametrize("address", [*DOORS, "/", "/accounts/profile/", "/admin/", "/admin/accounts/user/"])
def test_one_byte_more_is_refused_unhashed_and_before_the_form_is_parsed(address: str, hashes: list[bytes]) -> None:
    refused = send(Client(enforce_csrf_checks=True), address, LIMIT + 1)
    assert refused.status_code == 413  # the CSRF check, which reads the form, would have said 403
    assert refused["X-Request-ID"] in refused.content.decode() and "site/site" in refused.content.decode()
    assert hashes == []
    assert not User.objects.exists()


def test_16_kilobytes_are_hashed_so_the_counter_counts(hashes: list[bytes]) -> None:
    send(Client(), "/accounts/signup/", LIMIT)
    send(Client(), "/accounts/login/", LIMIT)
    assert len(hashes) == 2


def test_whoever_is_signed_in_may_send_a_megabyte_and_no_byte_more(members_browser: Client) -> None:
    # The form is read and explains what it lacks.
    assert send(members_browser, "/accounts/profile/", LIMIT + 1).status_code == 422
    assert send(members_browser, "/accounts/profile/", MEGABYTE).status_code == 422
    assert send(members_browser, "/accounts/profile/", MEGABYTE + 1).status_code == 413


@pytest.mark.parametrize("address", DOORS)
def test_a_strangers_page_takes_no_more_from_those_signed_in(members_browser: Client, address: str) -> None:
    assert send(members_browser, address, LIMIT + 1).status_code == 413


def test_a_body_of_unknown_length_is_refused_instead_of_taken_for_an_empty_one() -> None:
    refused = Client(headers={"Transfer-Encoding": "chunked"}).post("/accounts/signup/", FIELDS)
    assert refused.status_code == 411
    assert refused["X-Request-ID"] in refused.content.decode()
    assert not User.objects.exists()


@pytest.mark.parametrize("length", ["abc", "-1", "1e9", "²", " 5 ", "9" * 5000])
def test_a_length_that_is_no_number_is_a_400(length: str) -> None:
    for address in ("/accounts/signup/", "/accounts/login/", "/nowhere/"):
        assert Client().generic("POST", address, b"", FORM, CONTENT_LENGTH=length).status_code == 400


def post_by_asgi(headers: list[tuple[bytes, bytes]], chunks: list[bytes], *, stalls: bool = False) -> tuple[int, bytes]:
    """Post to the sign-up page by ASGI, without a token; returns the status and the page.

    A caller who stalls announces more after the last chunk, and never sends it.
    """
    from config.asgi import application

    sent: list[Any] = []
    coming = list(chunks)

    async def receive() -> dict[str, Any]:
        if not coming:
            await asyncio.sleep(60)  # the caller stays on the line
        return {"type": "http.request", "body": coming.pop(0), "more_body": stalls or bool(coming)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/accounts/signup/", "query_string": b""}
    answering = application({**scope, "headers": [(b"host", b"localhost"), *headers]}, receive, send)
    asyncio.run(asyncio.wait_for(answering, 20))
    return sent[0]["status"], b"".join(part.get("body", b"") for part in sent[1:])


@pytest.mark.parametrize(
    ("headers", "chunks", "status"),
    [
        ([(b"content-length", b"20")], [b"a" * 10, b"b" * 10], 403),  # read, and found without a token
        ([(b"content-length", b"16385")], [b"a" * 16_385], 413),
        ([(b"content-length", b"9000000")], [b"a" * 1_000_000] * 9, 413),
        ([(b"transfer-encoding", b"chunked")], [b"a" * 1_000_000] * 9, 411),
        ([], [b"a" * 1_000_000] * 9, 403),
    ],
)
def test_the_asgi_door_refuses_alike(headers: list[tuple[bytes, bytes]], chunks: list[bytes], status: int) -> None:
    answered, page = post_by_asgi(headers, chunks)
    assert answered == status
    assert b"<h1" in page and b"Reference" in page


def test_the_asgi_door_does_not_wait_for_what_it_refuses() -> None:
    assert post_by_asgi([(b"content-length", b"9000000")], [b"a" * 1_000_000], stalls=True)[0] == 413
    assert post_by_asgi([(b"transfer-encoding", b"chunked")], [b"a" * 1_000_000], stalls=True)[0] == 411


@pytest.mark.parametrize(
    ("announced", "chunks", "handed_over"),
    [
        (b"6", [b"abc", b"def"], b"abcdef"),
        (b"4", [b"abc", b"def"], b"abcd"),
        (b"9", [b"abc", b"def"], b"abcdef"),
        (b"", [b"abc", b"def"], b""),
        (b"1048577", [b"a" * 1_048_577], b""),
    ],
)
def test_django_stores_no_byte_that_was_not_announced_or_is_too_many(
    announced: bytes, chunks: list[bytes], handed_over: bytes
) -> None:
    from config.asgi import _bounded

    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages[-1]["more_body"] = False
    messages.append({"type": "http.disconnect"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def read() -> bytes:
        bounded = _bounded({"headers": [(b"content-length", announced)]}, receive)
        body = b""
        while (message := await bounded())["more_body"]:
            body += message["body"]
        assert await bounded() == {"type": "http.disconnect"}
        return body + bytes(message["body"])

    assert asyncio.run(read()) == handed_over
