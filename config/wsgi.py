"""The WSGI door: probes first, then what Django cannot parse is tamed, then Django."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

django_application = get_wsgi_application()

# They import models' settings, so Django must be set up first.
from config import row_security  # noqa: E402
from config.content_type import tamed  # noqa: E402
from healthcheck import probes  # noqa: E402
from healthcheck.metrics import prometheus  # noqa: E402

prometheus.share()
row_security.serve_requests_only()

StartResponse = Callable[..., Any]


def application(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
    """Answer health probes before all middleware; hand everything else to Django."""
    path = environ.get("PATH_INFO", "")
    if probes.is_probe(path):
        answer = probes.answer(environ["REQUEST_METHOD"], path, environ.get("wsgi.url_scheme", ""), environ)
        start_response(answer.status_line, answer.headers)
        return [answer.body]
    environ["CONTENT_TYPE"] = tamed(environ.get("CONTENT_TYPE", ""))
    return django_application(environ, start_response)
