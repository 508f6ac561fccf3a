"""Addresses of the health pages, each with and without the trailing slash: a probe must never meet a redirect."""

from collections.abc import Callable, Iterator
from typing import Any

from django.urls import URLPattern, path

from healthcheck import views

app_name = "healthcheck"


def _both(route: str, view: Callable[..., Any], name: str) -> Iterator[URLPattern]:
    yield path(f"{route}/", view, name=name)
    yield path(route, view)


urlpatterns = [
    *_both("health/database", views.database, "database"),
    *_both("health/database/statistics", views.database_statistics, "statistics"),
    *_both("health/system", views.system, "system"),
    *_both("health", views.whole, "whole"),
    *_both("health/<slug:name>", views.check, "check"),
]
