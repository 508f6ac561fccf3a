"""``manage.py invite`` and ``manage.py invitations``."""

from __future__ import annotations

import io
import json
import os
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts import invitations
from accounts.models import Invitation, User
from tests.accounts.conftest import jobs, run_jobs
from tests.factories import InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db

LINK = "http://localhost:8000/accounts/invitation/"


def manage(*arguments: str) -> str:
    output = io.StringIO()
    call_command(*arguments, stdout=output)
    return output.getvalue()


def refused(*arguments: str) -> Any:
    """What a program reads about a refusal, with exit code 1."""
    output = io.StringIO()
    with pytest.raises(SystemExit) as left:
        call_command(*arguments, "--json", stdout=output)
    assert left.value.code == 1
    return json.loads(output.getvalue())


def token(link: str) -> str:
    assert link.startswith(LINK)
    return link.removeprefix(LINK).rstrip("/")


# invite


def test_a_shell_whose_user_has_no_name_invites_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container that runs as a bare number."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    manage("invite", "--count", "1")
    assert Invitation.objects.get().invited_by_name == f"{os.getuid()} (command)"


def test_count_prints_one_working_link_a_line() -> None:
    lines = manage("invite", "--count", "3", "--uses", "5", "--days", "2").splitlines()
    assert len(set(lines)) == 3
    found = [invitations.find(token(line)) for line in lines]
    assert {(one.max_uses, one.state, one.from_command) for one in found} == {(5, "open", True)}
    assert {round((one.expires_at - timezone.now()) / timedelta(days=1)) for one in found} == {2}
    assert all("(command)" in one.invited_by_name for one in found)


def test_links_as_json() -> None:
    (made,) = json.loads(manage("invite", "--domain", "example.org", "--json"))
    invitation = invitations.find(token(made["link"]))
    assert (str(invitation.pk), invitation.domain) == (made["id"], "example.org")
    assert (made["max_uses"], made["expires_at"]) == (1, invitation.expires_at.isoformat())


def test_addresses_are_mailed_and_no_link_is_printed() -> None:
    printed = manage("invite", "ada@example.com", "bob@example.com", "--role", "support", "--note", "See you")
    assert [line.split()[0] for line in printed.splitlines()] == ["ada@example.com", "bob@example.com"]
    assert LINK not in printed
    assert [message.to for message in run_jobs()] == [["ada@example.com"], ["bob@example.com"]]
    assert {tuple(one.roles.values_list("name", flat=True)) for one in Invitation.objects.all()} == {("Support",)}


def test_every_bad_address_is_named_and_nobody_is_invited(owner: User) -> None:
    with pytest.raises(CommandError) as error:
        manage("invite", "ada@example.com", owner.email, "nonsense")
    first, second, last = str(error.value).splitlines()
    assert first.startswith(f"{owner.email}: ")
    assert second.startswith("nonsense: ")
    assert last == "Nobody was invited."
    assert (Invitation.objects.count(), jobs()) == (0, [])


def test_a_refusal_as_json_has_a_code(colleague: User) -> None:
    colleague.groups.set(Group.objects.filter(name="Support"))
    assert (
        refused("invite", "--count", "1", "--role", "Administrator", "--by", "colleague")["error"] == "role_above_own"
    )
    assert refused("invite", "--uses", "0")["error"] == "invalid"
    assert refused("invite", "nonsense")["messages"][0].startswith("nonsense: ")


def test_by_invites_in_somebodys_name_and_quota(colleague: User, settings: Any) -> None:
    settings.INVITATIONS_PER_DAY = 1
    with pytest.raises(CommandError, match="who may invite"):
        manage("invite", "--count", "1", "--by", "colleague")
    colleague.groups.set(Group.objects.filter(name="Support"))
    manage("invite", "--count", "1", "--by", "colleague")
    invitation = Invitation.objects.get()
    assert (invitation.invited_by, invitation.from_command) == (colleague, False)
    assert refused("invite", "--uses", "2", "--by", "colleague")["error"] == "quota_of_inviter"


@pytest.mark.parametrize(
    "arguments",
    [
        ["ada@example.com", "--uses", "2"],
        ["ada@example.com", "--count", "2"],
        ["ada@example.com", "--domain", "example.com"],
        [],
        ["--days", "3"],
        ["--count", "0"],
        ["--count", "1", "--days", "0"],
        ["--count", "1", "--days", "366"],
        ["--count", "1", "--role", "Emperor"],
        ["--count", "1", "--by", "nobody.here"],
        ["--count", "1", "--by", "\0"],
        ["--count", "1", "--note", "\ud800"],
        ["--count", "1", "--note", "nul\0"],
        ["--count", "1", "--role", "\0"],
        ["--domain", "\ud800"],
    ],
)
def test_nonsense_is_refused_in_words_and_makes_nothing(arguments: list[str]) -> None:
    with pytest.raises(CommandError) as error:
        manage("invite", *arguments)
    assert str(error.value)
    assert not Invitation.objects.exists()


# invitations


@pytest.fixture
def four(owner: User) -> dict[str, Invitation]:
    """One in each state."""
    return {
        "open": InvitationFactory.create(email="ada@example.com"),
        "used": InvitationFactory.create(uses=1),
        "expired": InvitationFactory.create(expires_at=timezone.now()),
        "revoked": InvitationFactory.create(revoked_at=timezone.now(), invited_by=owner),
    }


def test_list_shows_all_newest_first_and_no_link(four: dict[str, Invitation]) -> None:
    rows = json.loads(manage("invitations", "list", "--json"))
    assert [row["id"] for row in rows] == [str(one.pk) for one in reversed(four.values())]
    assert [row["state"] for row in rows] == ["revoked", "expired", "used", "open"]
    assert (rows[-1]["for"], rows[-1]["uses"], rows[0]["by"]) == ("ada@example.com", 0, "owner")
    assert (rows[-1]["roles"], rows[-1]["max_uses"]) == (["Member"], 1)
    table = manage("invitations", "list").splitlines()
    assert (len(table), table[0].split()[:3]) == (5, ["ID", "FOR", "STATE"])
    assert "/accounts/invitation/" not in "".join(table)


@pytest.mark.parametrize("state", ["open", "used", "expired", "revoked"])
def test_list_of_one_state(four: dict[str, Invitation], state: str) -> None:
    assert [row["id"] for row in json.loads(manage("invitations", "list", "--state", state, "--json"))] == [
        str(four[state].pk)
    ]


def test_a_list_that_was_cut_says_so(four: dict[str, Invitation], capsys: pytest.CaptureFixture[str]) -> None:
    assert len(json.loads(manage("invitations", "list", "--limit", "3", "--json"))) == 3
    assert "more than these 3" in capsys.readouterr().err
    manage("invitations", "list", "--limit", "4")
    assert capsys.readouterr().err == ""
    with pytest.raises(CommandError):
        manage("invitations", "list", "--limit", "0")


def test_an_option_out_of_bounds_is_named() -> None:
    for option in ("--uses", "--days"):
        with pytest.raises(CommandError, match=rf"^{option}: "):
            manage("invite", "--count", "1", option, "0")


def test_inviting_again_says_that_the_old_terms_stand() -> None:
    first, second = (manage("invite", "ada@example.com", "ADA@example.com") for _time in range(2))
    assert ("on its way" in first, "with its old terms" in second) == (True, True)
    assert len(second.splitlines()) == 1


def test_an_empty_list_says_so() -> None:
    assert manage("invitations", "list") == "There are none.\n"
    assert json.loads(manage("invitations", "list", "--json")) == []


def test_resend_by_id_or_address(four: dict[str, Invitation]) -> None:
    done = json.loads(manage("invitations", "resend", "Ada@example.com", str(four["expired"].pk), "--json"))
    assert [verdict["result"] for verdict in done] == ["done", "done"]
    assert Invitation.objects.get(pk=four["expired"].pk).state == "open"
    assert jobs() == [("send_invitation", [str(four["open"].pk), "en"])]


def test_replace_ends_the_old_link(four: dict[str, Invitation]) -> None:
    manage("invitations", "replace", str(four["open"].pk))
    assert Invitation.objects.get(pk=four["open"].pk).nonce != four["open"].nonce


def test_one_refused_and_one_done_exit_with_1_and_a_verdict_for_each(four: dict[str, Invitation]) -> None:
    verdicts = refused("invitations", "revoke", str(four["used"].pk), str(four["open"].pk))
    assert [verdict["result"] == "done" for verdict in verdicts] == [False, True]
    assert Invitation.objects.get(pk=four["open"].pk).state == "revoked"


def test_resend_of_all_that_could_not_be_delivered(four: dict[str, Invitation]) -> None:
    Invitation.objects.filter(pk=four["open"].pk).update(delivery="failed")
    manage("invitations", "resend", "--not-delivered")
    assert jobs() == [("send_invitation", [str(four["open"].pk), "en"])]
    assert manage("invitations", "resend", "--not-delivered") == "There are none.\n"


@pytest.mark.parametrize("wanted", [[], ["nobody@example.com"], ["01a1feac-4811-79f7-893a-6b7e58cb15b0"], ["\0"], [""]])
def test_what_does_not_exist_is_named_and_nothing_changes(four: dict[str, Invitation], wanted: list[str]) -> None:
    with pytest.raises(CommandError):
        manage("invitations", "resend", *wanted)
    assert jobs() == []


def test_who_invites_stays_readable_when_the_inviter_is_gone() -> None:
    inviter = UserFactory.create(username="former")
    InvitationFactory.create(invited_by=inviter)
    inviter.delete()
    (row,) = json.loads(manage("invitations", "list", "--json"))
    assert row["by"] == "former"
