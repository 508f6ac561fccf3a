"""Files of people: what was read, how far it is written, and the verdicts; and who may look at them."""

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.models


def take_permission_back(apps, schema_editor):
    """On the way back past 0005 and forward again, that migration refuses permissions that it does not know."""
    database = schema_editor.connection.alias
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    to_look = permissions.filter(content_type__app_label="accounts", codename="view_import")
    for group in apps.get_model("auth", "Group").objects.using(database).filter(name__in=["Administrator", "Support"]):
        group.permissions.remove(*to_look)


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0013_know_whose_session_it_is"),
    ]

    operations = [
        migrations.CreateModel(
            name="Import",
            fields=[
                (
                    "id",
                    models.UUIDField(default=accounts.models.new_id, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[("users", "people"), ("invitations", "invitations")], max_length=12, verbose_name="of"
                    ),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("checked", "checked, nothing is written yet"),
                            ("queued", "waiting for the worker"),
                            ("running", "being written"),
                            ("done", "done"),
                            ("failed", "stopped"),
                        ],
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("code", models.CharField(blank=True, max_length=50, verbose_name="why it stopped")),
                ("file_name", models.CharField(max_length=200, verbose_name="file")),
                ("sha256", models.CharField(max_length=64)),
                ("content", models.BinaryField(default=bytes)),
                ("rows", models.PositiveIntegerField(verbose_name="rows")),
                ("position", models.PositiveIntegerField(default=0, verbose_name="rows done")),
                ("update_existing", models.BooleanField(default=False, verbose_name="changes those who exist")),
                ("send_mail", models.BooleanField(default=False, verbose_name="mails a link to choose a password")),
                ("counts", models.JSONField(default=dict, verbose_name="counts")),
                ("verdicts", models.JSONField(default=list, verbose_name="verdicts")),
                ("started_by_name", models.CharField(max_length=200, verbose_name="by")),
                ("from_command", models.BooleanField(default=False, verbose_name="by a command")),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="begun")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended")),
                (
                    "started_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="imports",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="by",
                    ),
                ),
            ],
            options={
                "verbose_name": "import",
                "verbose_name_plural": "imports",
                "default_permissions": ["view"],
                "indexes": [
                    models.Index(fields=["created_at"], name="accounts_import_created"),
                    models.Index(
                        condition=models.Q(("ended_at", None)), fields=["sha256"], name="accounts_import_unfinished"
                    ),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("position__lte", models.F("rows"))), name="accounts_import_position"
                    )
                ],
            },
        ),
        migrations.RunPython(migrations.RunPython.noop, take_permission_back, elidable=True),
    ]
