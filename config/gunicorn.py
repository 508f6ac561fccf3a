"""gunicorn's configuration; everything comes from the settings."""

from __future__ import annotations

import os
import selectors
import socket
from contextlib import suppress
from functools import partial
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django
from django.conf import settings
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.gthread import TConn, ThreadWorker

from config import front, lifeline
from config.checks import refuse_unfit_server
from healthcheck import probes

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

LONGEST_PROBE = 2048  # bytes


def on_starting(server: Any) -> None:
    django.setup()
    _count_together()
    refuse_unfit_server()


def _count_together() -> None:
    """Hold a slot for as long as the server runs, so that counters outlive the processes that are recycled."""
    from healthcheck.metrics import prometheus  # its models need Django set up

    prometheus.share()


def post_request(worker: Any, request: Any, environ: Any, response: Any) -> None:
    """Take in what is left of a refused body: closing on unread bytes resets the connection, and the answer is lost."""
    if request.body is not None:
        with suppress(Exception):  # a caller who is gone; the answer was sent before
            request.body.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE)


def when_ready(server: Any) -> None:
    lifeline.hold()


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """Threads; probes are answered without one, clients that say nothing hold none; and a gentle end.

    At the end everybody who has connected is served and the door is closed at once: gunicorn's own worker goes on
    listening while it finishes, and resets in the end whoever came meanwhile.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._at_work = 0

    def accept(self, listener: Any) -> None:
        """Let somebody in; a thread is taken once there is something to read."""
        if not self.alive:
            super().accept(listener)
            return
        with suppress(BlockingIOError, ConnectionAbortedError):
            client, address = listener.accept()
            self.nr_conns += 1
            conn = TConn(self.cfg, client, address, listener.getsockname())
            conn.set_timeout()
            self.pending_conns.append(conn)
            self.poller.register(client, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: Any, client: Any) -> None:
        if not self._answers_probe(conn, self.pending_conns):
            super().on_pending_socket_readable(conn, client)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        if not self._answers_probe(conn, self.keepalived_conns):
            super().on_client_socket_readable(conn, client)

    def enqueue_req(self, conn: Any) -> None:
        self._at_work += 1
        super().enqueue_req(conn)

    def finish_request(self, conn: Any, future: Any) -> None:
        self._at_work -= 1
        super().finish_request(conn, future)

    def _answers_probe(self, conn: Any, waiting: Any) -> bool:
        """Answer `conn`, one of those `waiting`, if it asks what is known; else leave its bytes where they are."""
        if self.cfg.is_ssl or not self.alive:
            return False
        # Whoever is alive says so; whoever has no thread left is not ready, and the probe waits as pages do.
        paths = probes.PATHS if self._at_work < self.cfg.threads else probes.LIVE
        stays = False
        try:
            head = conn.sock.recv(LONGEST_PROBE, socket.MSG_PEEK)
            answer = front.answer(head, paths)
            if answer is None:
                return False
            content, stays = answer
            conn.sock.recv(len(head))
            stays = conn.sock.send(content) == len(content) and stays
        except OSError:  # gone
            pass
        waiting.remove(conn)
        if stays:
            conn.set_timeout()
            waiting.append(conn)
        else:
            self.poller.unregister(conn.sock)
            self.nr_conns -= 1
            conn.close()
        return True

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
