from django.db import migrations

# Every role may execute a new function. With two roles `migrate` takes that away from all functions, but with one, a
# role that was let in to read could still purge and erase.
KEEP = """
DO $$
DECLARE
    function regprocedure;
BEGIN
    FOR function IN
        SELECT p.oid FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND p.proname LIKE 'auditlog\\_%' AND p.prosecdef
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
    END LOOP;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0005_follow_the_trail")]

    operations = [migrations.RunSQL(KEEP, migrations.RunSQL.noop)]
