"""Partitions for whatever strayed into the default one, a list of all, and the one way to let old ones go."""

from importlib import import_module

from django.db import migrations

# Who lists them needs no rights on them. A week that still lies in the default partition has a line of its own.
LIST = """
CREATE FUNCTION auditlog_partitions()
RETURNS TABLE (name text, opens timestamptz, closes timestamptz, records bigint, bytes bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
    SELECT p.name, p.opens, p.opens + interval '1 week', p.records, p.bytes FROM (
        SELECT c.relname::text AS name, nullif(c.reltuples, -1)::bigint AS records,
            pg_total_relation_size(c.oid) AS bytes,
            substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$FROM \\('([^']+)'\\)$re$)::timestamptz AS opens
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.auditlog_record'::regclass
            AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
        UNION ALL
        SELECT 'auditlog_record_default', count(*), NULL, date_trunc('week', d.at, 'UTC')
        FROM public.auditlog_record_default d GROUP BY 4
    ) p ORDER BY p.opens
$$;
"""

MAKE = """
CREATE FUNCTION auditlog_make_week(opens timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    closes CONSTANT timestamptz := opens + interval '1 week';
    name CONSTANT text := 'auditlog_record_' || to_char(opens, 'IYYY"w"IW');
BEGIN
    -- One that began on a Wednesday would stand in the way of all that are to come.
    IF opens <> date_trunc('week', opens, 'UTC') OR opens NOT BETWEEN '2000-01-01' AND clock_timestamp() + interval '2 years' THEN
        RAISE invalid_parameter_value USING MESSAGE = 'not the beginning of a week that can be wanted';
    END IF;
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- Attached afterwards: PARTITION OF would wait for everybody who reads the trail, and keep them waiting. The only
    -- rows that die here are what was erased: that must not lie about until a fifth of the week has.
    EXECUTE format('CREATE TABLE public.%I (LIKE public.auditlog_record INCLUDING DEFAULTS INCLUDING CONSTRAINTS)'
        ' WITH (autovacuum_vacuum_scale_factor = 0)', name);
    IF EXISTS (SELECT FROM public.auditlog_record_default d WHERE d.at >= opens AND d.at < closes) THEN
        LOCK TABLE public.auditlog_record_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('INSERT INTO public.%I SELECT * FROM public.auditlog_record_default d'
            ' WHERE d.at >= %L AND d.at < %L', name, opens, closes);
        PERFORM set_config('auditlog.permit', 'DELETE', true);
        DELETE FROM public.auditlog_record_default d WHERE d.at >= opens AND d.at < closes;
        PERFORM set_config('auditlog.permit', '', true);
    END IF;
    EXECUTE format('ALTER TABLE public.auditlog_record ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
        name, opens, closes);
    -- Not inherited, unlike the triggers for each row.
    EXECUTE format('CREATE TRIGGER auditlog_append_only_truncate BEFORE TRUNCATE ON public.%I'
        ' FOR EACH STATEMENT EXECUTE FUNCTION public.auditlog_refuse()', name);
    -- An index on an empty table begins with a summary of its first pages, and each record written to them would have to
    -- be entered in it at once. VACUUM makes the summaries, of pages that are full.
    PERFORM brin_desummarize_range(i.indexrelid, 0) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        WHERE i.indrelid = to_regclass('public.' || name) AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'brin');
    RETURN true;
END $$;

-- Also for past weeks, when records lie in the default partition because nobody has called this for half a year.
CREATE OR REPLACE FUNCTION auditlog_make_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' AS $$
DECLARE
    this_week CONSTANT timestamptz := date_trunc('week', clock_timestamp(), 'UTC');
    opens timestamptz;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('auditlog partitions', 0));
    FOR opens IN
        SELECT this_week + make_interval(weeks => week) FROM generate_series(0, ahead) week
        UNION SELECT date_trunc('week', d.at, 'UTC') FROM public.auditlog_record_default d WHERE d.at < this_week
        ORDER BY 1
    LOOP
        made := made + public.auditlog_make_week(opens)::integer;
    END LOOP;
    RETURN made;
END $$;
"""

DROP_OLD = """
-- A lock on the whole trail cannot be had for less, so it is asked for briefly: whoever writes waits behind us. The
-- caller tries again.
CREATE FUNCTION auditlog_drop_partitions(before timestamptz)
RETURNS TABLE (name text, opens timestamptz, closes timestamptz, records bigint, bytes bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '100ms' AS $$
DECLARE
    cut CONSTANT timestamptz := date_trunc('week', before, 'UTC');
    old record;
    gone jsonb := '[]';
BEGIN
    IF before > clock_timestamp() - interval '30 days' THEN
        RAISE invalid_parameter_value USING
            MESSAGE = 'records of the last 30 days are never purged',
            HINT = 'Choose an earlier moment; AUDITLOG_RETENTION_DAYS cannot be less than 30.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('auditlog partitions', 0));
    FOR old IN SELECT * FROM public.auditlog_partitions() p WHERE p.closes <= cut LOOP
        LOCK TABLE ONLY public.auditlog_record IN ACCESS EXCLUSIVE MODE;
        IF old.name = 'auditlog_record_default' THEN
            PERFORM set_config('auditlog.permit', 'DELETE', true);
            DELETE FROM public.auditlog_record_default d WHERE d.at >= old.opens AND d.at < old.closes;
            PERFORM set_config('auditlog.permit', '', true);
        ELSE
            EXECUTE format('DROP TABLE public.%I', old.name);
        END IF;
        name := old.name;
        opens := old.opens;
        closes := old.closes;
        records := old.records;
        bytes := old.bytes;
        gone := gone || to_jsonb(to_char(old.opens AT TIME ZONE 'UTC', 'IYYY"w"IW'));
        RETURN NEXT;
    END LOOP;
    IF gone = '[]' THEN
        RETURN;
    END IF;
    -- What names single records goes with them; the digests stay.
    PERFORM set_config('auditlog.permit', 'UPDATE', true);
    UPDATE public.auditlog_seal s SET ids = NULL, prefixes = NULL, salts = NULL WHERE s.week < cut AND s.ids IS NOT NULL;
    PERFORM set_config('auditlog.permit', '', true);
    PERFORM public.auditlog_note('purge', 'auditlog.record', NULL, jsonb_build_object(
        'before', to_char(cut AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), 'weeks', gone
    ));
END $$;
"""

VACUUM = """
DO $$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT i.inhrelid::regclass::text FROM pg_inherits i WHERE i.inhparent = 'auditlog_record'::regclass LOOP
        EXECUTE format('ALTER TABLE %s SET (autovacuum_vacuum_scale_factor = 0)', name);
    END LOOP;
END $$;
"""

FORGET = """
DROP FUNCTION auditlog_drop_partitions;
"""


def put_former_back(apps, schema_editor):
    former = import_module("auditlog.migrations.0001_create_audit_trail").PARTITIONS
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(former.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION"))
        cursor.execute("DROP FUNCTION auditlog_make_week, auditlog_partitions")


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0002_create_seals")]

    operations = [
        migrations.RunPython(migrations.RunPython.noop, put_former_back),
        migrations.RunSQL(LIST + MAKE + DROP_OLD + VACUUM, FORGET),
    ]
