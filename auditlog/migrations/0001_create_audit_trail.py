"""The table of records, its weekly partitions, and what refuses to change it.

Nothing here is managed by Django, so that `flush` (and with it the tests' clean-up) cannot empty the trail.
"""

from django.db import migrations, models

TABLES = """
CREATE TABLE auditlog_record (
    id bigint GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction bigint NOT NULL,
    agent bigint,
    request uuid,
    epoch smallint NOT NULL,
    address inet,
    origin text NOT NULL,
    action text NOT NULL,
    actor_kind text NOT NULL,
    actor_id text COLLATE "C",
    actor_label text,
    on_behalf_id text,
    on_behalf_label text,
    resource text COLLATE "C" NOT NULL,
    object_id text COLLATE "C",
    object_label text,
    old jsonb,
    new jsonb,
    personal jsonb,
    reason text,
    erased_who bytea,
    erased_what bytea,
    CONSTRAINT auditlog_record_pkey PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
-- Without the id behind them: equal keys share one entry, which halves both, and what one object or person has in a
-- week is sorted quickly enough.
CREATE INDEX auditlog_record_object ON auditlog_record (resource, object_id);
CREATE INDEX auditlog_record_actor ON auditlog_record (actor_id) WHERE actor_id IS NOT NULL;
-- One small index for what is looked up rarely and lies together in time.
CREATE INDEX auditlog_record_rest ON auditlog_record USING brin (
    at, transaction, request uuid_bloom_ops, address inet_bloom_ops, action text_bloom_ops
) WITH (pages_per_range = 16);
CREATE TABLE auditlog_record_default PARTITION OF auditlog_record DEFAULT;

-- Browsers, by a hash of their name. Not unique: two transactions that meet the same new one must not wait for each
-- other, and a second row does no harm.
CREATE TABLE auditlog_agent (id bigint NOT NULL, name text NOT NULL);
CREATE INDEX auditlog_agent_id ON auditlog_agent (id);

-- Makes fingerprints of masked values; for the eyes of the owner role only.
CREATE TABLE auditlog_secret (key bytea NOT NULL);
INSERT INTO auditlog_secret
    SELECT sha256(convert_to(string_agg(gen_random_uuid()::text, ''), 'UTF8')) FROM generate_series(1, 4);
"""

# A logical restore numbers transactions anew, so a transaction is known by its epoch and number.
EPOCHS = """
CREATE TABLE auditlog_epoch (number smallint NOT NULL PRIMARY KEY, system bigint NOT NULL, database oid NOT NULL);

CREATE FUNCTION auditlog_epoch() RETURNS smallint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known CONSTANT text := nullif(current_setting('auditlog.epoch', true), '');
    here bigint;
    current smallint;
BEGIN
    IF known IS NOT NULL THEN
        RETURN known;
    END IF;
    SELECT system_identifier INTO here FROM pg_control_system();
    SELECT e.number INTO current FROM public.auditlog_epoch e
        JOIN pg_database d ON d.oid = e.database AND d.datname = current_database() WHERE e.system = here;
    IF current IS NULL THEN
        LOCK TABLE public.auditlog_epoch IN SHARE ROW EXCLUSIVE MODE;
        INSERT INTO public.auditlog_epoch
            SELECT coalesce((SELECT max(number) FROM public.auditlog_epoch), 0) + 1, here, d.oid FROM pg_database d
            WHERE d.datname = current_database() AND NOT EXISTS (
                SELECT FROM public.auditlog_epoch e WHERE e.system = here AND e.database = d.oid
            );
        SELECT e.number INTO current FROM public.auditlog_epoch e
            JOIN pg_database d ON d.oid = e.database AND d.datname = current_database() WHERE e.system = here;
    END IF;
    -- For the session: it is in this database for as long as it lives.
    PERFORM set_config('auditlog.epoch', current::text, false);
    RETURN current;
END $$;
"""

APPEND_ONLY = """
CREATE FUNCTION auditlog_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Set by the functions of ours that may, for the length of one statement.
    IF current_setting('auditlog.permit', true) = TG_OP AND TG_OP <> 'TRUNCATE' THEN
        RETURN CASE TG_OP WHEN 'UPDATE' THEN NEW ELSE OLD END;
    END IF;
    RAISE insufficient_privilege USING
        MESSAGE = format('the audit trail is append-only: %s is refused', TG_OP),
        HINT = 'Retention drops whole partitions (manage.py audit purge); personal data is erased by auditlog_redact().';
END $$;
CREATE TRIGGER auditlog_append_only BEFORE UPDATE OR DELETE ON auditlog_record
    FOR EACH ROW EXECUTE FUNCTION auditlog_refuse();
CREATE TRIGGER auditlog_append_only_truncate BEFORE TRUNCATE ON auditlog_record
    FOR EACH STATEMENT EXECUTE FUNCTION auditlog_refuse();
CREATE TRIGGER auditlog_append_only_truncate BEFORE TRUNCATE ON auditlog_record_default
    FOR EACH STATEMENT EXECUTE FUNCTION auditlog_refuse();
"""

PARTITIONS = """
CREATE FUNCTION auditlog_make_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '500ms' SET timezone = 'UTC' AS $$
DECLARE
    this_week CONSTANT timestamptz := date_trunc('week', clock_timestamp(), 'UTC');
    opens timestamptz;
    closes timestamptz;
    name text;
    made integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('auditlog partitions', 0));
    FOR week IN 0..ahead LOOP
        opens := this_week + make_interval(weeks => week);
        closes := opens + interval '1 week';
        name := 'auditlog_record_' || to_char(opens, 'IYYY"w"IW');
        CONTINUE WHEN to_regclass('public.' || name) IS NOT NULL;
        -- Attached afterwards: PARTITION OF would wait for everybody who reads the trail, and keep them waiting.
        EXECUTE format('CREATE TABLE public.%I (LIKE public.auditlog_record INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name);
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
        EXECUTE format('CREATE TRIGGER auditlog_append_only_truncate BEFORE TRUNCATE ON public.%I'
            ' FOR EACH STATEMENT EXECUTE FUNCTION public.auditlog_refuse()', name);
        -- An index on an empty table begins with a summary of its first pages, and each record written to them would
        -- have to be entered in it at once. VACUUM makes the summaries, of pages that are full.
        PERFORM brin_desummarize_range(i.indexrelid, 0) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = to_regclass('public.' || name) AND c.relam = (SELECT oid FROM pg_am WHERE amname = 'brin');
        made := made + 1;
    END LOOP;
    RETURN made;
END $$;
SELECT auditlog_make_partitions(26);
"""

# What the trigger functions share. They run with the rights of the owner, so that whoever changes a row needs none
# on the trail; every name in them is qualified, so that nobody can slip them a function or a type of their own.
VALUES = """
CREATE FUNCTION auditlog_fingerprint(value text) RETURNS text LANGUAGE sql STABLE STRICT AS $$
    SELECT '{"masked":"' || left(encode(sha256(s.key || sha256(s.key || convert_to(value, 'UTF8'))), 'hex'), 16) || '"}'
    FROM public.auditlog_secret s
$$;

-- The JSON text of a long value: its beginning, length and digest.
CREATE FUNCTION auditlog_bounded(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT jsonb_build_object(
        'beginning', left(value, 200), 'length', length(value),
        'sha256', encode(sha256(convert_to(value, 'UTF8')), 'hex')
    )::text
$$;

CREATE FUNCTION auditlog_masked_json(value jsonb, secret text) RETURNS jsonb LANGUAGE plpgsql STABLE STRICT AS $$
BEGIN
    -- Without members there is nothing to put together again, and so no result: it stays what it is.
    RETURN coalesce(CASE jsonb_typeof(value)
        WHEN 'object' THEN (
            SELECT jsonb_object_agg(
                key,
                CASE WHEN key ~* secret AND item <> 'null' THEN public.auditlog_fingerprint(item::text)::jsonb
                ELSE public.auditlog_masked_json(item, secret) END
            ) FROM jsonb_each(value) AS e(key, item)
        )
        WHEN 'array' THEN (
            SELECT jsonb_agg(public.auditlog_masked_json(item, secret) ORDER BY n)
            FROM jsonb_array_elements(value) WITH ORDINALITY AS e(item, n)
        )
    END, value);
END $$;
"""

# What differs between two rows as JSON, for the time in which a migration changes the columns. What nobody has
# declared (any more) may be a secret, so it is masked.
DIFFERENCE = """
CREATE FUNCTION auditlog_difference(
    before jsonb, after jsonb, about jsonb, secret text, longest integer,
    OUT old jsonb, OUT new jsonb, OUT personal jsonb, OUT counts boolean
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    name text;
    sides jsonb;
    manner jsonb;
    side text;
BEGIN
    counts := false;
    FOR name IN SELECT jsonb_object_keys(coalesce(before, '{}') || coalesce(after, '{}')) LOOP
        manner := coalesce(about->name, '{"masked": true}');
        CONTINUE WHEN before->name IS NOT DISTINCT FROM after->name OR manner ? 'excluded';
        sides := jsonb_build_object(
            'old', public.auditlog_value(before->name, manner, secret, longest),
            'new', public.auditlog_value(after->name, manner, secret, longest)
        );
        name := coalesce(manner->>'name', name);
        counts := counts OR NOT manner ? 'quiet';
        IF manner ? 'personal' THEN
            personal := coalesce(personal, '{}');
            FOR side IN SELECT key FROM jsonb_each(sides) WHERE value <> 'null' LOOP
                personal := personal || jsonb_build_object(
                    side, coalesce(personal->side, '{}') || jsonb_build_object(name, sides->side)
                );
            END LOOP;
        ELSE
            IF sides->'old' <> 'null' THEN
                old := coalesce(old, '{}') || jsonb_build_object(name, sides->'old');
            END IF;
            IF sides->'new' <> 'null' THEN
                new := coalesce(new, '{}') || jsonb_build_object(name, sides->'new');
            END IF;
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION auditlog_value(value jsonb, manner jsonb, secret text, longest integer) RETURNS jsonb
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN CASE
        WHEN value IS NULL OR value = 'null' THEN NULL
        WHEN manner ? 'masked' THEN public.auditlog_fingerprint(value #>> '{}')::jsonb
        WHEN manner->>'kind' = 'interval' THEN to_jsonb(extract(epoch FROM (value #>> '{}')::interval))
        WHEN manner->>'kind' = 'bytea' THEN to_jsonb(substr(value #>> '{}', 3))
        WHEN manner->>'kind' = 'moment' THEN to_jsonb(regexp_replace(value #>> '{}', '[+]00:00$', 'Z'))
        WHEN octet_length(value #>> '{}') > longest
            THEN public.auditlog_bounded(public.auditlog_masked_json(value, secret) #>> '{}')::jsonb
        ELSE public.auditlog_masked_json(value, secret)
    END;
END $$;
"""

# What the application says in front of a write; the names are those of the columns.
EVENTS = """
CREATE TYPE auditlog_context AS (
    transaction bigint, epoch smallint, agent bigint, request uuid, address inet, origin text, actor_kind text, actor_id text, actor_label text,
    on_behalf_id text, on_behalf_label text, reason text
);

-- Who writes when nobody has said so: a statement of the application that we do not see, or another program.
CREATE FUNCTION auditlog_unannounced(application text) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'origin', CASE WHEN current_setting('application_name') = application THEN 'sql' ELSE 'outside' END,
        'actor_kind', 'database', 'actor_id', session_user, 'actor_label', left(current_setting('application_name'), 120),
        'address', host(inet_client_addr())
    )
$$;

-- With the rights of whoever calls it: for functions of ours.
CREATE FUNCTION auditlog_insert_event(
    action text, resource text, object_id text, object_label text, old jsonb, new jsonb, personal jsonb
) RETURNS bigint LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said public.auditlog_context;
    made bigint;
BEGIN
    PERFORM pg_current_xact_id();  -- before the id, or who follows the trail could take it for one handed out earlier
    said := jsonb_populate_record(said, current_setting('auditlog.context')::jsonb);
    INSERT INTO public.auditlog_record (
        transaction, epoch, agent, request, address, origin, actor_kind, actor_id, actor_label,
        on_behalf_id, on_behalf_label, reason, action, resource, object_id, object_label, old, new, personal
    ) VALUES (
        pg_current_xact_id()::text::bigint, public.auditlog_epoch(), said.agent, said.request, said.address, 'event', said.actor_kind, said.actor_id, said.actor_label,
        said.on_behalf_id, said.on_behalf_label, said.reason,
        action, resource, object_id, object_label, old, new, personal
    ) RETURNING id INTO made;
    RETURN made;
END $$;

CREATE FUNCTION auditlog_record_event(
    action text, resource text, object_id text, object_label text, old jsonb, new jsonb, personal jsonb
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    -- Whoever could say so could excuse a week that is missing.
    IF resource = 'auditlog.record' AND action = 'purge' THEN
        RAISE insufficient_privilege USING MESSAGE = 'a purge is recorded by the function that purges';
    END IF;
    -- Or it would count as what became of a row, when the row is looked up as it was or put back.
    IF action IN ('create', 'update', 'delete', 'add', 'remove', 'truncate') THEN
        RAISE insufficient_privilege USING MESSAGE = 'changes of rows are recorded by triggers alone';
    END IF;
    RETURN public.auditlog_insert_event(action, resource, object_id, object_label, old, new, personal);
END $$;

CREATE FUNCTION auditlog_know_agent(agent bigint, agent_name text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.auditlog_agent SELECT agent, left(agent_name, 300)
    WHERE NOT EXISTS (SELECT FROM public.auditlog_agent a WHERE a.id = agent)
$$;
"""

DROP = """
DROP FUNCTION auditlog_difference, auditlog_value, auditlog_unannounced, auditlog_know_agent, auditlog_record_event, auditlog_insert_event, auditlog_masked_json, auditlog_bounded, auditlog_fingerprint,
    auditlog_make_partitions;
DROP TABLE auditlog_record, auditlog_agent, auditlog_secret;
DROP TYPE auditlog_context;
DROP FUNCTION auditlog_refuse, auditlog_epoch;
DROP TABLE auditlog_epoch;
"""


def remove_triggers(apps, schema_editor):
    """Take the triggers off the audited tables first: they write to what is dropped next."""
    from auditlog import triggers

    triggers.remove(schema_editor.connection)


class Migration(migrations.Migration):
    initial = True
    dependencies = []

    operations = [
        migrations.RunSQL(EPOCHS + TABLES + APPEND_ONLY + PARTITIONS + VALUES + DIFFERENCE + EVENTS, DROP),
        migrations.RunPython(migrations.RunPython.noop, remove_triggers),
        migrations.CreateModel(
            name="Agent",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("name", models.TextField()),
            ],
            options={
                "db_table": "auditlog_agent",
                "managed": False,
                "default_permissions": (),
            },
        ),
        migrations.CreateModel(
            name="Record",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField(verbose_name="when")),
                ("transaction", models.BigIntegerField(verbose_name="transaction")),
                ("agent", models.BigIntegerField(null=True)),
                ("request", models.UUIDField(null=True, verbose_name="request")),
                ("epoch", models.SmallIntegerField()),
                ("address", models.GenericIPAddressField(null=True, verbose_name="address")),
                (
                    "origin",
                    models.TextField(
                        choices=[
                            ("save", "saved"),
                            ("delete", "deleted, with what hangs on it"),
                            ("bulk", "many at once"),
                            ("m2m", "related"),
                            ("restore", "an old value restored"),
                            ("event", "event"),
                            ("sql", "SQL of this application"),
                            ("outside", "another program"),
                        ],
                        verbose_name="path",
                    ),
                ),
                ("action", models.TextField(verbose_name="action")),
                (
                    "actor_kind",
                    models.TextField(
                        choices=[
                            ("user", "user"),
                            ("anonymous", "somebody not signed in"),
                            ("token", "token"),
                            ("command", "command"),
                            ("migration", "migration"),
                            ("database", "database role"),
                        ]
                    ),
                ),
                ("actor_id", models.TextField(null=True)),
                ("actor_label", models.TextField(null=True, verbose_name="who")),
                ("on_behalf_id", models.TextField(null=True)),
                ("on_behalf_label", models.TextField(null=True, verbose_name="on behalf of")),
                ("resource", models.TextField(verbose_name="kind of object")),
                ("object_id", models.TextField(null=True, verbose_name="object id")),
                ("object_label", models.TextField(null=True, verbose_name="object")),
                ("old", models.JSONField(null=True)),
                ("new", models.JSONField(null=True)),
                ("personal", models.JSONField(null=True)),
                ("reason", models.TextField(null=True, verbose_name="reason")),
                ("erased_who", models.BinaryField(null=True)),
                ("erased_what", models.BinaryField(null=True)),
            ],
            options={
                "verbose_name": "audit record",
                "verbose_name_plural": "audit trail",
                "db_table": "auditlog_record",
                "permissions": [
                    ("export_record", "Can export audit records"),
                    ("restore_record", "Can restore old values from audit records"),
                ],
                "managed": False,
                "default_permissions": ("view",),
            },
        ),
    ]
