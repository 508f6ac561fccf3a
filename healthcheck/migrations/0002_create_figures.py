"""Create the figures of the site and the history of statements."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("healthcheck", "0001_create_history"),
    ]

    operations = [
        migrations.CreateModel(
            name="Statement",
            fields=[
                ("key", models.CharField(max_length=16, primary_key=True, serialize=False)),
                ("operation", models.CharField(max_length=16, verbose_name="operation")),
                ("table", models.CharField(max_length=64, verbose_name="table")),
                ("text", models.TextField(verbose_name="text")),
            ],
            options={
                "verbose_name": "statement",
                "verbose_name_plural": "statements",
                "default_permissions": ("view",),
            },
        ),
        migrations.CreateModel(
            name="Figure",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=64, verbose_name="name")),
                ("labels", models.JSONField(blank=True, default=dict, verbose_name="labels")),
                ("value", models.FloatField(default=0, verbose_name="value")),
                ("at", models.DateTimeField(help_text="When it last changed.", verbose_name="at")),
            ],
            options={
                "verbose_name": "figure",
                "verbose_name_plural": "figures",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(fields=("name", "labels"), name="healthcheck_figure_of_labels")
                ],
            },
        ),
        migrations.CreateModel(
            name="StatementHour",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("hour", models.DateTimeField(verbose_name="hour")),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("count", models.PositiveBigIntegerField(default=0, verbose_name="count")),
                ("milliseconds", models.FloatField(default=0, verbose_name="milliseconds in all")),
                ("slowest", models.FloatField(default=0, help_text="In milliseconds.", verbose_name="slowest")),
                ("errors", models.PositiveBigIntegerField(default=0, verbose_name="failed")),
                (
                    "statement",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        to="healthcheck.statement",
                        verbose_name="statement",
                    ),
                ),
            ],
            options={
                "verbose_name": "statements of an hour",
                "verbose_name_plural": "statements by the hour",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(fields=("hour", "host", "statement"), name="healthcheck_statement_of_hour")
                ],
            },
        ),
    ]
