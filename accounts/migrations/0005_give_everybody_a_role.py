"""Make everybody who has no role yet a member, as signups do from now on."""

from django.db import migrations

BATCH = 10_000


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
    operations = [migrations.RunPython(give_members_their_role, migrations.RunPython.noop, elidable=True)]
