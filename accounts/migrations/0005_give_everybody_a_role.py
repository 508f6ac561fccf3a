"""Make everybody who has no role yet a member, as signups do from now on."""

from django.db import migrations

BATCH = 10_000
# What the four roles hold at most when this is written. From here on every `migrate` writes their groups.
ROLES = ["Administrator", "Support", "Auditor", "Member"]
HELD = {"view_user", "change_user", "add_user", "view_reservedusername", "view_loginattempt", "view_group"}
HELD |= {"view_invitation", "add_invitation", "change_invitation"}
HELD |= {"view_record", "export_record", "restore_record"}  # who goes back past this and forward again has them


def refuse_groups_of_other_meaning(apps, schema_editor):
    """Stop before a group of the site's own is made into one of the roles for all its members."""
    permissions = apps.get_model("auth", "Permission").objects.using(schema_editor.connection.alias)
    other = permissions.exclude(codename__in=HELD).filter(group__name__in=ROLES)
    if names := sorted(set(other.values_list("group__name", flat=True))):
        raise RuntimeError(
            f"There are groups called {', '.join(names)} with permissions that the role of this name does not hold. "
            "Please rename them: roles are groups of these names, which every migrate writes as declared."
        )


def give_members_their_role(apps, schema_editor):
    group_model = apps.get_model("auth", "Group")
    user_model = apps.get_model("accounts", "User")
    member_row = user_model.groups.through
    database = schema_editor.connection.alias
    member, _made = group_model.objects.using(database).get_or_create(name="Member")
    everybody = user_model.objects.using(database).order_by("pk").values_list("pk", flat=True)
    batch = list(everybody[:BATCH])
    # Each batch commits by itself (`atomic` is off), so that a large table is never locked for long, and begins behind
    # the last: asked for all without a role, PostgreSQL would look at the whole table for every batch.
    while batch:
        with_role = set(member_row.objects.using(database).filter(user__in=batch).values_list("user_id", flat=True))
        rows = [member_row(user_id=pk, group_id=member.pk) for pk in batch if pk not in with_role]
        member_row.objects.using(database).bulk_create(rows, ignore_conflicts=True)
        batch = list(everybody.filter(pk__gt=batch[-1])[:BATCH])


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0004_create_invitations")]
    operations = [
        migrations.RunPython(refuse_groups_of_other_meaning, migrations.RunPython.noop, elidable=True),
        migrations.RunPython(give_members_their_role, migrations.RunPython.noop, elidable=True),
    ]
