"""Rule zero: no request, however malformed, gets a 5xx or changes anything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.test import Client

from config.content_type import MALFORMED, tamed

pytestmark = pytest.mark.django_db

ADDRESSES = [
    "/",
    "/accounts/signup/",
    "/accounts/login/",
    "/accounts/verify/",
    "/accounts/verify/again/",
    "/accounts/password/reset/",
    "/accounts/profile/",
    "/admin/login/",
    "/admin/accounts/user/",
    "/static/nothing.css",
    "/nowhere/",
]


@pytest.fixture
def visitor() -> Client:
    return Client(raise_request_exception=False)


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_quoted_nul_in_any_cookie_is_a_400(visitor: Client, address: str) -> None:
    for name in ("sessionid", "csrftoken", "messages", "anything"):
        assert visitor.get(address, headers={"Cookie": f'{name}="abc\\000"'}).status_code == 400


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("odd", ["%00", "?q=%00", "?next=%00", "?username=%00", "%ff%fe", "?%ff=%fe", "?" + "a" * 3000])
def test_odd_paths_and_query_strings_are_no_server_error(visitor: Client, address: str, odd: str) -> None:
    assert visitor.get(address + odd).status_code < 500


@pytest.mark.parametrize(
    "charset",
    ["hex", "idna", "undefined", "rot13", "base64", "utf-7", "utf8", "utf-16", "latin-1", "nonsense", "ünï", "\\"],
)
@pytest.mark.parametrize("query", ["", "next=x"])
def test_a_form_in_another_charset_is_a_400(charset: str, query: str) -> None:
    kind = f"application/x-www-form-urlencoded; charset={charset}"
    assert wsgi({"CONTENT_TYPE": kind, "QUERY_STRING": query}) == "400 Bad Request"


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf-8;"])
def test_utf8_in_any_spelling_is_understood(charset: str) -> None:
    assert wsgi({"CONTENT_TYPE": f"application/x-www-form-urlencoded; charset={charset}"}) == "403 Forbidden"


@pytest.mark.parametrize("header", ["HTTP_USER_AGENT", "HTTP_ACCEPT", "HTTP_REFERER", "REMOTE_ADDR"])
def test_a_nul_in_a_header_is_a_400(visitor: Client, header: str) -> None:
    kind = "application/x-www-form-urlencoded"
    odd: dict[str, Any] = {header: "a\0b"}
    assert visitor.generic("POST", "/accounts/login/", b"username=a&password=b", kind, **odd).status_code == 400


@pytest.mark.parametrize(
    "header",
    [
        "text/plain; charset*=hex''x",
        "text/plain; charset*=undefined''%00",
        "text/plain; name*0*=idna''x",
        "multipart/form-data; boundary*=rot13''x",
        "x" * 300,
        "no-slash",
        "text/plain; charset=\x00",
    ],
)
def test_what_django_would_decode_by_the_callers_codec_is_tamed(header: str) -> None:
    assert tamed(header) == MALFORMED


@pytest.mark.parametrize(
    "header",
    [
        "",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=----WebKitFormBoundaryAbC123",
        'multipart/form-data; boundary="a b"; charset=utf-8',
        "application/json;charset=utf-8",
    ],
)
def test_what_browsers_send_passes(header: str) -> None:
    assert tamed(header) == header


def wsgi(environ: dict[str, Any]) -> str:
    from io import BytesIO

    from config.wsgi import application

    seen: list[str] = []
    base = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/accounts/signup/",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.input": BytesIO(b""),
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "localhost",
    }
    answer = application({**base, **environ}, lambda status, headers: seen.append(status))
    b"".join(answer)
    return seen[0]


def test_the_wsgi_door_answers_a_hostile_content_type_with_400() -> None:
    assert wsgi({"CONTENT_TYPE": "text/plain; charset*=hex''x"}) == "400 Bad Request"


@pytest.mark.parametrize("host", ["evil.example", "localhost:1\x00", "local host", "[::1", "a" * 300, ""])
def test_a_forged_host_is_a_400(host: str) -> None:
    assert wsgi({"HTTP_HOST": host, "SERVER_NAME": "evil.example"}) == "400 Bad Request"


def test_the_asgi_door_answers_alike() -> None:
    from config.asgi import application

    async def ask(path: str, content_type: bytes) -> int:
        sent: list[Any] = []

        messages = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> dict[str, Any]:
            if (message := next(messages, None)) is None:
                await asyncio.sleep(60)  # the caller stays on the line
            return message or {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", content_type)],
        }
        await application(scope, receive, send)
        return int(sent[0]["status"])

    assert asyncio.run(ask("/nowhere/", b"text/plain; charset*=hex''x")) == 400
    assert asyncio.run(ask("/nowhere/", b"text/plain")) == 404
    assert asyncio.run(ask("/health/live", b"text/plain")) == 200


def test_wrong_methods_are_a_405_page_with_allow(visitor: Client) -> None:
    for address in ("/", "/accounts/signup/", "/accounts/login/", "/accounts/logout/", "/accounts/verify/"):
        response = visitor.delete(address)
        assert response.status_code == 405
        assert "POST" in response["Allow"] or "GET" in response["Allow"]
        assert response["X-Request-ID"] in response.content.decode()
