"""``manage.py worker``: run queued jobs and the schedule."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config import lifeline
from config.checks import refuse_unfit_server
from config.worker import Worker
from healthcheck.metrics import prometheus
from healthcheck.sampler import Sampler


class Command(BaseCommand):
    help = "Run queued jobs (mail), the schedule and the health checks until stopped. Several may run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="run what is ready, then exit")
        parser.add_argument("--interval", type=float, default=1.0, help="seconds between looks at the queue")

    def handle(self, *args: Any, once: bool, interval: float, **options: Any) -> None:
        lifeline.hold()
        prometheus.share()
        refuse_unfit_server()
        worker = Worker(interval=max(0.05, interval), once=once)
        worker.configure_signals()
        if once:
            worker.run()
            return
        sampler = Sampler()
        sampler.start()
        try:
            worker.run()
        finally:
            sampler.stop()
