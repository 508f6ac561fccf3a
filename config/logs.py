"""Structured logs: JSON lines in production, readable lines in development, one event one line.

Every line carries the request id. Values are bounded, control characters are shown as ``\\xNN``, and
whatever bears the name of a secret is masked, also inside third-party lines.
"""

from __future__ import annotations

import logging
import logging.config
import re
import sys
from http import HTTPStatus
from typing import Any

import structlog
from structlog.typing import EventDict, WrappedLogger

LONGEST_VALUE = 1024
MASK = "********"
_SECRET_NAME = re.compile(r"passw|token|secret|authorization|cookie|session|(^|_)(key|otp|digest)($|_)", re.I)
# PostgreSQL quotes the whole refused row or key in an error's detail: hashes, addresses, whatever people typed,
# line breaks included. So everything goes up to the next exception of the chain.
_ROW = re.compile(r"(Failing row contains|Key) \(.*?(?=\n\n(?:The above|During handling)|\Z)", re.S)
# C0, DEL and C1 controls, line and paragraph separators, bidirectional overrides and lone surrogates.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, longest: int = LONGEST_VALUE) -> str:
    """Return `text` on one line, at most `longest` characters, with control characters as ``\\xNN``."""
    if len(text) > longest:
        text = text[:longest] + "…"
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape", "surrogatepass").decode(), text)


def _clean(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    for name, value in event.items():
        if name == "exception":
            event[name] = _ROW.sub(r"\1 withheld", value)  # keeps its lines
        elif _SECRET_NAME.search(name):
            event[name] = MASK
        elif isinstance(value, str):
            event[name] = printable(value)
        elif value is not None and not isinstance(value, bool | int | float):
            event[name] = printable(str(value))
    return event


def _without_address(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Name the view instead of the address in Django's own request lines: addresses carry tokens."""
    record: logging.LogRecord | None = event.get("_record")
    request = getattr(record, "request", None)
    if record is not None and record.name.startswith("django.") and request is not None:
        match = getattr(request, "resolver_match", None)
        event["event"] = str(event["event"]).split(": ")[0]  # it says "reason: path"
        event["status"] = getattr(record, "status_code", None)
        event["route"] = match.route if match else None
        if event["status"] == HTTPStatus.SERVICE_UNAVAILABLE and (failure := event.pop("exc_info", None)):
            # During an outage every request fails in the same way: the reason is enough.
            event["error"] = str(failure[1]).split("\n")[0]
    return event


_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.ExtraAdder(allow=()),
]


def configure(log_format: str, level: str) -> None:
    """Send every logger of the process to standard error in `log_format` (``json`` or ``console``)."""
    renderer = (
        structlog.processors.JSONRenderer()
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED[:-1],
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "structured": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "foreign_pre_chain": _SHARED,
                    "processors": [
                        _without_address,
                        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                        structlog.processors.format_exc_info,
                        _clean,
                        renderer,
                    ],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "structured"}},
            "root": {"handlers": ["stderr"], "level": level},
            "loggers": {
                # Our own request line tells every refusal already, without the address.
                "django.request": {"level": "ERROR"},
                "django.security": {"level": "CRITICAL"},
                "django.server": {"handlers": [], "propagate": True},
                # Ours are login.failed and login.locked_out (accounts.receivers).
                "axes": {"level": "CRITICAL"},
                # A traceback for every refused mail; ours are job.failed and job.given_up.
                "django_tasks": {"level": "CRITICAL"},
                "django_tasks_db": {"level": "ERROR"},
                # Starts and stops of web processes: news for an operator, noise for a developer.
                "gunicorn.error": {"level": "INFO" if log_format == "json" else "WARNING"},
            },
        }
    )
