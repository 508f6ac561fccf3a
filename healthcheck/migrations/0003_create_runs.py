"""The operations that people ask for, and what came of them."""

import uuid

import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("healthcheck", "0002_create_figures"),
    ]

    operations = [
        migrations.CreateModel(
            name="Run",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("operation", models.CharField(max_length=40, verbose_name="operation")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("queued", "waiting for a worker"),
                            ("running", "running"),
                            ("done", "done"),
                            ("failed", "failed"),
                        ],
                        default="queued",
                        max_length=7,
                        verbose_name="state",
                    ),
                ),
                (
                    "code",
                    models.CharField(blank=True, help_text="Why it has failed.", max_length=40, verbose_name="code"),
                ),
                ("arguments", models.JSONField(default=dict, verbose_name="arguments")),
                ("progress", models.JSONField(default=dict, verbose_name="progress")),
                ("result", models.JSONField(default=dict, verbose_name="result")),
                ("asked_by_kind", models.CharField(help_text="user, token or command", max_length=10)),
                ("asked_by_id", models.CharField(blank=True, max_length=64)),
                ("asked_by_label", models.CharField(max_length=150, verbose_name="asked for by")),
                (
                    "asked_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="asked for"
                    ),
                ),
                ("began_at", models.DateTimeField(null=True, verbose_name="began")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended")),
            ],
            options={
                "verbose_name": "operation",
                "verbose_name_plural": "operations",
                "permissions": [
                    ("run_optimize", "Can have the database optimized"),
                    ("run_migrations", "Can have migrations applied"),
                    ("run_cleanup", "Can have old data cleaned up"),
                ],
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["-asked_at"], name="healthcheck_run_asked")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state__in", ["queued", "running"])),
                        fields=("operation",),
                        name="healthcheck_run_one_open",
                    )
                ],
            },
        ),
    ]
