"""Triggers that no writer can get round: the row's version and time, and names that were given up."""

from django.db import migrations

TOUCH = """
CREATE FUNCTION accounts_touch_user() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    -- A login or a re-hash is no edit: it must not make somebody's open form stale.
    silent CONSTANT text[] := ARRAY['password', 'last_login', 'login_count', 'updated_at', 'version'];
BEGIN
    IF (to_jsonb(NEW) - silent) IS DISTINCT FROM (to_jsonb(OLD) - silent) THEN
        NEW.version := OLD.version + 1;
        NEW.updated_at := clock_timestamp();
    ELSE
        NEW.version := OLD.version;
        NEW.updated_at := OLD.updated_at;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER accounts_touch_user BEFORE UPDATE ON accounts_user
    FOR EACH ROW EXECUTE FUNCTION accounts_touch_user();
"""

KEEP = """
CREATE FUNCTION accounts_reserve_old_username() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO accounts_reservedusername (username_canonical, username_skeleton, holder_id, reserved_until)
    VALUES (
        OLD.username_canonical,
        OLD.username_skeleton,
        OLD.id,
        clock_timestamp()
            + coalesce(nullif(current_setting('gatehouse.name_reserved_for', true), ''), '90 days')::interval
    );
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_reserve_old_username AFTER UPDATE ON accounts_user
    FOR EACH ROW WHEN (OLD.username_canonical IS DISTINCT FROM NEW.username_canonical)
    EXECUTE FUNCTION accounts_reserve_old_username();
"""

# After the row is in: a newcomer who waited for the rename to commit sees it here, in a new snapshot.
REFUSE = """
CREATE FUNCTION accounts_refuse_reserved_username() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM accounts_reservedusername
        WHERE username_canonical = NEW.username_canonical
            AND reserved_until > clock_timestamp()
            AND holder_id IS DISTINCT FROM NEW.id
    ) THEN
        RAISE unique_violation USING
            MESSAGE = 'this username was given up recently and is not free yet',
            CONSTRAINT = 'accounts_user_reserved_username',
            TABLE = 'accounts_user';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_refuse_reserved_username AFTER INSERT OR UPDATE ON accounts_user
    FOR EACH ROW EXECUTE FUNCTION accounts_refuse_reserved_username();
"""


def drop(name: str) -> str:
    return f"DROP TRIGGER {name} ON accounts_user; DROP FUNCTION {name}();"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_create_users")]

    operations = [
        migrations.RunSQL(TOUCH, drop("accounts_touch_user")),
        migrations.RunSQL(KEEP, drop("accounts_reserve_old_username")),
        migrations.RunSQL(REFUSE, drop("accounts_refuse_reserved_username")),
    ]
