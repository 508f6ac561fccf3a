"""Who may do what to whom: the whole table, over real rows. What is not named here must be refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.checks import run_checks
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from accounts import rules
from accounts.models import Import, Invitation, User
from tests.factories import InvitationFactory, UserFactory

pytestmark = pytest.mark.django_db

ACTORS = ["Member", "Support", "Auditor", "Administrator", "superuser"]
PEOPLE = {"self", *ACTORS}
STAFF = PEOPLE - {"self", "Member"}
OTHERS = PEOPLE - {"self"}
ALL_INVITATIONS = {"own", "own, above", "another's", "another's, above"}

# action -> actor -> whom it may be done to
ABOUT_PEOPLE: dict[str, dict[str, set[str]]] = {
    "see_user": dict.fromkeys(("Support", "Auditor", "Administrator", "superuser"), PEOPLE),
    "add_user": dict.fromkeys(("Administrator", "superuser"), PEOPLE),
    "import_users": dict.fromkeys(("Administrator", "superuser"), PEOPLE),
    "update_by_import": dict.fromkeys(("Administrator", "superuser"), PEOPLE),
    "edit_user": {
        "Support": {"self", "Member"},
        "Administrator": {"self", "Member"},
        "superuser": PEOPLE,
    },
    "unlock": {
        "Support": {"self", "Member"},
        "Administrator": {"self", "Member"},
        "superuser": PEOPLE,
    },
    "recover_second_factor": {"Support": {"Member"}, "Administrator": {"Member"}, "superuser": OTHERS},
    "change_rights": {"superuser": OTHERS},
    "shut_out": {"superuser": OTHERS},
    # Oneself only by the way of an owner (`life_cycle`).
    **{
        action: {"Administrator": {"self", "Member"}, "superuser": PEOPLE}
        for action in ("erase_user", "cancel_erasure")
    },
    "send_password_link": dict.fromkeys(("Support", "Administrator", "superuser"), PEOPLE),
    "read_activity": {name: {"self"} for name in ACTORS},
}
# Giving a role and taking it: actor -> role -> from whom. Nobody changes their own.
ABOUT_ROLES: dict[str, dict[str, set[str]]] = {
    "Support": {"Member": {"Member"}, "Support": {"Member"}},
    "Administrator": {name: {"Member"} for name in ("Member", "Support", "Auditor", "Administrator")},
    "superuser": dict.fromkeys(("Member", "Support", "Auditor", "Administrator"), OTHERS),
}
# "Above" holds a role that the actor could not grant, if there is one.
ABOUT_INVITATIONS: dict[str, dict[str, set[str]]] = {
    "invite": dict.fromkeys(("Support", "Administrator", "superuser"), ALL_INVITATIONS),
    "see_invitation": {
        "Member": {"own", "own, above"},
        **dict.fromkeys(("Support", "Auditor", "Administrator", "superuser"), ALL_INVITATIONS),
    },
    "revoke_invitation": dict.fromkeys(("Support", "Administrator", "superuser"), ALL_INVITATIONS),
    **{
        action: {
            "Support": {"own", "another's"},
            "Administrator": ALL_INVITATIONS,
            "superuser": ALL_INVITATIONS,
        }
        for action in ("send_invitation", "replace_invitation", "show_invitation_link")
    },
}
# Its file is full of people, so it is the business of who began it.
ABOUT_IMPORTS: dict[str, dict[str, set[str]]] = {
    action: {"Support": {"own"}, "Administrator": {"own"}, "superuser": {"own", "another's"}}
    for action in ("see_import", "run_import")
}
GENERAL = {"see_user", "add_user", "import_users", "update_by_import", "send_password_link", "invite"}
# actor -> which roles an invitation of theirs may hold
GRANTED: dict[str, set[str]] = {
    "Member": {"Member"},
    "Support": {"Member", "Support"},
    "Auditor": {"Member", "Auditor"},
    "Administrator": {"Member", "Support", "Auditor", "Administrator"},
    "superuser": {"Member", "Support", "Auditor", "Administrator"},
}


@dataclass
class Cast:
    """One of each role who acts, and another of each role to whom it is done."""

    actors: dict[str, User] = field(default_factory=dict)
    others: dict[str, User] = field(default_factory=dict)

    def person(self, actor: str, whose: str) -> User:
        return self.actors[actor] if whose == "self" else self.others[whose]


def _somebody(role: str, username: str) -> User:
    above = role == "superuser"
    user = UserFactory.create(username=username, is_staff=role != "Member", is_superuser=above)
    user.groups.set(Group.objects.filter(name="Administrator" if above else role))
    return User.objects.get(pk=user.pk)


@pytest.fixture
def cast() -> Cast:
    return Cast(
        actors={role: _somebody(role, f"{role.lower()}-who-acts") for role in ACTORS},
        others={role: _somebody(role, f"{role.lower()}-met") for role in ACTORS},
    )


def test_every_rule_is_in_one_of_these_tables() -> None:
    assert {*ABOUT_PEOPLE, *ABOUT_INVITATIONS, *ABOUT_IMPORTS, "give_role", "take_role", "grant_roles"} == set(
        rules.RULES
    )


@pytest.mark.parametrize("action", ABOUT_PEOPLE)
def test_who_may_do_this_to_whom(cast: Cast, action: str) -> None:
    allowed = {
        actor: {whose for whose in PEOPLE if _may(cast.actors[actor], action, cast.person(actor, whose))}
        for actor in ACTORS
    }
    assert allowed == {actor: ABOUT_PEOPLE[action].get(actor, set()) for actor in ACTORS}


def _may(actor: User, action: str, about: Any) -> bool:
    # The rules of a plain permission are asked without anybody in particular.
    return rules.may(actor, action) if action in GENERAL else rules.may(actor, action, about)


@pytest.mark.parametrize("action", ["give_role", "take_role"])
def test_who_may_change_which_role_of_whom(cast: Cast, action: str) -> None:
    groups = {group.name: group for group in Group.objects.all()}
    allowed = {
        actor: {
            role: {whose for whose in PEOPLE if rules.may(user, action, cast.person(actor, whose), groups[role])}
            for role in groups
        }
        for actor, user in cast.actors.items()
    }
    expected = {actor: {role: ABOUT_ROLES.get(actor, {}).get(role, set()) for role in groups} for actor in cast.actors}
    assert allowed == expected


@pytest.mark.parametrize("action", ABOUT_INVITATIONS)
def test_who_may_do_this_to_which_invitation(cast: Cast, action: str) -> None:
    allowed = {
        actor: {
            whose
            for whose, invitation in _invitations(user, cast.others["superuser"]).items()
            if _may(user, action, invitation)
        }
        for actor, user in cast.actors.items()
    }
    assert allowed == {actor: ABOUT_INVITATIONS[action].get(actor, set()) for actor in ACTORS}


def _invitations(actor: User, another: User) -> dict[str, Invitation]:
    return {
        f"{whose}{', above' if roles else ''}": InvitationFactory.create(invited_by=inviter, roles=roles)
        for whose, inviter in (("own", actor), ("another's", another))
        for roles in ([], ["Administrator"])
    }


def begun_by(user: User) -> Import:
    return Import.objects.create(kind="users", state="checked", file_name="people.csv", rows=0, started_by=user)


@pytest.mark.parametrize("action", ABOUT_IMPORTS)
def test_who_may_do_this_to_whose_import(cast: Cast, action: str) -> None:
    foreign = begun_by(cast.others["superuser"])
    allowed = {
        actor: {
            whose for whose, begun in (("own", begun_by(user)), ("another's", foreign)) if _may(user, action, begun)
        }
        for actor, user in cast.actors.items()
    }
    assert allowed == {actor: ABOUT_IMPORTS[action].get(actor, set()) for actor in ACTORS}


def test_for_many_people_at_once_the_rule_is_the_same(cast: Cast) -> None:
    people = [*cast.actors.values(), *cast.others.values()]
    for actor in [*cast.actors.values(), None]:
        at_once = rules.RoleChanges(actor, people)
        for user in people:
            for role in Group.objects.all():
                assert (at_once.refusal(user, [role]) is None) == rules.may(actor, "give_role", user, role)


def test_which_roles_one_may_hand_out(cast: Cast) -> None:
    allowed = {
        actor: {group.name for group in Group.objects.all() if rules.may(user, "grant_roles", [group])}
        for actor, user in cast.actors.items()
    }
    assert allowed == GRANTED


@pytest.mark.parametrize("end", [{"is_active": False}, {"erase_at": timezone.now()}], ids=["shut out", "to be erased"])
@pytest.mark.parametrize("action", sorted(set(rules.RULES) - {"grant_roles"}))
def test_whose_account_ends_may_do_nothing_at_all(cast: Cast, action: str, end: dict[str, Any]) -> None:
    gone = cast.actors["superuser"]
    User.objects.filter(pk=gone.pk).update(**end)
    gone = User.objects.get(pk=gone.pk)
    if action in ABOUT_INVITATIONS:
        about: list[Any] = [InvitationFactory.create(invited_by=gone)]
    elif action in ABOUT_IMPORTS:
        about = [begun_by(gone)]
    else:
        about = [gone if action == "read_activity" else cast.others["Member"]]
    if action in ("give_role", "take_role"):
        about.append(Group.objects.get(name="Member"))
    assert not rules.may(gone, action, *([] if action in GENERAL else about))


def test_a_command_may_do_everything_and_who_may_not_is_told(cast: Cast) -> None:
    assert rules.may(None, "edit_user", cast.others["superuser"])
    rules.require(None, "edit_user", cast.others["superuser"])
    with pytest.raises(PermissionDenied):
        rules.require(cast.actors["Support"], "edit_user", cast.others["superuser"])


def test_who_holds_a_permission_of_their_own_is_out_of_reach_of_who_lacks_it(cast: Cast) -> None:
    trusted, role = cast.others["Member"], Group.objects.create(name="Gardeners")
    assert rules.may(cast.actors["Support"], "edit_user", trusted)
    trusted.groups.add(role)
    assert rules.may(cast.actors["Support"], "edit_user", trusted), "a group without a permission weighs nothing"
    role.permissions.set(Group.objects.get(name="Auditor").permissions.filter(codename="export_record"))
    assert not rules.may(cast.actors["Support"], "edit_user", trusted)
    assert rules.may(cast.actors["Administrator"], "edit_user", trusted)
    role.permissions.clear()
    trusted.user_permissions.set(Group.objects.get(name="Auditor").permissions.filter(codename="export_record"))
    assert not rules.may(cast.actors["Support"], "edit_user", trusted)


# Whether database and code agree.


def warned() -> list[str]:
    return [message.msg for message in run_checks(databases=["default"]) if message.id == "accounts.W002"]


def test_a_check_names_the_roles_that_are_not_as_declared() -> None:
    assert warned() == []
    Group.objects.get(name="Auditor").permissions.add(
        *Group.objects.get(name="Administrator").permissions.filter(codename="add_user")
    )
    Group.objects.get(name="Support").permissions.clear()
    Group.objects.get(name="Member").delete()
    Group.objects.create(name="Gardeners")
    assert warned() == ["In the database these roles are not as the code declares them: Support, Auditor, Member."]
