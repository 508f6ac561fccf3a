import django.contrib.postgres.fields
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
            name="Task",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("deleted_at", models.DateTimeField(editable=False, null=True, verbose_name="deleted")),
                ("version", models.PositiveIntegerField(default=1, editable=False, verbose_name="version")),
                (
                    "updated_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="updated"),
                ),
                ("title", models.CharField(max_length=200, verbose_name="title")),
                ("text", models.TextField(blank=True, default="", max_length=10000, verbose_name="text")),
                (
                    "priority",
                    models.PositiveSmallIntegerField(
                        choices=[(1, "low"), (2, "normal"), (3, "high"), (4, "urgent")],
                        default=2,
                        verbose_name="priority",
                    ),
                ),
                ("due", models.DateField(blank=True, null=True, verbose_name="due")),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="made"),
                ),
                ("completed_at", models.DateTimeField(editable=False, null=True, verbose_name="done")),
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
                "verbose_name": "task",
                "verbose_name_plural": "tasks",
            },
        ),
        migrations.CreateModel(
            name="PriorityCount",
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
                        "owner_id", "priority", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "priority",
                    models.PositiveSmallIntegerField(choices=[(1, "low"), (2, "normal"), (3, "high"), (4, "urgent")]),
                ),
                ("open", models.BigIntegerField()),
                ("completed", models.BigIntegerField()),
            ],
            options={
                "db_table": "tasks_by_priority",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Productivity",
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
                        "owner_id", "period", "begins", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("period", models.TextField()),
                ("begins", models.DateField()),
                ("completed", models.BigIntegerField()),
                ("median_hours", models.FloatField()),
            ],
            options={
                "db_table": "tasks_productivity",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="TaskSummary",
            fields=[
                (
                    "owner",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("open", models.BigIntegerField()),
                ("completed", models.BigIntegerField()),
                ("overdue", models.BigIntegerField()),
                ("due_today", models.BigIntegerField()),
            ],
            options={
                "db_table": "tasks_summary",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Tag",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=50, verbose_name="name")),
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
                "verbose_name": "tag",
                "verbose_name_plural": "tags",
            },
        ),
        migrations.CreateModel(
            name="CompletedTask",
            fields=[
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "task",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="tasks.task",
                    ),
                ),
                ("title", models.TextField()),
                ("completed_at", models.DateTimeField()),
                ("took", models.DurationField()),
            ],
            options={
                "db_table": "tasks_recently_completed",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="OverdueTask",
            fields=[
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "task",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="tasks.task",
                    ),
                ),
                ("title", models.TextField()),
                ("due", models.DateField()),
                ("days", models.IntegerField()),
            ],
            options={
                "db_table": "tasks_overdue",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="TaggedTask",
            fields=[
                (
                    "owner",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to=settings.AUTH_USER_MODEL
                    ),
                ),
                (
                    "task",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="tasks.task",
                    ),
                ),
                ("title", models.TextField()),
                ("tags", django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), size=None)),
            ],
            options={
                "db_table": "tasks_with_tags",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.AddField(
            model_name="task",
            name="tags",
            field=models.ManyToManyField(blank=True, related_name="tasks", to="tasks.tag", verbose_name="tags"),
        ),
        migrations.AddIndex(
            model_name="task",
            index=models.Index(fields=["owner", "-created_at", "-id"], name="tasks_task_page"),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(("priority__in", [1, 2, 3, 4])), name="tasks_task_priority"
            ),
        ),
        migrations.AddConstraint(
            model_name="task",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("completed_at", None), ("completed_at__gte", models.F("created_at")), _connector="OR"
                ),
                name="tasks_task_order",
            ),
        ),
        migrations.AddConstraint(
            model_name="tag",
            constraint=models.UniqueConstraint(fields=("owner", "name"), name="tasks_tag_name"),
        ),
    ]
