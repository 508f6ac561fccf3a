"""One event is one line; secrets and control characters do not get into it."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from config.logs import MASK, printable

log = structlog.get_logger("tests")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("two\nlines", "two\\nlines"),
        ("nul\0", "nul\\x00"),
        ("bell\x07 and \x9b", "bell\\x07 and \\x9b"),
        ("over\u202eride", "over\\u202eride"),
        ("separator\u2028", "separator\\u2028"),
        ("lone \ud800", "lone \\ud800"),
        ("Ünïcödé", "Ünïcödé"),
    ],
)
def test_control_characters_are_shown_and_never_sent(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_long_value_is_cut() -> None:
    assert printable("x" * 5000) == "x" * 1024 + "…"


def test_what_bears_the_name_of_a_secret_is_masked(log_lines: list[str]) -> None:
    log.info("event", password="open-sesame", csrf_token="abc", api_key="k", session="s", username="anna")
    (line,) = [json.loads(line) for line in log_lines]
    assert {line[name] for name in ("password", "csrf_token", "api_key", "session")} == {MASK}
    assert line["username"] == "anna"


def test_user_text_cannot_forge_a_line(log_lines: list[str]) -> None:
    log.info("event", username='anna\n{"event": "user.created"}')
    assert len(log_lines) == 1


def test_third_party_lines_are_one_line_too(log_lines: list[str]) -> None:
    logging.getLogger("somebody.else").warning("failed for %s", "anna\nroot")
    (line,) = [json.loads(line) for line in log_lines]
    assert line["event"] == "failed for anna\\nroot"
    assert line["level"] == "warning"


def test_a_refused_row_is_withheld_from_a_traceback(log_lines: list[str]) -> None:
    error = ValueError("violates check\nDETAIL:  Failing row contains (1, two\nlines, bcrypt_sha256$abc).\n")
    log.error("event", exc_info=error)
    (line,) = [json.loads(line) for line in log_lines]
    assert "bcrypt" not in line["exception"]
    assert "Failing row contains withheld" in line["exception"]
