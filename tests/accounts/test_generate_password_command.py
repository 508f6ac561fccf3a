"""``manage.py generate_password``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.management import CommandError, call_command

from tests.accounts.test_passwords import nist, nist_validators  # noqa: F401 - fixtures


def printed(capsys: pytest.CaptureFixture[str], *arguments: Any) -> str:
    call_command("generate_password", *arguments)
    return capsys.readouterr().out


def test_it_prints_a_password_that_the_policy_takes(capsys: pytest.CaptureFixture[str]) -> None:
    (password,) = printed(capsys).splitlines()
    assert len(password) == 20
    validate_password(password)


def test_as_many_and_as_long_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    passwords = printed(capsys, "--count", "7", "--length", "12").splitlines()
    assert [len(password) for password in set(passwords)] == [12] * 7
    facts = json.loads(printed(capsys, "--count", "2", "--json"))
    assert [len(password) for password in facts["passwords"]] == [20, 20]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], "--count must be from 1 to 1000."),
        (["--count", "1001"], "--count must be from 1 to 1000."),
        (["--length", "11"], "--length must be from 12 to 128."),
        (["--length", "129"], "--length must be from 12 to 128."),
        (["--length", "x"], "invalid int value"),
    ],
)
def test_nonsense_is_refused_with_the_bounds(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    with pytest.raises(CommandError, match=words):
        printed(capsys, *arguments)
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("nist")
def test_it_follows_the_other_policy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CommandError, match="from 15 to 128"):
        printed(capsys, "--length", "12")
    validate_password(printed(capsys, "--length", "15").strip())
