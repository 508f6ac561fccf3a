"""Sessions that know whose they are. Those of before are not taken over: everybody signs in once more.

Only an empty table is made and triggers are added, so nothing is rewritten and each lock is short.
"""

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

import accounts.models

OWNED = """
ALTER TABLE accounts_session ADD CONSTRAINT accounts_session_owner
    FOREIGN KEY (user_id) REFERENCES accounts_user (id) ON DELETE CASCADE;
"""
NOT_OWNED = "ALTER TABLE accounts_session DROP CONSTRAINT accounts_session_owner;"

# FOR SHARE waits for whoever shuts the account out at this moment, and looks again when they have committed; and they
# wait for us, and then see this row.
REFUSE = """
CREATE FUNCTION accounts_refuse_session() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM accounts_user WHERE id = NEW.user_id AND is_active AND erase_at IS NULL AND deleted_at IS NULL
        FOR SHARE;
    IF NOT FOUND THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'nobody who may have a session',
            CONSTRAINT = 'accounts_session_owner',
            TABLE = 'accounts_session';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER accounts_refuse_session BEFORE INSERT ON accounts_session
    FOR EACH ROW WHEN (NEW.user_id IS NOT NULL) EXECUTE FUNCTION accounts_refuse_session();
CREATE TRIGGER accounts_refuse_session_taken_over BEFORE UPDATE OF user_id ON accounts_session
    FOR EACH ROW WHEN (NEW.user_id IS NOT NULL AND NEW.user_id IS DISTINCT FROM OLD.user_id)
    EXECUTE FUNCTION accounts_refuse_session();
"""
ALLOW = """
DROP TRIGGER accounts_refuse_session_taken_over ON accounts_session;
DROP TRIGGER accounts_refuse_session ON accounts_session;
DROP FUNCTION accounts_refuse_session();
"""

# Whoever gains rights signs in with them: a key that was stolen or planted before must not gain them too.
END = """
CREATE FUNCTION accounts_end_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM accounts_session WHERE user_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_end_sessions AFTER UPDATE OF is_active, erase_at, deleted_at, is_staff, is_superuser
    ON accounts_user
    FOR EACH ROW WHEN (
        (OLD.is_active AND NOT NEW.is_active)
        OR (OLD.erase_at IS NULL AND NEW.erase_at IS NOT NULL)
        OR (OLD.deleted_at IS NULL AND NEW.deleted_at IS NOT NULL)
        OR OLD.is_staff IS DISTINCT FROM NEW.is_staff
        OR OLD.is_superuser IS DISTINCT FROM NEW.is_superuser
    )
    EXECUTE FUNCTION accounts_end_sessions();
"""
DO_NOT_END = "DROP TRIGGER accounts_end_sessions ON accounts_user; DROP FUNCTION accounts_end_sessions();"

ROTATE = """
CREATE FUNCTION accounts_rotate_sessions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts_session SET must_rotate = true
    WHERE user_id IN (NEW.user_id, OLD.user_id) AND NOT must_rotate;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_rotate_sessions AFTER INSERT OR UPDATE OR DELETE ON accounts_user_groups
    FOR EACH ROW EXECUTE FUNCTION accounts_rotate_sessions();
CREATE TRIGGER accounts_rotate_sessions AFTER INSERT OR UPDATE OR DELETE ON accounts_user_user_permissions
    FOR EACH ROW EXECUTE FUNCTION accounts_rotate_sessions();
"""
DO_NOT_ROTATE = """
DROP TRIGGER accounts_rotate_sessions ON accounts_user_user_permissions;
DROP TRIGGER accounts_rotate_sessions ON accounts_user_groups;
DROP FUNCTION accounts_rotate_sessions();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0012_find_ended_accounts")]

    operations = [
        migrations.CreateModel(
            name="Session",
            fields=[
                (
                    "id",
                    models.UUIDField(default=accounts.models.new_id, editable=False, primary_key=True, serialize=False),
                ),
                ("key_digest", models.CharField(max_length=64)),
                ("data", models.TextField()),
                ("address", models.GenericIPAddressField(null=True)),
                ("agent", models.TextField(blank=True)),
                ("first_seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("last_seen_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("expires_at", models.DateTimeField()),
                (
                    "must_rotate",
                    models.BooleanField(db_default=False, help_text="The next request gets another key."),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="sessions",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "session",
                "verbose_name_plural": "sessions",
                "indexes": [
                    models.Index(
                        condition=models.Q(("user__isnull", False)), fields=["user"], name="accounts_session_user"
                    ),
                    models.Index(fields=["expires_at"], name="accounts_session_expiry"),
                ],
                "constraints": [models.UniqueConstraint(fields=("key_digest",), name="accounts_session_key")],
            },
        ),
        migrations.RunSQL(OWNED, NOT_OWNED),
        migrations.RunSQL(REFUSE, ALLOW),
        migrations.RunSQL(END, DO_NOT_END),
        migrations.RunSQL(ROTATE, DO_NOT_ROTATE),
    ]
