"""``manage.py unlock``."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import LoginAttempt, User
from auditlog.models import Record
from tests.accounts.conftest import failures, sign_in

pytestmark = pytest.mark.django_db


def unlock(*arguments: str) -> tuple[int, str, str]:
    """Run the command; returns exit code, output and errors."""
    out, errors = io.StringIO(), io.StringIO()
    try:
        call_command("unlock", *arguments, stdout=out, stderr=errors)
    except SystemExit as end:
        return int(str(end.code)), out.getvalue(), errors.getvalue()
    return 0, out.getvalue(), errors.getvalue()


@pytest.fixture(autouse=True)
def locked(owner: User, colleague: User) -> None:
    """Both are locked out from here, and the colleague from another network too."""
    for name in ("owner", "colleague"):
        assert failures(Client(), 6, name)[-1] == 429
    assert failures(Client(), 6, "colleague", REMOTE_ADDR="2001:db8::1")[-1] == 429


def test_by_name_or_address_the_person_can_sign_in_again_and_nobody_else(owner: User) -> None:
    assert unlock("OWNER") == (0, "OWNER: 5 attempts forgotten\n", "")
    assert sign_in(Client(), "owner").status_code == 302
    assert sign_in(Client(), "colleague").status_code == 429
    assert unlock("Colleague@example.com") == (0, "Colleague@example.com: 10 attempts forgotten\n", "")
    assert sign_in(Client(), "colleague").status_code == 302


def test_a_known_name_with_nothing_to_forget_is_no_failure() -> None:
    unlock("owner")
    assert unlock("owner") == (0, "owner: 0 attempts forgotten\n", "")


def test_an_unknown_name_that_nobody_tried_is_said_and_the_others_are_unlocked() -> None:
    code, out, errors = unlock("nobody", "owner")
    assert (code, out) == (1, "owner: 5 attempts forgotten\n")
    assert errors == "nobody: there is no such account, and nobody tried that name lately\n"


def test_an_unknown_name_that_was_tried_is_unlocked() -> None:
    failures(Client(), 1, "nobody")
    assert unlock("Nobody") == (0, "Nobody: 1 attempt forgotten\n", "")


def test_by_network() -> None:
    assert unlock("--network", "2001:db8::ffff") == (0, "2001:db8::ffff: 5 attempts forgotten\n", "")
    assert set(LoginAttempt.objects.values_list("network", flat=True)) == {"127.0.0.1"}
    assert unlock("--network", "2001:db8::/64") == (0, "2001:db8::/64: 0 attempts forgotten\n", "")


def test_all() -> None:
    assert unlock("--all") == (0, "all: 15 attempts forgotten\n", "")
    assert not LoginAttempt.objects.exists()


def test_for_programs() -> None:
    code, out, errors = unlock("owner", "nobody", "--json")
    assert (code, errors) == (1, "")
    assert json.loads(out) == {"forgotten": {"owner": 5, "nobody": 0}, "unknown": ["nobody"]}


@pytest.mark.parametrize(
    "arguments",
    [[], ["owner", "--all"], ["--all", "--network", "192.0.2.1"], ["--network", "nonsense"], ["--network", ""]],
)
def test_what_says_nothing_or_too_much_is_refused_and_forgets_nothing(arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        unlock(*arguments)
    assert LoginAttempt.objects.count() == 15


def test_an_empty_name_unlocks_nobody() -> None:
    assert unlock("")[0] == 1
    assert LoginAttempt.objects.count() == 15


def test_it_is_recorded(owner: User) -> None:
    unlock("owner")
    (record,) = Record.objects.filter(action="unlocked", object_id=str(owner.pk))
    assert (record.resource, record.object_label, record.new) == ("accounts.user", "owner", {"attempts": 5})
    assert record.actor_kind == "command"
    unlock("--all")
    latest = Record.objects.filter(action="unlocked").order_by("-id")[:1].get()
    assert (latest.resource, latest.object_id, latest.new) == ("login", None, {"attempts": 10})
    count = Record.objects.filter(action="unlocked").count()
    unlock("--all")  # nobody is locked any more
    assert Record.objects.filter(action="unlocked").count() == count
