"""Who may do what to whom: every rule about one person or one invitation, in one table.

Pages, the admin, services and commands ask here. A permission alone (``accounts.view_user``) opens a page; these rules
decide about what is on it. `acting_user` None stands for whoever runs a command, who may do everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied

from accounts import roles
from accounts.errors import AccountError
from accounts.models import Import, Invitation, User, UserState


def _holds(permission: str) -> Callable[..., bool]:
    return lambda actor, *about: actor.has_perm(permission)


class RoleChanges:
    """Which roles of these `people` the actor may give and take: a few statements, however many they are."""

    def __init__(self, acting_user: User | None, people: Collection[User]) -> None:
        self.acting_user = acting_user
        if acting_user is not None:
            mine = acting_user.has_perm("accounts.change_user")
            whole = User.objects.filter(pk__in=[user.pk for user in people] if mine else [])
            self._editable = set(roles.editable(acting_user, whole).values_list("pk", flat=True))
            self._grantable = set(roles.grantable(acting_user).values_list("pk", flat=True))

    def refusal(self, user: User, changed: Iterable[Group]) -> AccountError | None:
        """Return what is against giving or taking the roles `changed`, one of ``own_roles``, ``*_above_own``."""
        if self.acting_user is None:
            return None
        if user.pk == self.acting_user.pk:
            return AccountError("own_roles")
        if user.pk not in self._editable:
            return AccountError("person_above_own")
        return None if {role.pk for role in changed} <= self._grantable else AccountError("role_above_own", "roles")


def _edits(actor: User, user: User) -> bool:
    return actor.has_perm("accounts.change_user") and roles.may_edit(actor, user)


def _decides_about(actor: User, user: User) -> bool:
    """Rights and shutting out are above the roles, and nobody's own business."""
    return actor.is_superuser and actor.is_active and actor.pk != user.pk


def _erases(actor: User, user: User) -> bool:
    return actor.has_perm("accounts.erase_user") and roles.may_edit(actor, user)


def _changes_role(actor: User, user: User, role: Group) -> bool:
    return RoleChanges(actor, [user]).refusal(user, [role]) is None


def _invited(actor: User, invitation: Invitation) -> bool:
    return invitation.invited_by_id == actor.pk and actor.has_perm("accounts.add_invitation")


def _revokes(actor: User, invitation: Invitation) -> bool:
    return _invited(actor, invitation) or actor.has_perm("accounts.change_invitation")


def _sends(actor: User, invitation: Invitation) -> bool:
    """Its link too: who could not grant its roles could else come in by it."""
    return _revokes(actor, invitation) and roles.may_grant(actor, invitation.roles.all())


def _began(actor: User, begun: Import) -> bool:
    return actor.has_perm("accounts.view_import") and (actor.is_superuser or begun.started_by_id == actor.pk)


def _is_own(actor: User, about: User) -> bool:
    return actor.is_active and actor.pk == about.pk


RULES: dict[str, Callable[..., bool]] = {
    # Of a person.
    "see_user": _holds("accounts.view_user"),
    "add_user": _holds("accounts.add_user"),
    "import_users": _holds("accounts.add_user"),
    "update_by_import": lambda actor: actor.has_perm("accounts.add_user") and actor.has_perm("accounts.change_user"),
    "edit_user": _edits,
    "change_rights": _decides_about,
    "shut_out": _decides_about,
    "erase_user": _erases,
    "cancel_erasure": _erases,
    "give_role": _changes_role,
    "take_role": _changes_role,
    # The mail goes to the person's own address, whoever they are.
    "send_password_link": _holds("accounts.change_user"),
    "unlock": _edits,
    "recover_second_factor": lambda actor, user: _edits(actor, user) and actor.pk != user.pk,
    "read_activity": _is_own,
    # Of roles, by an invitation or for a newcomer.
    "grant_roles": roles.may_grant,
    # Of an import: its file is full of people, so it is its beginner's.
    "see_import": _began,
    "run_import": _began,
    # Of an invitation.
    "invite": _holds("accounts.add_invitation"),
    "see_invitation": lambda actor, invitation: (
        actor.has_perm("accounts.view_invitation") or (actor.is_active and invitation.invited_by_id == actor.pk)
    ),
    "send_invitation": _sends,
    "replace_invitation": _sends,
    "show_invitation_link": _sends,
    "revoke_invitation": _revokes,
}


def may(acting_user: User | None, action: str, *about: Any) -> bool:
    """Whether `acting_user` may do `action`, a key of `RULES`, to what it is about; whose account ends may nothing."""
    rule = RULES[action]
    return acting_user is None or (acting_user.state == UserState.ACTIVE and rule(acting_user, *about))


def require(acting_user: User | None, action: str, *about: Any) -> None:
    """Raise PermissionDenied unless `acting_user` may do it."""
    if not may(acting_user, action, *about):
        raise PermissionDenied
