"""Addresses of the health pages, each with and without the trailing slash: a probe must never meet a redirect."""

from collections.abc import Callable, Iterator
from typing import Any

from django.urls import URLPattern, path

from healthcheck import views
from healthcheck.operations import views as operation_views

app_name = "healthcheck"


def _both(route: str, view: Callable[..., Any], name: str) -> Iterator[URLPattern]:
    yield path(f"{route}/", view, name=name)
    yield path(route, view)


urlpatterns = [
    *_both("health/database", views.database, "database"),
    *_both("health/database/statistics", views.database_statistics, "statistics"),
    *_both("health/metrics", views.metrics_text, "metrics"),
    *_both("health/system", views.system, "system"),
    *_both("health", views.whole, "whole"),
    *_both("health/database/optimize", operation_views.optimize, "optimize"),
    *_both("health/database/migrations", operation_views.migrations, "migrations"),
    *_both("health/cleanup", operation_views.cleanup, "cleanup"),
    *_both("health/jobs/<uuid:run_id>", operation_views.run, "run"),
    *_both("health/<slug:name>", views.check, "check"),
]
