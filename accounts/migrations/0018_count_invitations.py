"""Note, apart from the invitation itself, when somebody first did something on the page behind its link."""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0017_create_views_of_users")]

    operations = [
        migrations.CreateModel(
            name="Opening",
            fields=[
                (
                    "invitation",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="opening",
                        serialize=False,
                        to="accounts.invitation",
                    ),
                ),
                ("opened_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "verbose_name": "opening",
                "verbose_name_plural": "openings",
                "default_permissions": (),
            },
        ),
    ]
