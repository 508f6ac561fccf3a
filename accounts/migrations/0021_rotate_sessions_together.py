"""Let all memberships that one INSERT gives change the keys of sessions at once.

One table at a time, each in a transaction of its own: who changes both in another order would wait for us, and we for
them. What was interrupted can be run again.
"""

from django.db import migrations

TABLES = ("accounts_user_groups", "accounts_user_user_permissions")
ROTATE = """
CREATE OR REPLACE FUNCTION accounts_rotate_sessions_of_many() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE accounts_session SET must_rotate = true
    WHERE user_id IN (SELECT user_id FROM new_rows) AND NOT must_rotate;
    RETURN NULL;
END $$;
"""
TOGETHER = """
CREATE OR REPLACE TRIGGER accounts_rotate_sessions_of_many AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION accounts_rotate_sessions_of_many();
CREATE OR REPLACE TRIGGER accounts_rotate_sessions AFTER UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION accounts_rotate_sessions();
"""
ONE_BY_ONE = """
CREATE OR REPLACE TRIGGER accounts_rotate_sessions AFTER INSERT OR UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION accounts_rotate_sessions();
DROP TRIGGER IF EXISTS accounts_rotate_sessions_of_many ON {table};
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0020_guard_newcomers_together")]

    operations = [
        migrations.RunSQL(ROTATE, "DROP FUNCTION IF EXISTS accounts_rotate_sessions_of_many();"),
        *(migrations.RunSQL(TOGETHER.format(table=table), ONE_BY_ONE.format(table=table)) for table in TABLES),
    ]
