"""``manage.py create_user``."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from accounts.models import ReservedUsername, User
from tests.accounts.conftest import jobs, run_jobs, sign_in
from tests.factories import PASSWORD, UserFactory

# What is printed was read over a second connection, which only sees what is committed.
committed = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEHOUSE_PASSWORD", raising=False)


def create_user(*arguments: str, **options: Any) -> str:
    output = io.StringIO()
    call_command("create_user", *arguments, stdout=output, **options)
    return output.getvalue()


def create_user_json(*arguments: str) -> Any:
    return json.loads(create_user(*arguments, "--json"))


@committed
def test_it_prints_what_it_has_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_PASSWORD", PASSWORD)
    printed = create_user("Jane.Doe", "jane@example.com", "--full-name", "Jane Doe")
    user = User.objects.get()
    assert printed.splitlines() == [
        "Created and read back:",
        f"  id         {user.pk}",
        "  username   Jane.Doe",
        "  email      jane@example.com",
        f"  created    {user.created_at.isoformat()}",
        "  verified   True",
        "  staff      False",
        "  superuser  False",
    ]
    assert user.full_name == "Jane Doe"
    assert jobs() == []
    assert sign_in(Client(), "jane.doe").status_code == 302


@committed
def test_it_prints_json_for_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_PASSWORD", PASSWORD)
    printed = create_user_json("keeper", "keeper@example.com", "--superuser")
    user = User.objects.get()
    assert printed == {
        "id": str(user.pk),
        "username": "keeper",
        "email": "keeper@example.com",
        "created": user.created_at.isoformat(),
        "verified": True,
        "staff": True,
        "superuser": True,
    }


@committed
def test_staff_are_no_superusers() -> None:
    printed = create_user_json("helper", "helper@example.com", "--staff")
    assert (printed["staff"], printed["superuser"]) == (True, False)


@committed
def test_without_a_password_it_prints_and_mails_a_link_to_choose_one() -> None:
    link = create_user_json("jane", "jane@example.com")["set_password_link"]
    assert link.startswith("http://localhost:8000/accounts/password/reset/")
    assert [message.to for message in run_jobs()] == [["jane@example.com"]]
    browser = Client()
    form = browser.get(link.removeprefix("http://localhost:8000"))["Location"]
    assert browser.post(form, {"new_password1": PASSWORD, "new_password2": PASSWORD}).status_code == 303
    assert sign_in(browser, "jane").status_code == 302


@committed
@pytest.mark.parametrize("line", [PASSWORD, PASSWORD + "\n", PASSWORD + "\r\n", PASSWORD + "\nmore\n"])
def test_the_password_can_come_by_standard_input(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(line))
    assert "set_password_link" not in create_user_json("jane", "jane@example.com", "--password-stdin")
    assert User.objects.get().check_password(PASSWORD)


@committed
def test_the_password_can_come_by_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: PASSWORD)
    create_user("jane", "jane@example.com", "--password-prompt")
    assert User.objects.get().check_password(PASSWORD)


@committed
def test_the_password_is_printed_nowhere(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("GATEHOUSE_PASSWORD", PASSWORD)
    printed = create_user("jane", "jane@example.com")
    captured = capfd.readouterr()
    assert PASSWORD not in printed + captured.out + captured.err


# --- refusals ---------------------------------------------------------------------------------------


def refused(*arguments: str) -> str:
    """Run it, expect one clear line and a failure, and return the line."""
    before = User.objects.count()
    with pytest.raises(CommandError) as error:
        create_user(*arguments)
    assert error.value.returncode != 0
    assert User.objects.count() == before
    assert jobs() == []
    line = str(error.value)
    assert "\n" not in line
    return line


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("username", "email", "words"),
    [
        ("OWNER", "new@example.com", "This username is already taken."),
        ("0wner", "new@example.com", "This username looks like one that exists."),
        ("newcomer", "Owner@EXAMPLE.com", "This e-mail address already belongs to an account."),
    ],
)
def test_a_duplicate_is_refused_with_the_id_and_time_of_the_one_that_exists(
    owner: User, colleague: User, username: str, email: str, words: str
) -> None:
    line = refused(username, email)
    assert line.startswith(words)
    assert line.endswith(f" Existing user: id={owner.pk} created={owner.created_at.isoformat()}")


@pytest.mark.django_db
def test_a_duplicate_is_refused_in_json_too(owner: User, capsys: pytest.CaptureFixture[str]) -> None:
    output = io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("create_user", "OWNER", "new@example.com", "--json", stdout=output)
    assert end.value.code == 1
    assert json.loads(output.getvalue()) == {
        "error": "username_taken",
        "id": str(owner.pk),
        "created": owner.created_at.isoformat(),
    }
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_a_name_given_up_lately_is_refused(owner: User) -> None:
    owner.username = "renamed"
    owner.save()
    assert ReservedUsername.objects.count() == 1
    assert refused("owner", "new@example.com") == "This username was given up recently and is not free yet."


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a b", "jane@example.com"], "Use only letters, digits, dots, hyphens and underscores."),
        (["ab", "jane@example.com"], "Use at least 3 characters."),
        (["", "jane@example.com"], "This field cannot be blank."),
        (["admin", "jane@example.com"], "This name is reserved."),
        (["jane\0", "jane@example.com"], "Use only letters"),
        (["jane\udce4", "jane@example.com"], "Use only letters"),
        (["x" * 100, "jane@example.com"], "at most 64 characters"),
        (["jane", "nonsense"], "Enter a valid e-mail address"),
        (["jane", "jane\udce4@example.com"], "Enter a valid e-mail address"),
        (["jane", "jane@example.com", "--full-name", "x" * 151], "at most 150 characters"),
        (["jane", "jane@example.com", "--full-name", "a\0b"], "characters that cannot be stored"),
        (["jane", "jane@example.com", "--full-name", "a\udce4b"], "characters that cannot be stored"),
        (["jane"], "the following arguments are required: email"),
        (["jane", "jane@example.com", "--password-stdin", "--password-prompt"], "not allowed with"),
        (["jane", "jane@example.com", "--password", PASSWORD], "--password could match --password-prompt"),
    ],
)
def test_bad_input_is_one_clear_line(arguments: list[str], words: str) -> None:
    line = refused(*arguments)
    assert words in line
    assert PASSWORD not in line


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("password", "words"),
    [
        ("weak", "Use at least 12 characters. Use at least one upper-case letter."),
        ("Jane.Doe.Smith1", "too similar"),
        (PASSWORD + "\udce4", "cannot be typed"),
    ],
)
def test_the_policy_holds(monkeypatch: pytest.MonkeyPatch, password: str, words: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(password))
    assert words in refused("jane.doe.smith", "jane@example.com", "--password-stdin")


@pytest.mark.django_db
@pytest.mark.parametrize("typed", ["", "\n"])
def test_an_empty_password_that_was_announced_is_refused(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    assert "empty" in refused("jane", "jane@example.com", "--password-stdin")
    monkeypatch.setattr("getpass.getpass", lambda prompt: "")
    assert "empty" in refused("jane", "jane@example.com", "--password-prompt")


@pytest.mark.django_db
def test_two_different_prompts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([PASSWORD, "Another-Password-8"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert refused("jane", "jane@example.com", "--password-prompt") == (
        "The two passwords differ. Nothing was changed."
    )


@pytest.mark.django_db
def test_a_full_table_of_others_is_left_alone(owner: User) -> None:
    UserFactory.create_batch(3)
    before = list(User.objects.order_by("pk").values())
    refused("OWNER", "new@example.com")
    assert list(User.objects.order_by("pk").values()) == before
