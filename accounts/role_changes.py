"""Gives roles to many people at once, and takes them: each by the rules, with a verdict for each person.

A batch is one transaction. The rows of its people are locked in the order of their ids, so that two who change roles at
the same moment wait for each other instead of undoing each other's work.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Exists, OuterRef

import auditlog
from accounts import roles
from accounts.errors import AccountError
from accounts.models import User
from accounts.rules import RoleChanges
from config.database import retry

BATCH = 500
_Membership = User.groups.through


@dataclass(frozen=True)
class Verdict:
    """What became of one person: ``done``, ``unchanged``, or the code of `errors` that refused it, with its words."""

    user: User
    code: str
    words: str = ""

    @property
    def refused(self) -> bool:
        return bool(self.words)


def change_roles(
    user_ids: Sequence[UUID], role: Group, *, give: bool, acting_user: User | None, reason: str = ""
) -> Iterator[Verdict]:
    """Give `role` to these people, or take it from them; whom the rules refuse stay as they are.

    Who is given a role of the staff may enter the console, also when they held it but were not let in, and who loses
    the last one may not any more; who loses every role stays a member.
    """
    ordered = sorted(user_ids)
    for begin in range(0, len(ordered), BATCH):
        change = partial(_change, ordered[begin : begin + BATCH], role, give, acting_user)
        with auditlog.acting_as(reason=reason or ("role given" if give else "role taken")):
            yield from retry.run(change, idempotent=True)


def _change(user_ids: Sequence[UUID], role: Group, give: bool, acting_user: User | None) -> list[Verdict]:
    with transaction.atomic():
        people = lock(user_ids)
        allowed = RoleChanges(acting_user, people)
        held = roles_of(user_ids)
        opens = give and roles.is_staff_role([role])
        verdicts, wanted, let_in = [], {}, set()
        for user in people:
            now = held[user.pk]
            then = now | {role.pk} if give else now - {role.pk}
            changes = now != then or (opens and not user.is_staff)
            refusal = allowed.refusal(user, [role]) if changes else None
            if user.deleted_at is not None:
                refusal = AccountError("account_erased")
            if not refusal and not then and role.name == roles.MEMBER:
                refusal = AccountError("last_role")
            if now != then and not refusal:
                wanted[user.pk] = then
            elif changes and not refusal:
                let_in.add(user.pk)
            code = refusal.code if refusal else "done" if changes else "unchanged"
            verdicts.append(Verdict(user, code, str(refusal.message) if refusal else ""))
        set_roles(held, wanted)
        _settle_staff(gained=let_in, lost=set())
    return verdicts


def lock(user_ids: Collection[UUID]) -> list[User]:
    """Return these people, also erased ones, who stay as they are until the transaction ends."""
    return list(User.objects.filter(pk__in=user_ids).order_by("pk").select_for_update(no_key=True))


def roles_of(user_ids: Collection[UUID]) -> dict[UUID, set[int]]:
    """Return the ids of the groups that each of these people has."""
    held: dict[UUID, set[int]] = {pk: set() for pk in user_ids}
    for user_id, group_id in _Membership.objects.filter(user__in=user_ids).values_list("user_id", "group_id"):
        held[user_id].add(group_id)
    return held


def set_roles(held: Mapping[UUID, set[int]], wanted: Mapping[UUID, set[int]]) -> None:
    """Make the groups of each in `wanted` those, in place of what is `held`, in the caller's transaction."""
    declared = dict(Group.objects.filter(name__in=roles.ROLES).values_list("name", "pk"))
    member, of_staff = declared[roles.MEMBER], {pk for name, pk in declared.items() if roles.ROLES[name].staff}
    full = {pk: groups or {member} for pk, groups in wanted.items()}
    new = [(pk, group) for pk, groups in full.items() for group in sorted(groups - held[pk])]
    old = [(pk, group) for pk, groups in full.items() for group in held[pk] - groups]
    _Membership.objects.bulk_create(
        [_Membership(user_id=pk, group_id=group) for pk, group in new], ignore_conflicts=True
    )
    for lost in {group for _pk, group in old}:
        _Membership.objects.filter(group=lost, user__in=[pk for pk, group in old if group == lost]).delete()
    _settle_staff(
        gained={pk for pk, group in new if group in of_staff}, lost={pk for pk, group in old if group in of_staff}
    )


def _settle_staff(*, gained: set[UUID], lost: set[UUID]) -> None:
    """Of these who gained or lost a role of the staff: who holds one enters the console; who does not does not.

    Superusers stay staff, and so does whom somebody made staff by hand, without such a role.
    """
    of_staff = [name for name, role in roles.ROLES.items() if role.staff]
    holds = Exists(_Membership.objects.filter(user=OuterRef("pk"), group__name__in=of_staff))
    User.objects.filter(holds, pk__in=gained, is_staff=False).update(is_staff=True)
    User.objects.filter(~holds, pk__in=lost, is_staff=True, is_superuser=False).update(is_staff=False)


def is_staff_after(user: User, before: Iterable[Group], after: Iterable[Group]) -> bool:
    """Whether `user` may enter the console when `before` become `after`, for who writes the row and the groups alone.

    The same rule as when many change.
    """
    before, after = set(before), set(after)
    if roles.is_staff_role(after - before):
        return True
    lost_the_last = roles.is_staff_role(before) and not roles.is_staff_role(after)
    return user.is_staff and (user.is_superuser or not lost_the_last)
