"""The yardstick of the health probes: a Django site of two views and nothing else, on the same gunicorn."""

from __future__ import annotations

from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, JsonResponse
from django.urls import path


def bare_json(request: HttpRequest) -> JsonResponse:
    return _answer({"status": "pass"})


def bare_select(request: HttpRequest) -> JsonResponse:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return _answer({"status": "pass", "found": cursor.fetchone()[0]})


def _answer(content: dict[str, object]) -> JsonResponse:
    response = JsonResponse(content)
    response["Content-Length"] = len(response.content)  # without it gunicorn sends chunks, which costs more
    return response


urlpatterns = [path("json", bare_json), path("select", bare_select)]
application = get_wsgi_application()
