"""Error pages: in the site's look, with the request id, without database and context."""

from __future__ import annotations

import json
import logging

import pytest
from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path
from structlog.testing import capture_logs

from config import errors, urls
from tests.factories import UserFactory


def broken_database(request: HttpRequest) -> HttpResponse:
    raise OperationalError("could not connect to server")


def lost_connection(request: HttpRequest) -> HttpResponse:
    raise InterfaceError("connection already closed")


def bug(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("tell nobody about /etc/secret")


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def form(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{len(request.POST)} fields")


urlpatterns = [
    *urls.urlpatterns,
    path("broken-database/", broken_database),
    path("lost-connection/", lost_connection),
    path("bug/<str:token>/", bug),
    path("forbidden/", forbidden),
    path("form/", form),
]
handler400 = "config.errors.bad_request"
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.not_found"
handler500 = "config.errors.server_error"

pytestmark = pytest.mark.urls(__name__)


@pytest.fixture
def visitor() -> Client:
    return Client(raise_request_exception=False, enforce_csrf_checks=True)


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("/nowhere/", 404),
        ("/forbidden/", 403),
        ("/broken-database/", 503),
        ("/lost-connection/", 503),
        ("/bug/x/", 500),
        ("/form/?q=%00", 400),
    ],
)
def test_each_error_has_a_page_with_the_request_id_and_without_the_database(
    visitor: Client, address: str, status: int
) -> None:
    response = visitor.get(address)
    page = response.content.decode()
    assert response.status_code == status
    assert response["X-Request-ID"] in page
    assert "<h1" in page and "site/site" in page  # in the site's look, not the plain fall-back
    assert "Traceback" not in page and "secret" not in page


def test_a_database_fault_says_when_to_come_back(visitor: Client) -> None:
    assert visitor.get("/broken-database/")["Retry-After"] == "5"


def test_a_post_without_token_gets_the_csrf_page(visitor: Client) -> None:
    response = visitor.post("/form/", {"a": "b"})
    assert response.status_code == 403
    assert response.templates[0].name == "403_csrf.html"


@override_settings(DATA_UPLOAD_MAX_MEMORY_SIZE=10)
def test_a_body_too_large_gets_413() -> None:
    assert Client().post("/form/", {"a": "b" * 100}).status_code == 413


def test_trace_is_refused(visitor: Client) -> None:
    response = visitor.generic("TRACE", "/form/")
    assert response.status_code == 405
    assert response["X-Request-ID"] in response.content.decode()


def test_when_even_the_page_fails_there_is_a_plain_line(visitor: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_template(*args: object, **kwargs: object) -> str:
        raise RuntimeError("templates are gone")

    monkeypatch.setattr(errors, "render_to_string", no_template)
    response = visitor.get("/bug/x/")
    assert response.status_code == 500
    assert response.content.decode() == f"500 Internal Server Error. Reference: {response['X-Request-ID']}\n"


def test_an_outage_is_one_line_without_a_traceback(visitor: Client, log_lines: list[str]) -> None:
    visitor.get("/broken-database/")
    first, _request = [json.loads(line) for line in log_lines]
    assert (first["status"], first["error"]) == (503, "could not connect to server")
    assert "exception" not in first


def test_head_is_the_page_without_its_body(visitor: Client) -> None:
    page, head = visitor.get("/nowhere/"), visitor.head("/nowhere/")
    assert (head.status_code, head.content) == (404, b"")
    assert int(head["Content-Length"]) == len(page.content)


def test_the_request_id_joins_header_log_line_and_page(visitor: Client, log_lines: list[str]) -> None:
    response = visitor.get("/bug/a-secret-token/")
    lines = [json.loads(line) for line in log_lines]
    assert {line["request_id"] for line in lines} == {response["X-Request-ID"]}
    assert [line["event"] for line in lines] == ["Internal Server Error", "request"]


def test_no_log_line_holds_the_token_of_an_address(visitor: Client, log_lines: list[str]) -> None:
    visitor.get("/bug/a-secret-token/")
    assert len(log_lines) == 2
    assert "a-secret-token" not in "".join(log_lines)


def test_a_stranger_cannot_choose_the_request_id_but_our_proxy_can(visitor: Client) -> None:
    given = "chosen-by-caller-1"
    assert visitor.get("/nowhere/", headers={"X-Request-ID": given})["X-Request-ID"] != given
    with override_settings(TRUSTED_PROXIES=1):
        assert visitor.get("/nowhere/", headers={"X-Request-ID": given})["X-Request-ID"] == given
        assert visitor.get("/nowhere/", headers={"X-Request-ID": "<script>"})["X-Request-ID"] != "<script>"


def test_every_answer_has_the_security_headers(visitor: Client) -> None:
    for address in ("/nowhere/", "/bug/x/", "/form/"):
        response = visitor.get(address)
        assert response["Content-Security-Policy"] == (
            "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
        )
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["X-Frame-Options"] == "DENY"
        assert response["Referrer-Policy"] == "same-origin"
        assert response["Cache-Control"] == "no-store, private"


@override_settings(SECURE_HSTS_SECONDS=63_072_000, SECURE_HSTS_INCLUDE_SUBDOMAINS=True, SECURE_SSL_REDIRECT=True)
def test_with_tls_every_answer_asks_for_tls_and_without_it_leads_there() -> None:
    visitor = Client(raise_request_exception=False)
    asked = [visitor.get(address, secure=True) for address in ("/nowhere/", "/bug/x/", "/form/", "/form/?q=%00")]
    asked += [visitor.generic("TRACE", "/form/", secure=True), visitor.delete("/", secure=True)]
    asked += [visitor.get("/form/", headers={"Cookie": 'a="\\000"'}, secure=True)]
    assert [answer.status_code for answer in asked] == [404, 500, 200, 400, 405, 405, 400]
    assert {answer.get("Strict-Transport-Security") for answer in asked} == {"max-age=63072000; includeSubDomains"}
    assert visitor.get("/nowhere/")["Location"] == "https://testserver/nowhere/"


def test_the_root_logger_is_the_structured_one() -> None:
    assert [type(handler.formatter).__name__ for handler in logging.getLogger().handlers[:1]] == ["ProcessorFormatter"]


@pytest.mark.django_db
def test_a_forbidden_page_names_in_the_log_who_asked(visitor: Client) -> None:
    owner = UserFactory.create()
    visitor.force_login(owner)
    with capture_logs() as lines:
        assert visitor.get("/accounts/invitations/").status_code == 403
    (line,) = [line for line in lines if line["event"] == "request.forbidden"]
    assert (line["user"], line["route"]) == (str(owner.pk), "accounts/invitations/")
