"""The four roles: groups whose permissions are declared here and written by every `migrate`.

A group that is not declared here is the site's own and is left alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig, apps
from django.contrib.auth.models import Group, Permission
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.migrations.loader import MigrationLoader
from django.db.models import QuerySet

from accounts.models import User


@dataclass(frozen=True, kw_only=True)
class Role:
    """What its holders may do, as ``app.codename``; `staff` lets them into the admin console."""

    permissions: frozenset[str]
    staff: bool


_LOOK = frozenset({"accounts.view_user", "accounts.view_invitation", "accounts.view_loginattempt", "auth.view_group"})
_HELP = _LOOK | {"accounts.change_user", "accounts.add_invitation", "accounts.change_invitation"}
# Not for Support: the trail tells where everybody was and what, administrators too. Whoever may see an object sees
# what happened to it, without the values.
_AUDIT = {"auditlog.view_record", "auditlog.export_record"}
# All staff: whoever answers people must know whether it is them or us.
_HEALTH = {f"healthcheck.view_{what}" for what in ("health", "sample", "connectionsample", "incident", "run")}
# Not migrations: they change what everybody else relies on, so that is for superusers and whom they trust with it.
_OPERATE = {"healthcheck.run_optimize", "healthcheck.run_cleanup"}

MEMBER = "Member"
ROLES = {
    "Administrator": Role(
        permissions=_HELP
        | _AUDIT
        | _HEALTH
        | _OPERATE
        | {
            "accounts.add_user",
            "accounts.erase_user",
            "accounts.view_import",
            "accounts.view_reservedusername",
            "auditlog.restore_record",
        },
        staff=True,
    ),
    "Support": Role(permissions=_HELP | _HEALTH | {"accounts.view_import"}, staff=True),
    "Auditor": Role(permissions=_LOOK | _AUDIT | _HEALTH | {"accounts.view_reservedusername"}, staff=True),
    MEMBER: Role(permissions=frozenset(), staff=False),
}


def permissions_of(groups: Iterable[Group]) -> set[str]:
    """Return every permission that these groups hold, as ``app.codename``."""
    return _names(Permission.objects.filter(group__in=[group.pk for group in groups]))


def _names(permissions: QuerySet[Permission]) -> set[str]:
    return {f"{app}.{codename}" for app, codename in permissions.values_list("content_type__app_label", "codename")}


def may_grant(user: User, groups: Collection[Group]) -> bool:
    """Whether `user` may hand out `groups`: nobody grants what they lack themselves."""
    if not user.is_active or user.is_superuser or not groups:
        return user.is_active
    if is_staff_role(groups) and not user.is_staff:
        return False
    return permissions_of(groups) <= user.get_all_permissions()


def may_edit(user: User, other: User) -> bool:
    """Whether `user` may edit `other`, whose address is a key to the account: who edits it could take it over.

    So nobody edits other staff, nor whoever holds (or held, when inactive) a permission that they lack.
    """
    return user == other or editable(user, User.objects.filter(pk=other.pk)).exists()


def editable(user: User, others: QuerySet[User]) -> QuerySet[User]:
    """Narrow `others` down to those whom `user` may edit, as `may_edit` says, themselves left out."""
    others = others.exclude(pk=user.pk)
    if user.is_superuser:
        return others
    own = user.get_all_permissions()
    labelled = Permission.objects.values_list("pk", "content_type__app_label", "codename")
    lacked = [pk for pk, app, codename in labelled if f"{app}.{codename}" not in own]
    above = list(Group.objects.filter(permissions__in=lacked).distinct().values_list("pk", flat=True))
    return (
        others.filter(is_staff=False, is_superuser=False).exclude(groups__in=above).exclude(user_permissions__in=lacked)
    )


def grantable(user: User) -> QuerySet[Group]:
    """Return the groups that `user` may hand out, by name."""
    granted = [group.pk for group in Group.objects.all() if may_grant(user, [group])]
    return Group.objects.filter(pk__in=granted).order_by("name")


def give(user: User, granted: Collection[Group]) -> None:
    """Give a new user these roles; without any, that of a member."""
    user.groups.add(*(granted or Group.objects.filter(name=MEMBER)))


def is_staff_role(groups: Iterable[Group]) -> bool:
    """Whether one of `groups` lets its holders into the admin console."""
    return any(group.name in ROLES and ROLES[group.name].staff for group in groups)


def write_roles(using: str = DEFAULT_DB_ALIAS, **kwargs: Any) -> None:
    """Make the groups hold exactly what is declared; runs after every `migrate`, for the last app."""
    # What is migrated now, which after a migration backwards may be less than what the code knows.
    migrated = kwargs.get("apps", apps)
    if not _is_up_to_date(using):
        return
    group_model, permission_model = migrated.get_model("auth", "Group"), migrated.get_model("auth", "Permission")
    for name, role in ROLES.items():
        group, _made = group_model.objects.using(using).get_or_create(name=name)
        wanted = [_permission(permission_model, using, permission) for permission in sorted(role.permissions)]
        group.permissions.set(wanted)


def differences(using: str = DEFAULT_DB_ALIAS) -> list[str]:
    """Return the roles whose groups in the database are not as declared here, by name."""
    held: dict[str, set[str]] = {}
    rows = Group.objects.using(using).filter(name__in=ROLES).order_by()
    for name, app, codename in rows.values_list(
        "name", "permissions__content_type__app_label", "permissions__codename"
    ):
        held.setdefault(name, set()).update([f"{app}.{codename}"] if codename else [])
    return [name for name, role in ROLES.items() if held.get(name) != set(role.permissions)]


def _is_up_to_date(using: str) -> bool:
    """Whether the apps whose permissions the roles hold are migrated whole, which they are not after a step back."""
    held = {permission.split(".")[0] for role in ROLES.values() for permission in role.permissions}
    loader = MigrationLoader(connections[using])
    return all(loader.graph.leaf_nodes(app)[0] in loader.applied_migrations for app in held | {"accounts"})


def _permission(model: Any, using: str, name: str) -> Any:
    app, codename = name.split(".")
    return model.objects.using(using).get(content_type__app_label=app, codename=codename)


def last_app() -> AppConfig:
    """Return the app whose permissions `migrate` makes last."""
    return [config for config in apps.get_app_configs() if config.models_module][-1]
