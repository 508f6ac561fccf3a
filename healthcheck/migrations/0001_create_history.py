"""Create what the health pages remember: last readings, samples, connections, incidents."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="ConnectionSample",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(unique=True, verbose_name="at")),
                ("active", models.PositiveIntegerField(verbose_name="active")),
                ("idle", models.PositiveIntegerField(verbose_name="idle")),
                ("idle_in_transaction", models.PositiveIntegerField(verbose_name="idle in a transaction")),
                ("waiting", models.PositiveIntegerField(verbose_name="waiting for a lock")),
                ("most", models.PositiveIntegerField(verbose_name="most")),
            ],
            options={
                "verbose_name": "connection sample",
                "verbose_name_plural": "connection samples",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Sample",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(unique=True, verbose_name="at")),
                (
                    "status",
                    models.CharField(
                        choices=[("pass", "pass"), ("warn", "warn"), ("fail", "fail")],
                        max_length=4,
                        verbose_name="status",
                    ),
                ),
                (
                    "milliseconds",
                    models.FloatField(
                        help_text="Of the database, in milliseconds.", null=True, verbose_name="response time"
                    ),
                ),
                (
                    "codes",
                    models.JSONField(default=dict, help_text="Of the checks that did not pass.", verbose_name="codes"),
                ),
            ],
            options={
                "verbose_name": "sample",
                "verbose_name_plural": "samples",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Incident",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("check_name", models.CharField(max_length=64, verbose_name="check")),
                ("host", models.CharField(blank=True, max_length=255, verbose_name="host")),
                (
                    "status",
                    models.CharField(
                        choices=[("pass", "pass"), ("warn", "warn"), ("fail", "fail")],
                        max_length=4,
                        verbose_name="worst status",
                    ),
                ),
                ("code", models.CharField(max_length=64, verbose_name="code")),
                ("began_at", models.DateTimeField(verbose_name="began")),
                ("ended_at", models.DateTimeField(null=True, verbose_name="ended")),
            ],
            options={
                "verbose_name": "incident",
                "verbose_name_plural": "incidents",
                "default_permissions": ("view",),
                "indexes": [models.Index(fields=["-began_at"], name="healthcheck_incident_began")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("ended_at", None)),
                        fields=("check_name", "host"),
                        name="healthcheck_incident_open",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("ended_at", None), ("ended_at__gte", models.F("began_at")), _connector="OR"
                        ),
                        name="healthcheck_incident_in_order",
                    ),
                ],
            },
        ),
        migrations.CreateModel(
            name="Reading",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("check_name", models.CharField(max_length=64, verbose_name="check")),
                (
                    "host",
                    models.CharField(
                        blank=True, help_text="Empty: of the whole site.", max_length=255, verbose_name="host"
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("pass", "pass"), ("warn", "warn"), ("fail", "fail")],
                        max_length=4,
                        verbose_name="status",
                    ),
                ),
                ("code", models.CharField(max_length=64, verbose_name="code")),
                ("value", models.FloatField(null=True, verbose_name="value")),
                ("unit", models.CharField(blank=True, max_length=16, verbose_name="unit")),
                ("milliseconds", models.FloatField(help_text="How long the check took.", verbose_name="milliseconds")),
                ("at", models.DateTimeField(verbose_name="at")),
            ],
            options={
                "verbose_name": "reading",
                "verbose_name_plural": "readings",
                "permissions": [("view_health", "Can see the details of health pages")],
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(fields=("check_name", "host"), name="healthcheck_reading_of_check")
                ],
            },
        ),
    ]
