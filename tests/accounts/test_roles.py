"""The four roles: what they hold, who may hand them out, and that migrations keep them so."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.apps import apps
from django.contrib.auth.models import Group, Permission
from django.core.management.sql import emit_post_migrate_signal
from django.db import connection
from django.test import Client

from accounts import roles
from accounts.models import User
from tests.factories import UserFactory

pytestmark = pytest.mark.django_db


def with_role(*names: str, **fields: object) -> User:
    user = UserFactory.create(**{"is_staff": True, **fields})
    user.groups.set(Group.objects.filter(name__in=names))
    return user


def group(name: str) -> Group:
    return Group.objects.get(name=name)


@pytest.mark.parametrize("name", roles.ROLES)
def test_each_role_is_a_group_with_exactly_its_permissions(name: str) -> None:
    assert roles.permissions_of([group(name)]) == roles.ROLES[name].permissions


def test_migrate_puts_right_what_was_changed_by_hand() -> None:
    group("Support").permissions.set(Permission.objects.filter(codename="delete_user"))
    group("Auditor").delete()
    Group.objects.create(name="Gardeners").permissions.set(Permission.objects.filter(codename="delete_user"))
    emit_post_migrate_signal(0, interactive=False, db="default")
    assert roles.permissions_of([group("Support")]) == roles.ROLES["Support"].permissions
    assert roles.permissions_of([group("Auditor")]) == roles.ROLES["Auditor"].permissions
    assert roles.permissions_of([group("Gardeners")]) == {"accounts.delete_user"}


@pytest.mark.parametrize(
    ("own", "may_grant"),
    [
        ("Administrator", {"Administrator", "Support", "Auditor", "Member"}),
        ("Support", {"Support", "Member"}),
        ("Auditor", {"Auditor", "Member"}),
        ("Member", {"Member"}),
    ],
)
def test_nobody_grants_above_their_own_role(own: str, may_grant: set[str]) -> None:
    assert {one.name for one in roles.grantable(with_role(own))} == may_grant


def test_a_superuser_grants_every_role_but_not_after_deactivation(administrator: User) -> None:
    assert {one.name for one in roles.grantable(administrator)} == set(roles.ROLES)
    administrator.is_active = False
    assert not roles.may_grant(administrator, [group("Member")])
    assert not roles.may_grant(administrator, [])


def test_who_is_no_staff_lets_nobody_into_the_console() -> None:
    assert not roles.may_grant(with_role("Administrator", is_staff=False), [group("Auditor")])


def test_a_group_of_the_sites_own_counts_by_what_it_holds() -> None:
    gardeners = Group.objects.create(name="Gardeners")
    assert roles.may_grant(with_role("Member"), [gardeners])
    gardeners.permissions.set(Permission.objects.filter(codename="delete_user"))
    assert not roles.may_grant(with_role("Administrator"), [gardeners])


def test_the_migration_makes_everybody_without_a_role_a_member(
    owner: User, colleague: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.groups.clear()
    colleague.groups.set([group("Support")])
    migration = import_module("accounts.migrations.0005_give_everybody_a_role")
    monkeypatch.setattr(migration, "BATCH", 1)
    with connection.schema_editor() as editor:
        migration.give_members_their_role(apps, editor)
    assert [one.name for one in owner.groups.all()] == ["Member"]
    assert [one.name for one in colleague.groups.all()] == ["Support"]


@pytest.mark.parametrize("name", ["Support", "Gardeners"])
def test_the_migration_stops_before_a_group_of_the_sites_own_becomes_a_role(name: str) -> None:
    migration = import_module("accounts.migrations.0005_give_everybody_a_role")
    own, _made = Group.objects.get_or_create(name=name)
    later = [
        import_module(f"accounts.migrations.{name}")
        for name in ("0006_let_roles_look_after_health", "0011_end_accounts", "0014_import_people")
    ]
    health, ends, imports = later
    with connection.schema_editor() as editor:  # as on the way back to where that migration runs again
        imports.take_permission_back(apps, editor)
        ends.take_permission_back(apps, editor)
        health.take_permissions_back(apps, editor)
        migration.refuse_groups_of_other_meaning(apps, editor)
        own.permissions.add(Permission.objects.get(codename="delete_user"))
        if name in roles.ROLES:
            with pytest.raises(RuntimeError, match="called Support with"):
                migration.refuse_groups_of_other_meaning(apps, editor)
        else:
            migration.refuse_groups_of_other_meaning(apps, editor)


GROUPS = "/admin/auth/group/"


def form_of(group: Group, *codenames: str) -> dict[str, object]:
    return {"name": group.name, "permissions": [p.pk for p in Permission.objects.filter(codename__in=codenames)]}


def test_staff_who_may_change_groups_still_give_themselves_nothing() -> None:
    own = Group.objects.create(name="Gardeners")
    staff = UserFactory.create(is_staff=True)
    staff.groups.set([own])
    staff.user_permissions.set(Permission.objects.filter(content_type__app_label="auth"))
    browser = Client()
    browser.force_login(staff)
    assert browser.get(GROUPS).status_code == 200
    for path in (f"{GROUPS}{own.pk}/change/", f"{GROUPS}add/", f"{GROUPS}{own.pk}/delete/"):
        assert browser.post(path, {**form_of(own, "change_user"), "post": "yes"}).status_code == 403
    assert roles.permissions_of([own]) == set()


def test_a_superuser_edits_own_groups_but_the_four_roles_stay_as_declared(admins_browser: Client) -> None:
    own, support = Group.objects.create(name="Gardeners"), group("Support")
    assert admins_browser.post(f"{GROUPS}{own.pk}/change/", form_of(own, "view_user")).status_code == 302
    assert roles.permissions_of([own]) == {"accounts.view_user"}
    assert admins_browser.post(f"{GROUPS}{support.pk}/change/", form_of(support, "view_user")).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [str(support.pk)], "post": "yes", "index": "0"}
    admins_browser.post(GROUPS, chosen)
    assert roles.permissions_of([group("Support")]) == roles.ROLES["Support"].permissions
