"""Make everybody who has no role yet a member, as signups do from now on."""

from django.db import migrations

BATCH = 10_000


def give_members_their_role(apps, schema_editor):
    group_model = apps.get_model("auth", "Group")
    user_model = apps.get_model("accounts", "User")
    member_row = user_model.groups.through
    database = schema_editor.connection.alias
    member, _made = group_model.objects.using(database).get_or_create(name="Member")
    without = user_model.objects.using(database).filter(groups=None).values_list("pk", flat=True)
    # Each batch commits by itself (`atomic` is off), so that a large table is never locked for long.
    while batch := list(without[:BATCH]):
        rows = [member_row(user_id=pk, group_id=member.pk) for pk in batch]
        member_row.objects.using(database).bulk_create(rows, ignore_conflicts=True)


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0004_create_invitations")]
    operations = [migrations.RunPython(give_members_their_role, migrations.RunPython.noop, elidable=True)]
