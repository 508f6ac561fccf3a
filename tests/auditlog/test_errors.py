"""Errors that nobody had foreseen are recorded, as long as that makes nothing worse."""

from __future__ import annotations

import pytest
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from auditlog import events
from auditlog.models import Record
from config import errors

handler500 = errors.server_error


def bug(request: HttpRequest, secret: str) -> HttpResponse:
    raise LookupError(f"a mistake about {secret}")


urlpatterns = [path("bug/<secret>/", bug)]
pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]


@pytest.fixture(autouse=True)
def allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_errors", events._Allowance(3))


def errors_recorded() -> list[Record]:
    return list(Record.objects.filter(action="error", resource="request").order_by("id"))


def meet_bug() -> int:
    return Client(raise_request_exception=False).get("/bug/token-4711/").status_code


def test_an_error_is_recorded_with_its_kind_and_route_and_without_its_words() -> None:
    before = len(errors_recorded())
    assert meet_bug() == 500
    (record,) = errors_recorded()[before:]
    assert (record.object_label, record.new) == ("bug/<secret>/", {"error": "LookupError"})
    assert "4711" not in str(vars(record))
    assert record.actor_kind == "anonymous"


def test_whoever_provokes_errors_cannot_fill_the_trail() -> None:
    before = len(errors_recorded())
    assert [meet_bug() for _time in range(5)] == [500] * 5
    assert len(errors_recorded()) - before == 3


def test_after_a_minute_they_are_recorded_again() -> None:
    allowance = events._Allowance(1)
    assert [allowance.take(), allowance.take()] == [True, False]
    allowance.minute -= 60
    assert [allowance.take(), allowance.take()] == [True, False]


@pytest.mark.parametrize("failing", ["SELECT 1 / 0", None])
def test_when_it_cannot_be_recorded_the_page_is_the_same(failing: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Client(raise_request_exception=False).get("/bug/x/")

    def refuse(*args: object, **kwargs: object) -> None:
        if failing is None:
            raise TypeError("a mistake in recording")
        with connection.cursor() as cursor:
            cursor.execute(failing)

    monkeypatch.setattr(events, "record", refuse)
    answer = Client(raise_request_exception=False).get("/bug/x/")
    assert answer.status_code == whole.status_code == 500
    pages = [one.content.decode().replace(one["X-Request-ID"], "") for one in (answer, whole)]
    assert pages[0] == pages[1]
    try:
        bug(HttpRequest(), "x")
    except LookupError:
        events.record_error(HttpRequest())  # raises nothing
