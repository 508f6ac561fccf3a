from decimal import Decimal

import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Spending",
            fields=[
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "owner_id", "month", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("month", models.DateField()),
                ("bought", models.DecimalField(decimal_places=4, max_digits=14)),
                ("spent", models.DecimalField(decimal_places=4, max_digits=14)),
            ],
            options={
                "db_table": "machines_spending",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Machine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("deleted_at", models.DateTimeField(editable=False, null=True, verbose_name="deleted")),
                ("version", models.PositiveIntegerField(default=1, editable=False, verbose_name="version")),
                (
                    "updated_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="updated"),
                ),
                ("name", models.CharField(max_length=60, verbose_name="name")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("stopped", "stopped"),
                            ("starting", "starting"),
                            ("running", "running"),
                            ("stopping", "stopping"),
                            ("failed", "failed"),
                        ],
                        default="stopped",
                        editable=False,
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "price",
                    models.DecimalField(
                        decimal_places=4, default=Decimal("1"), max_digits=10, verbose_name="credits an hour"
                    ),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "machine",
                "verbose_name_plural": "machines",
            },
        ),
        migrations.CreateModel(
            name="Bill",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=100, verbose_name="key")),
                ("amount", models.DecimalField(decimal_places=4, max_digits=14, verbose_name="credits")),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="at")),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
                (
                    "machine",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="bills",
                        to="machines.machine",
                    ),
                ),
            ],
            options={
                "verbose_name": "bill",
                "verbose_name_plural": "bills",
            },
        ),
        migrations.CreateModel(
            name="Metric",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="measured")),
                ("processor", models.FloatField(verbose_name="share of its processors")),
                ("memory", models.FloatField(verbose_name="share of its memory")),
                (
                    "machine",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="metrics", to="machines.machine"
                    ),
                ),
            ],
            options={
                "verbose_name": "metric",
                "verbose_name_plural": "metrics",
            },
        ),
        migrations.CreateModel(
            name="Credit",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "balance",
                    models.DecimalField(decimal_places=4, default=Decimal("0"), max_digits=14, verbose_name="credits"),
                ),
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="owner",
                    ),
                ),
            ],
            options={
                "verbose_name": "credit",
                "verbose_name_plural": "credits",
                "constraints": [
                    models.UniqueConstraint(fields=("owner",), name="machines_credit_owner"),
                    models.CheckConstraint(condition=models.Q(("balance__gte", 0)), name="machines_credit_balance"),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="machine",
            constraint=models.UniqueConstraint(
                condition=models.Q(("deleted_at", None)), fields=("owner", "name"), name="machines_machine_name"
            ),
        ),
        migrations.AddConstraint(
            model_name="machine",
            constraint=models.CheckConstraint(
                condition=models.Q(("state__in", ["stopped", "starting", "running", "stopping", "failed"])),
                name="machines_machine_state",
            ),
        ),
        migrations.AddConstraint(
            model_name="machine",
            constraint=models.CheckConstraint(condition=models.Q(("price__gte", 0)), name="machines_machine_price"),
        ),
        migrations.AddIndex(
            model_name="bill",
            index=models.Index(fields=["owner", "-at", "-id"], name="machines_bill_page"),
        ),
        migrations.AddConstraint(
            model_name="bill",
            constraint=models.UniqueConstraint(fields=("owner", "key"), name="machines_bill_once"),
        ),
        migrations.AddConstraint(
            model_name="bill",
            constraint=models.CheckConstraint(
                condition=models.Q(("amount", 0), _negated=True), name="machines_bill_amount"
            ),
        ),
        migrations.AddIndex(
            model_name="metric",
            index=models.Index(fields=["at"], name="machines_metric_at"),
        ),
        migrations.AddConstraint(
            model_name="metric",
            constraint=models.UniqueConstraint(fields=("machine", "at"), name="machines_metric_once"),
        ),
    ]
