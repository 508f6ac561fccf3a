"""gunicorn's configuration; everything comes from the settings."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django
from django.conf import settings
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.gthread import ThreadWorker

from config import lifeline
from config.checks import refuse_unfit_server

wsgi_app = "config.wsgi:application"
bind = f"{settings.BIND}:{settings.PORT}"
workers = settings.WEB_PROCESSES
worker_class = "config.gunicorn.Worker"
threads = settings.WEB_THREADS
timeout = 30
graceful_timeout = 25  # with the rest of the way out, below the 30 seconds that SIGTERM grants
keepalive = 5
max_requests = 10_000
max_requests_jitter = 1_000
# Lines and headers beyond these are refused with 400 before Django sees them.
limit_request_line = 4094
limit_request_fields = 64
# gunicorn believes forwarded headers of these peers only; the address rules are ours (client_address).
forwarded_allow_ips = "*" if settings.TRUSTED_PROXIES else ""
forwarder_headers = ""  # nobody moves the site to another path by a header
control_socket_disable = True  # nobody steers it from outside; it would be a file in the home directory
accesslog = None  # the application writes one line a request, without tokens
errorlog = "-"
logger_class = "config.gunicorn.Logger"


def on_starting(server: Any) -> None:
    django.setup()
    _count_together()
    refuse_unfit_server()


def _count_together() -> None:
    """Hold a slot for as long as the server runs, so that counters outlive the processes that are recycled."""
    from healthcheck import metrics  # its models need Django set up

    metrics.share()


def post_request(worker: Any, request: Any, environ: Any, response: Any) -> None:
    """Take in what is left of a refused body: closing on unread bytes resets the connection, and the answer is lost."""
    if request.body is not None:
        with suppress(Exception):  # a caller who is gone; the answer was sent before
            request.body.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def when_ready(server: Any) -> None:
    lifeline.hold()


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Threads; and at the end, everybody who has connected is served and the door is closed at once.

    gunicorn's own worker goes on listening while it finishes, and resets in the end whoever came meanwhile.
    """

    def set_accept_enabled(self, enabled: bool) -> None:
        super().set_accept_enabled(enabled)
        if not self.alive:
            for listener in self.sockets:
                self._let_in_who_waits(listener)
                listener.close()

    def _let_in_who_waits(self, listener: Any) -> None:
        before = -1
        while before < self.nr_conns:  # `accept` says nothing when nobody waits
            before = self.nr_conns
            self.accept(listener)


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """Hands gunicorn's lines to the project's own handlers."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers = []
        self.error_log.propagate = True
