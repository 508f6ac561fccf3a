"""Changes of an e-mail address, with the trigger that keeps an old one from others while it may return; copies of data."""

import uuid

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

import accounts.fields
import accounts.identity
import accounts.models

# After the row is in: a newcomer who waited for the change to commit sees it here, in a new snapshot.
REFUSE = """
CREATE FUNCTION accounts_refuse_reserved_email() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM accounts_addresschange
        WHERE old_email_canonical = NEW.email_canonical
            AND undo_until > clock_timestamp()
            AND user_id <> NEW.id
    ) THEN
        RAISE unique_violation USING
            MESSAGE = 'this address may return to the account that had it',
            CONSTRAINT = 'accounts_user_reserved_email',
            TABLE = 'accounts_user';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_refuse_reserved_email AFTER INSERT OR UPDATE OF email_canonical ON accounts_user
    FOR EACH ROW EXECUTE FUNCTION accounts_refuse_reserved_email();
"""
REFUSE_NO_MORE = """
DROP TRIGGER accounts_refuse_reserved_email ON accounts_user;
DROP FUNCTION accounts_refuse_reserved_email();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0009_let_people_choose_zone_and_language"),
    ]

    operations = [
        migrations.CreateModel(
            name="AddressChange",
            fields=[
                (
                    "id",
                    models.UUIDField(default=accounts.models.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("old_email", models.CharField(max_length=254, verbose_name="old e-mail address")),
                (
                    "old_email_canonical",
                    accounts.fields.DerivedTextField(derive=accounts.identity.canonical_email, source="old_email"),
                ),
                ("old_verified_at", models.DateTimeField(null=True, verbose_name="old address verified at")),
                ("new_email", models.CharField(max_length=254, verbose_name="new e-mail address")),
                (
                    "new_email_canonical",
                    accounts.fields.DerivedTextField(derive=accounts.identity.canonical_email, source="new_email"),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "waiting for confirmation"),
                            ("confirmed", "confirmed"),
                            ("undone", "undone"),
                            ("dropped", "given up"),
                        ],
                        default="waiting",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                (
                    "requested_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="asked for"
                    ),
                ),
                ("confirmed_at", models.DateTimeField(null=True, verbose_name="confirmed at")),
                ("undo_until", models.DateTimeField(null=True, verbose_name="can be undone until")),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="address_changes",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "change of address",
                "verbose_name_plural": "changes of address",
                "indexes": [
                    models.Index(fields=["user", "requested_at"], name="accounts_address_change_user"),
                    models.Index(
                        condition=models.Q(("undo_until__isnull", False)),
                        fields=["old_email_canonical"],
                        name="accounts_address_change_old",
                    ),
                    models.Index(fields=["requested_at"], name="accounts_address_change_age"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "waiting")),
                        fields=("user",),
                        name="accounts_address_change_one_waiting",
                    )
                ],
            },
        ),
        migrations.RunSQL(REFUSE, REFUSE_NO_MORE),
        migrations.CreateModel(
            name="DataExport",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "being made"),
                            ("ready", "ready"),
                            ("failed", "not made yet"),
                            ("over", "not kept any more"),
                        ],
                        default="waiting",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("size", models.PositiveBigIntegerField(default=0, verbose_name="bytes")),
                (
                    "asked_at",
                    models.DateTimeField(
                        db_default=django.db.models.functions.datetime.Now(), verbose_name="asked for"
                    ),
                ),
                ("made_at", models.DateTimeField(null=True, verbose_name="made")),
                ("expires_at", models.DateTimeField(null=True, verbose_name="expires")),
                (
                    "user",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="data_exports",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "data export",
                "verbose_name_plural": "data exports",
                "indexes": [
                    models.Index(fields=["user", "asked_at"], name="accounts_data_export_user"),
                    models.Index(fields=["asked_at"], name="accounts_data_export_age"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "waiting")),
                        fields=("user",),
                        name="accounts_data_export_one_waiting",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="DataExportPiece",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.PositiveIntegerField()),
                ("content", models.BinaryField()),
                (
                    "export",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="pieces",
                        to="accounts.dataexport",
                    ),
                ),
            ],
            options={
                "verbose_name": "piece of a data export",
                "verbose_name_plural": "pieces of data exports",
                "constraints": [
                    models.UniqueConstraint(fields=("export", "number"), name="accounts_data_export_piece")
                ],
            },
        ),
    ]
