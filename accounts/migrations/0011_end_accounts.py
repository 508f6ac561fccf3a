"""What the end of an account needs: a time for it, names that stay reserved, and triggers that no writer gets round."""

from importlib import import_module

import django.db.models.functions.datetime
from django.db import migrations, models

import accounts.fields
import accounts.identity

_former = import_module("accounts.migrations.0002_guard_users_by_triggers")


def _again(create):
    """The function alone of what made function and trigger, in place of the one that is there."""
    return create.partition("CREATE TRIGGER")[0].replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1)


# A digest under another key is no edit either.
TOUCH = _again(_former.TOUCH).replace("'password',", "'password', 'username_digests',")

# The name of somebody who is erased is kept as a digest only.
KEEP = _again(_former.KEEP).replace(
    "BEGIN\n", "BEGIN\n    IF NEW.deleted_at IS NOT NULL THEN\n        RETURN NULL;\n    END IF;\n", 1
)

# In one statement with the names that were given up: erasing makes one of these from one of those.
REFUSE = """
CREATE OR REPLACE FUNCTION accounts_refuse_reserved_username() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    given_up boolean;
    erased boolean;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.username_canonical <> OLD.username_canonical
        AND NEW.username_digests IS NOT DISTINCT FROM OLD.username_digests THEN
        RAISE check_violation USING
            MESSAGE = 'the username was changed and its digests were not',
            CONSTRAINT = 'accounts_user_digests_not_stale',
            TABLE = 'accounts_user';
    END IF;
    SELECT
        EXISTS (
            SELECT FROM accounts_reservedusername
            WHERE username_canonical = NEW.username_canonical
                AND reserved_until > clock_timestamp()
                AND holder_id IS DISTINCT FROM NEW.id
        ),
        NEW.deleted_at IS NULL
            AND (TG_OP = 'INSERT' OR NEW.username_digests IS DISTINCT FROM OLD.username_digests)
            AND EXISTS (
                SELECT FROM accounts_erasedname WHERE digest = ANY (string_to_array(NEW.username_digests, ' '))
            )
    INTO given_up, erased;
    IF given_up THEN
        RAISE unique_violation USING
            MESSAGE = 'this username was given up recently and is not free yet',
            CONSTRAINT = 'accounts_user_reserved_username',
            TABLE = 'accounts_user';
    ELSIF erased THEN
        RAISE unique_violation USING
            MESSAGE = 'this username was that of a person who was erased',
            CONSTRAINT = 'accounts_user_erased_username',
            TABLE = 'accounts_user';
    END IF;
    RETURN NULL;
END $$;
"""

# After the row is changed and one at a time: of two who demote each other, the second sees what the first has done.
LAST_SUPERUSER = """
CREATE FUNCTION accounts_keep_a_superuser() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('gatehouse superusers', 0));
    IF NOT EXISTS (
        SELECT FROM accounts_user WHERE is_superuser AND is_active AND erase_at IS NULL AND deleted_at IS NULL
    ) THEN
        RAISE check_violation USING
            MESSAGE = 'this is the last active superuser',
            CONSTRAINT = 'accounts_user_last_superuser',
            TABLE = 'accounts_user';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_keep_a_superuser AFTER UPDATE ON accounts_user
    FOR EACH ROW WHEN (
        OLD.is_superuser AND OLD.is_active AND OLD.erase_at IS NULL AND OLD.deleted_at IS NULL
        AND NOT (NEW.is_superuser AND NEW.is_active AND NEW.erase_at IS NULL AND NEW.deleted_at IS NULL)
    ) EXECUTE FUNCTION accounts_keep_a_superuser();
CREATE TRIGGER accounts_keep_a_superuser_in_deletes AFTER DELETE ON accounts_user
    FOR EACH ROW WHEN (OLD.is_superuser AND OLD.is_active AND OLD.erase_at IS NULL AND OLD.deleted_at IS NULL)
    EXECUTE FUNCTION accounts_keep_a_superuser();
"""
DROP_LAST_SUPERUSER = "DROP TRIGGER accounts_keep_a_superuser_in_deletes ON accounts_user;" + _former.drop(
    "accounts_keep_a_superuser"
)

STAY_ERASED = """
CREATE FUNCTION accounts_stay_erased() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE check_violation USING
        MESSAGE = 'who was erased stays erased',
        CONSTRAINT = 'accounts_user_stays_erased',
        TABLE = 'accounts_user';
END $$;
CREATE TRIGGER accounts_stay_erased BEFORE UPDATE ON accounts_user
    FOR EACH ROW WHEN (OLD.deleted_at IS NOT NULL AND (
        NEW.deleted_at IS NULL OR NEW.is_active OR NEW.username_canonical <> OLD.username_canonical
    )) EXECUTE FUNCTION accounts_stay_erased();
"""


def take_permission_back(apps, schema_editor):
    """Or 0005, back past it and forward again, meets a permission in the roles that it does not know."""
    permissions = apps.get_model("auth", "Permission").objects.using(schema_editor.connection.alias)
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    for group in groups.filter(name__in=["Administrator", "Support", "Auditor", "Member"]):
        group.permissions.remove(*permissions.filter(codename="erase_user"))


class Migration(migrations.Migration):
    dependencies = [("accounts", "0010_change_addresses_and_export_data")]

    operations = [
        migrations.RunPython(migrations.RunPython.noop, take_permission_back, elidable=True),
        migrations.AlterModelOptions(
            name="user",
            options={
                "permissions": [("erase_user", "Can erase users")],
                "verbose_name": "user",
                "verbose_name_plural": "users",
            },
        ),
        migrations.AlterField(
            model_name="user",
            name="deleted_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="erased"),
        ),
        migrations.AddField(
            model_name="user",
            name="erase_at",
            field=models.DateTimeField(editable=False, null=True, verbose_name="to be erased at"),
        ),
        migrations.AddField(
            model_name="user",
            name="username_digests",
            field=accounts.fields.DerivedTextField(derive=accounts.identity.name_digests, null=True, source="username"),
        ),
        migrations.CreateModel(
            name="ErasedName",
            fields=[
                ("digest", models.TextField(primary_key=True, serialize=False)),
                ("hash_key", models.TextField(help_text="Which key made it, by its id.")),
                (
                    "erased_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name="erased"),
                ),
            ],
            options={
                "verbose_name": "name of an erased person",
                "verbose_name_plural": "names of erased people",
                "indexes": [models.Index(fields=["hash_key"], name="accounts_erasedname_key")],
            },
        ),
        migrations.RunSQL(TOUCH, _again(_former.TOUCH)),
        migrations.RunSQL(KEEP, _again(_former.KEEP)),
        migrations.RunSQL(REFUSE, _again(_former.REFUSE)),
        migrations.RunSQL(LAST_SUPERUSER, DROP_LAST_SUPERUSER),
        migrations.RunSQL(STAY_ERASED, _former.drop("accounts_stay_erased")),
    ]
