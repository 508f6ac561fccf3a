"""The user table with its identity constraints, and the names that were given up."""

import django.core.validators
import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models

import accounts.fields
import accounts.identity
import accounts.models


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
    ]

    operations = [
        migrations.CreateModel(
            name="User",
            fields=[
                ("password", models.CharField(max_length=128, verbose_name="password")),
                ("last_login", models.DateTimeField(blank=True, null=True, verbose_name="last login")),
                (
                    "is_superuser",
                    models.BooleanField(
                        default=False,
                        help_text="Designates that this user has all permissions without explicitly assigning them.",
                        verbose_name="superuser status",
                    ),
                ),
                (
                    "id",
                    models.UUIDField(default=accounts.models.new_id, editable=False, primary_key=True, serialize=False),
                ),
                (
                    "username",
                    models.CharField(
                        max_length=64,
                        validators=[accounts.identity.validate_username],
                        verbose_name="username",
                    ),
                ),
                (
                    "username_source",
                    accounts.fields.DerivedTextField(derive=accounts.fields.unchanged, source="username"),
                ),
                (
                    "username_canonical",
                    accounts.fields.DerivedTextField(derive=accounts.identity.canonical_username, source="username"),
                ),
                (
                    "username_skeleton",
                    accounts.fields.DerivedTextField(derive=accounts.identity.username_skeleton, source="username"),
                ),
                (
                    "look_alike_approved",
                    models.BooleanField(
                        default=False,
                        help_text="An administrator has seen that this name looks like another one, and allows it.",
                        verbose_name="look-alike approved",
                    ),
                ),
                (
                    "email",
                    models.CharField(
                        max_length=254,
                        validators=[accounts.identity.validate_email_address],
                        verbose_name="e-mail address",
                    ),
                ),
                (
                    "email_source",
                    accounts.fields.DerivedTextField(derive=accounts.fields.unchanged, source="email"),
                ),
                (
                    "email_canonical",
                    accounts.fields.DerivedTextField(derive=accounts.identity.canonical_email, source="email"),
                ),
                (
                    "email_verified_at",
                    models.DateTimeField(blank=True, null=True, verbose_name="e-mail verified at"),
                ),
                (
                    "full_name",
                    models.CharField(
                        blank=True,
                        max_length=150,
                        validators=[accounts.identity.validate_one_line],
                        verbose_name="full name",
                    ),
                ),
                ("bio", models.TextField(blank=True, max_length=1000, verbose_name="about you")),
                (
                    "avatar_url",
                    models.CharField(
                        blank=True,
                        help_text="Kept as a link; Gatehouse itself never fetches it.",
                        max_length=500,
                        validators=[django.core.validators.URLValidator(schemes=["https"])],
                        verbose_name="picture address",
                    ),
                ),
                (
                    "is_active",
                    models.BooleanField(
                        default=True,
                        help_text="Clear this instead of deleting the account.",
                        verbose_name="active",
                    ),
                ),
                (
                    "is_staff",
                    models.BooleanField(default=False, help_text="May enter this admin site.", verbose_name="staff"),
                ),
                (
                    "login_count",
                    models.PositiveIntegerField(default=0, editable=False, verbose_name="number of logins"),
                ),
                ("signup_key", models.UUIDField(editable=False, null=True)),
                (
                    "created_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="created"),
                ),
                (
                    "updated_at",
                    models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name="updated"),
                ),
                ("deleted_at", models.DateTimeField(editable=False, null=True, verbose_name="deleted")),
                ("version", models.PositiveIntegerField(default=1, editable=False, verbose_name="version")),
                (
                    "groups",
                    models.ManyToManyField(
                        blank=True,
                        help_text="The groups this user belongs to. A user will get all permissions granted to each of their groups.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.group",
                        verbose_name="groups",
                    ),
                ),
                (
                    "user_permissions",
                    models.ManyToManyField(
                        blank=True,
                        help_text="Specific permissions for this user.",
                        related_name="user_set",
                        related_query_name="user",
                        to="auth.permission",
                        verbose_name="user permissions",
                    ),
                ),
            ],
            options={
                "verbose_name": "user",
                "verbose_name_plural": "users",
            },
        ),
        migrations.CreateModel(
            name="ReservedUsername",
            fields=[
                (
                    "id",
                    models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID"),
                ),
                ("username_canonical", models.TextField()),
                ("username_skeleton", models.TextField()),
                ("signup_key", models.UUIDField(null=True)),
                ("reserved_until", models.DateTimeField()),
                (
                    "holder",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="reserved_usernames",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "reserved username",
                "verbose_name_plural": "reserved usernames",
            },
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(fields=["created_at"], name="accounts_user_created"),
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(fields=["updated_at"], name="accounts_user_updated"),
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(condition=models.Q(("is_active", False)), fields=["id"], name="accounts_user_inactive"),
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(condition=models.Q(("is_staff", True)), fields=["id"], name="accounts_user_staff"),
        ),
        migrations.AddIndex(
            model_name="user",
            index=models.Index(
                condition=models.Q(("is_superuser", True)), fields=["id"], name="accounts_user_superuser"
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                fields=("username_canonical",), name="accounts_user_username", opclasses=["text_pattern_ops"]
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                condition=models.Q(("look_alike_approved", False)),
                fields=("username_skeleton",),
                name="accounts_user_look_alike",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(
                fields=("email_canonical",), name="accounts_user_email", opclasses=["text_pattern_ops"]
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.UniqueConstraint(fields=("signup_key",), name="accounts_user_signup_key"),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("username_source", models.F("username"))),
                name="accounts_user_username_not_stale",
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(("email_source", models.F("email"))), name="accounts_user_email_not_stale"
            ),
        ),
        migrations.AddConstraint(
            model_name="user",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    models.Q(("username_canonical", ""), _negated=True),
                    models.Q(("username_skeleton", ""), _negated=True),
                    models.Q(("email_canonical", ""), _negated=True),
                ),
                name="accounts_user_identity_not_empty",
            ),
        ),
        migrations.AddIndex(
            model_name="reservedusername",
            index=models.Index(fields=["username_skeleton"], name="accounts_reserved_skeleton"),
        ),
        migrations.AddConstraint(
            model_name="reservedusername",
            constraint=models.UniqueConstraint(fields=("signup_key",), name="accounts_reserved_signup_key"),
        ),
        migrations.AddIndex(
            model_name="reservedusername",
            index=models.Index(fields=["username_canonical"], name="accounts_reserved_canonical"),
        ),
    ]
