"""Roles given to many people at once, and taken: by the command and by the admin."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import life_cycle, role_changes
from accounts.models import User
from auditlog.models import Record
from tests.accounts.conftest import text_of
from tests.accounts.test_roles import with_role
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db

LIST = "/admin/accounts/user/"


def group(name: str) -> Group:
    return Group.objects.get(name=name)


def held(user: User) -> set[str]:
    return set(user.groups.values_list("name", flat=True))


def is_staff(user: User) -> bool:
    return User.objects.get(pk=user.pk).is_staff


def members(count: int) -> list[User]:
    people: list[User] = UserFactory.create_batch(count)
    for user in people:
        user.groups.set([group("Member")])
    return people


def change(people: list[User], role: str, actor: User | None, *, give: bool = True, **more: Any) -> dict[str, str]:
    verdicts = role_changes.change_roles(
        [user.pk for user in people], group(role), give=give, acting_user=actor, **more
    )
    return {verdict.user.username: verdict.code for verdict in verdicts}


def test_who_is_given_a_role_of_the_staff_enters_the_console_until_it_is_taken(administrator: User) -> None:
    ada, bob = members(2)
    assert change([ada, bob], "Support", administrator) == {ada.username: "done", bob.username: "done"}
    assert held(ada) == {"Member", "Support"}
    assert is_staff(ada)
    change([ada], "Auditor", administrator)
    change([ada], "Support", administrator, give=False)
    assert is_staff(ada), "one role of the staff is left"
    change([ada], "Auditor", administrator, give=False)
    assert not is_staff(ada)
    assert is_staff(bob)


def test_a_superuser_who_loses_a_role_stays_one(administrator: User) -> None:
    other = with_role("Support", is_superuser=True)
    change([other], "Support", administrator, give=False)
    assert is_staff(other)


def test_who_holds_the_role_but_was_not_let_in_is_let_in(administrator: User) -> None:
    ada, bob = members(2)
    ada.groups.add(group("Auditor"))
    assert change([ada, bob], "Member", administrator) == {ada.username: "unchanged", bob.username: "unchanged"}
    assert change([ada], "Auditor", with_role("Support")) == {ada.username: "person_above_own"}
    assert not is_staff(ada)
    assert change([ada, bob], "Auditor", administrator, reason="heal") == {ada.username: "done", bob.username: "done"}
    assert is_staff(ada)
    assert Record.objects.filter(object_id=str(ada.pk), reason="heal", new__is_staff=True).count() == 1
    assert change([ada], "Auditor", administrator) == {ada.username: "unchanged"}


def test_who_is_staff_without_a_role_of_the_staff_stays_it(administrator: User) -> None:
    ada = with_role("Member")
    ada.groups.add(Group.objects.create(name="Gardeners"))
    assert change([ada], "Member", administrator, give=False) == {ada.username: "done"}
    assert is_staff(ada)


def test_everybody_keeps_a_role(administrator: User) -> None:
    (ada,) = members(1)
    assert change([ada], "Member", administrator, give=False) == {ada.username: "last_role"}
    bob = with_role("Support")
    assert change([bob], "Support", administrator, give=False) == {bob.username: "done"}
    assert held(bob) == {"Member"}


def test_each_person_has_a_verdict_by_the_rules() -> None:
    actor, staff, (ada,) = with_role("Support"), with_role("Auditor"), members(1)
    bob = with_role("Support")
    assert change([actor, staff, ada, bob], "Support", actor) == {
        actor.username: "unchanged",
        staff.username: "person_above_own",
        ada.username: "done",
        bob.username: "unchanged",
    }
    assert change([actor], "Member", actor) == {actor.username: "own_roles"}
    (cyd,) = members(1)
    assert change([cyd], "Administrator", actor) == {cyd.username: "role_above_own"}
    assert change([cyd], "Support", with_role("Member", is_staff=False)) == {cyd.username: "person_above_own"}
    assert held(cyd) == {"Member"}


def test_many_cost_as_many_statements_as_two() -> None:
    assert statements(2) == statements(20)


def statements(count: int) -> int:
    actor, people = with_role("Administrator"), members(count)
    with CaptureQueriesContext(connection) as captured:
        assert set(change(people, "Support", User.objects.get(pk=actor.pk)).values()) == {"done"}
    return len(captured)


def test_the_change_is_recorded_with_who_and_why(administrator: User) -> None:
    (ada,) = members(1)
    change([ada], "Support", administrator, reason="joins the help desk")
    records = Record.objects.filter(object_id=str(ada.pk), reason="joins the help desk")
    assert {record.action for record in records} >= {"update"}
    assert records.filter(new__is_staff=True).exists()


@pytest.mark.django_db(transaction=True)
def test_two_who_change_the_same_people_at_once_both_get_their_way() -> None:
    people, faults = members(30), []
    start = threading.Barrier(2)

    def give(role: str) -> None:
        try:
            start.wait()
            assert set(change(people, role, None).values()) == {"done"}
        except BaseException as fault:
            faults.append(fault)
        finally:
            connection.close()

    threads = [threading.Thread(target=give, args=[role]) for role in ("Support", "Auditor")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert {frozenset(held(user)) for user in people} == {frozenset({"Member", "Support", "Auditor"})}


# The command


def run(*arguments: str, capsys: Any) -> Any:
    call_command("roles", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def test_the_command_gives_takes_and_lists(owner: User, capsys: Any) -> None:
    owner.groups.set([group("Member")])
    assert run("give", "owner", "support", capsys=capsys) == [{"user": "owner", "result": "done", "words": ""}]
    assert run("list", "OWNER@example.com", capsys=capsys) == [{"user": "owner", "roles": ["Member", "Support"]}]
    assert run("give", "owner", "Support", capsys=capsys)[0]["result"] == "unchanged"
    assert {"role": "Support", "people": 1, "declared": True} in run("list", capsys=capsys)
    assert run("take", "owner", "Support", "--reason", "left", capsys=capsys)[0]["result"] == "done"
    assert held(owner) == {"Member"}
    call_command("roles", "list")
    assert "Support: 0 people\n" in capsys.readouterr().out


def test_the_command_says_what_it_could_not_do(owner: User, capsys: Any) -> None:
    owner.groups.set([group("Member")])
    with pytest.raises(SystemExit, match="1"):
        call_command("roles", "take", "owner", "Member")
    assert "owner: Everybody has a role at least" in capsys.readouterr().out
    with pytest.raises(CommandError, match="There is no user 'nobody'"):
        call_command("roles", "give", "owner", "nobody", "Support")
    with pytest.raises(CommandError, match=r"no role 'Boss'\. There are: Administrator, Auditor, Member, Support"):
        call_command("roles", "give", "owner", "Boss")
    with pytest.raises(CommandError, match="There is no user"):
        call_command("roles", "list", "a\0b")
    assert held(owner) == {"Member"}


# The admin


def choose(browser: Client, action: str, people: list[User], **more: str) -> Any:
    return browser.post(LIST, {"action": action, "_selected_action": [str(user.pk) for user in people], **more})


def confirm(browser: Client, asked: Any, role: str, **more: str) -> Any:
    form = asked.context["form"]
    fields = {"ids": form["ids"].value(), "give": form["give"].value(), "role": str(group(role).pk)}
    return browser.post(f"{LIST}roles/", {**fields, **more}, follow=True)


def test_the_admin_asks_then_gives_and_tells_whom_it_refused(owner: User) -> None:
    actor, staff, (ada,) = with_role("Administrator"), with_role("Auditor"), members(1)
    browser = Client()
    browser.force_login(actor)
    asked = choose(browser, "give_role", [ada, staff, actor])
    assert "This is about 3 people." in text_of(asked)
    assert ada.username in text_of(asked)
    assert held(ada) == {"Member"}, "nothing happens before it is confirmed"
    told = text_of(confirm(browser, asked, "Support", reason="joins the help desk"))
    assert "1 user changed." in told
    assert f"“{staff.username}”: You may not edit this person." in told
    assert f"“{actor.username}”: Nobody changes their own roles." in told
    assert held(ada) == {"Member", "Support"}
    assert Record.objects.filter(object_id=str(ada.pk), reason="joins the help desk", actor_id=str(actor.pk)).exists()


def test_the_page_still_names_the_people_after_an_error(admins_browser: Client) -> None:
    people = members(2)
    form = choose(admins_browser, "give_role", people).context["form"]
    answer = admins_browser.post(f"{LIST}roles/", {"ids": form["ids"].value(), "give": "1", "role": ""})
    assert answer.status_code == 422
    assert "This is about 2 people." in text_of(answer)
    assert answer.context["names"] == [user.username for user in reversed(people)]


def test_the_admin_says_why_somebody_was_left_out(admins_browser: Client) -> None:
    (ada, bob), holders = members(2), [with_role("Support") for _number in range(12)]
    life_cycle.erase(bob, acting_user=None)
    told = text_of(confirm(admins_browser, choose(admins_browser, "give_role", [bob]), "Support"))
    assert "0 users changed." in told
    assert "“erased person”: This person was erased, and that is for good." in told
    told = text_of(confirm(admins_browser, choose(admins_browser, "give_role", [ada, *holders]), "Support"))
    assert "1 user changed." in told
    assert "and 2 more: They have this role already." in told
    told = text_of(confirm(admins_browser, choose(admins_browser, "take_role", [ada]), "Auditor"))
    assert f"“{ada.username}”: They do not have this role." in told


def test_the_admin_takes_a_role_from_all_whom_a_filter_shows(admins_browser: Client) -> None:
    supporters = [with_role("Support"), with_role("Support")]
    (ada,) = members(1)
    choice = {"action": "take_role", "_selected_action": str(supporters[0].pk), "select_across": "1"}
    asked = admins_browser.post(f"{LIST}?is_staff__exact=1&is_superuser__exact=0", choice)
    assert "This is about 2 people." in text_of(asked)
    confirm(admins_browser, asked, "Support")
    assert [held(user) for user in supporters] == [{"Member"}, {"Member"}]
    assert not any(is_staff(user) for user in supporters)
    assert held(ada) == {"Member"}


def test_too_many_at_a_time_are_refused(admins_browser: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accounts.asking_admin.MOST", 2)
    people = members(3)
    answer = choose(admins_browser, "give_role", people, select_across="1")
    assert "At most 2 people at a time." in text_of(admins_browser.get(answer["Location"]))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"ids": "x"},
        {"ids": "\0"},
        {"ids": "00000000-0000-0000-0000-000000000000," * 2},
        {"role": "Boss"},
        {"role": "99999999999999999999"},
        {"give": "2"},
        {"reason": "a\nb"},
        {"reason": "r" * 201},
    ],
)
def test_a_forged_confirmation_changes_nothing(admins_browser: Client, fields: dict[str, str]) -> None:
    (ada,) = members(1)
    valid = {"ids": str(ada.pk), "give": "1", "role": str(group("Support").pk), "reason": ""}
    answer = admins_browser.post(f"{LIST}roles/", {**valid, **fields} if fields else {})
    assert answer.status_code == 422
    assert held(ada) == {"Member"}


def test_who_may_not_change_people_has_no_such_page() -> None:
    browser, (ada,) = Client(), members(1)
    browser.force_login(with_role("Auditor"))
    assert browser.post(f"{LIST}roles/", {"ids": str(ada.pk)}).status_code == 403
    assert "Give a role" not in text_of(browser.get(LIST))
    # A role above one's own is not offered, and not taken when it is forged.
    browser.force_login(with_role("Support"))
    asked = choose(browser, "give_role", [ada])
    assert {one.name for one in asked.context["form"].fields["role"].queryset} == {"Member", "Support"}
    confirm(browser, asked, "Administrator")
    assert held(ada) == {"Member"}
