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
            name="PopularQuery",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "text", "kind", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("text", models.TextField()),
                ("kind", models.TextField(choices=[("search", "search"), ("report", "report"), ("export", "export")])),
                ("runs", models.BigIntegerField()),
                ("runs_before", models.BigIntegerField()),
                ("people", models.BigIntegerField()),
                ("median_milliseconds", models.FloatField()),
                ("growth", models.FloatField()),
            ],
            options={
                "db_table": "queries_popular",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Query",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("text", models.CharField(max_length=2000, verbose_name="question")),
                (
                    "kind",
                    models.CharField(
                        choices=[("search", "search"), ("report", "report"), ("export", "export")],
                        max_length=10,
                        verbose_name="kind",
                    ),
                ),
                (
                    "status",
                    models.CharField(
                        choices=[("ok", "answered"), ("failed", "failed"), ("cancelled", "cancelled")],
                        max_length=10,
                        verbose_name="status",
                    ),
                ),
                ("milliseconds", models.PositiveIntegerField(verbose_name="response time (ms)")),
                ("at", models.DateTimeField(default=django.utils.timezone.now, verbose_name="asked")),
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
                "verbose_name": "query",
                "verbose_name_plural": "queries",
                "indexes": [
                    models.Index(fields=["owner", "-at", "-id"], name="queries_query_page"),
                    models.Index(fields=["at"], name="queries_query_at"),
                ],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("kind__in", ["search", "report", "export"])), name="queries_query_kind"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("status__in", ["ok", "failed", "cancelled"])), name="queries_query_status"
                    ),
                ],
            },
        ),
    ]
