"""The tokens that `config.one_use` hands out."""

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="OneUseToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("purpose", models.CharField(max_length=100)),
                ("digest", models.CharField(max_length=64)),
                ("payload", models.JSONField()),
                ("made_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(null=True)),
            ],
            options={
                "verbose_name": "one-use token",
                "verbose_name_plural": "one-use tokens",
                "default_permissions": (),
                "indexes": [models.Index(fields=["expires_at"], name="config_one_use_token_expiry")],
                "constraints": [models.UniqueConstraint(fields=("digest",), name="config_one_use_token_digest")],
            },
        ),
    ]
