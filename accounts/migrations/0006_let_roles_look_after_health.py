"""Take from the roles what they may do about health before its tables go; every `migrate` gives it back.

On the way back past 0005 and forward again, that migration refuses groups with permissions that it does not know.
"""

from django.db import migrations

ROLES = ["Administrator", "Support", "Auditor", "Member"]


def take_permissions_back(apps, schema_editor):
    permissions = apps.get_model("auth", "Permission").objects.using(schema_editor.connection.alias)
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    about_health = permissions.filter(content_type__app_label="healthcheck")
    for group in groups.filter(name__in=ROLES):
        group.permissions.remove(*about_health)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0005_give_everybody_a_role"),
        ("healthcheck", "0001_create_history"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(migrations.RunPython.noop, take_permissions_back, elidable=True)]
