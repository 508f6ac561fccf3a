"""Seals over closed sets of records, and the erasure of what is personal in them."""

from django.db import migrations, models

# A seal covers the records of one epoch and one week (so that a week that is dropped takes whole seals along) from one
# position (transaction, id) to another. Its digest is over its header, the root of its records and the digest before;
# the last three columns are what names a broken record: they go with the week, the digest stays.
TABLE = """
CREATE TABLE auditlog_seal (
    id bigint NOT NULL PRIMARY KEY,
    at timestamptz NOT NULL,
    key text NOT NULL,
    epoch smallint NOT NULL,
    week timestamptz NOT NULL,
    from_transaction bigint NOT NULL,
    from_id bigint NOT NULL,
    to_transaction bigint NOT NULL,
    to_id bigint NOT NULL,
    records integer NOT NULL,
    purged_before timestamptz,
    root bytea NOT NULL,
    digest bytea NOT NULL,
    ids int8multirange,
    prefixes bytea,
    salts bytea
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 0);
-- Random bytes do not compress, and a part of them is read at a time.
ALTER TABLE auditlog_seal ALTER prefixes SET STORAGE EXTERNAL, ALTER salts SET STORAGE EXTERNAL;
CREATE INDEX auditlog_seal_week ON auditlog_seal (week, epoch);
CREATE TRIGGER auditlog_append_only BEFORE UPDATE OR DELETE ON auditlog_seal
    FOR EACH ROW EXECUTE FUNCTION auditlog_refuse();
CREATE TRIGGER auditlog_append_only_truncate BEFORE TRUNCATE ON auditlog_seal
    FOR EACH STATEMENT EXECUTE FUNCTION auditlog_refuse();
"""

SEAL = """
-- What the trail says of its own care, also when the caller has not said who it is.
CREATE FUNCTION auditlog_note(action text, resource text, object_id text, new jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    said CONSTANT text := coalesce(current_setting('auditlog.context', true), '');
BEGIN
    IF said = '' THEN
        PERFORM set_config('auditlog.context', public.auditlog_unannounced('')::text, true);
    END IF;
    PERFORM public.auditlog_insert_event(action, resource, object_id, NULL, NULL, new, NULL);
    PERFORM set_config('auditlog.context', said, true);
END $$;

-- Of each epoch, the first transaction that may still be running. All of a former epoch are over.
CREATE FUNCTION auditlog_horizons() RETURNS TABLE (epoch smallint, transaction bigint)
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT e.number, CASE WHEN e.number = here.number THEN pg_snapshot_xmin(pg_current_snapshot())::text::bigint
        ELSE 9223372036854775807 END
    FROM (SELECT public.auditlog_epoch() AS number OFFSET 0) here CROSS JOIN public.auditlog_epoch e
$$;

CREATE FUNCTION auditlog_add_seal(seal public.auditlog_seal, digest_before bytea) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    last public.auditlog_seal;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('auditlog seals', 0));
    SELECT * INTO last FROM public.auditlog_seal s ORDER BY s.id DESC LIMIT 1;
    IF seal.id <> coalesce(last.id, 0) + 1 OR digest_before IS DISTINCT FROM coalesce(last.digest, digest_before, '') THEN
        RAISE serialization_failure USING MESSAGE = 'a seal follows the last one, and no other';
    END IF;
    -- What a seal claims to cover is never sealed again.
    IF NOT EXISTS (
        SELECT FROM public.auditlog_horizons() h WHERE h.epoch = seal.epoch AND seal.to_transaction <= h.transaction
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'a seal covers transactions that are over, and no other';
    END IF;
    INSERT INTO public.auditlog_seal SELECT seal.*;
END $$;
"""

ERASE = """
-- The two parts of a record that can be erased, as the seals know them; NULL when there is nothing in them.
CREATE FUNCTION auditlog_who(r public.auditlog_record) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN NOT (w.part IS NULL) THEN record_send(w.part) END
    FROM (SELECT ROW(r.actor_label, r.on_behalf_label, r.address, r.agent) AS part) w
$$;
CREATE FUNCTION auditlog_what(r public.auditlog_record) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN NOT (w.part IS NULL) THEN record_send(w.part) END
    FROM (SELECT ROW(r.object_label, r.personal, r.reason) AS part) w
$$;

-- A record changes in one way only: a part of it is emptied, and its commitment written.
CREATE FUNCTION auditlog_only_erase() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    who CONSTANT text[] := '{actor_label, on_behalf_label, address, agent, erased_who}';
    what CONSTANT text[] := '{object_label, personal, reason, erased_what}';
    before CONSTANT jsonb := to_jsonb(OLD);
    after CONSTANT jsonb := to_jsonb(NEW);
BEGIN
    IF after - who - what = before - who - what
        AND (after - what = before - what OR (
            OLD.erased_who IS NULL AND NEW.erased_who IS NOT NULL AND public.auditlog_who(NEW) IS NULL))
        AND (after - who = before - who OR (
            OLD.erased_what IS NULL AND NEW.erased_what IS NOT NULL AND public.auditlog_what(NEW) IS NULL))
    THEN
        RETURN NEW;
    END IF;
    RAISE insufficient_privilege USING
        MESSAGE = 'the audit trail is append-only: a record changes by erasure alone';
END $$;
CREATE TRIGGER auditlog_only_erase BEFORE UPDATE ON auditlog_record
    FOR EACH ROW EXECUTE FUNCTION auditlog_only_erase();

-- Empty the salts of `seal` at these places, all at once: a busy person has thousands in one seal, and each time all of
-- them would be copied. With the rights of whoever calls it.
CREATE FUNCTION auditlog_forget_salts(seal public.auditlog_seal, places integer[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF places = '{}' THEN
        RETURN;
    END IF;
    PERFORM set_config('auditlog.permit', 'UPDATE', true);
    UPDATE public.auditlog_seal s SET salts = (
        SELECT string_agg(
            substring(seal.salts FROM p.kept FOR p.place - p.kept) || '\\x0000000000000000'::bytea, '' ORDER BY p.place
        ) || substring(seal.salts FROM max(p.place) + 8)
        FROM (
            SELECT place, 8 + coalesce(lag(place) OVER (ORDER BY place), -7) AS kept FROM unnest(places) place
        ) p
    ) WHERE s.id = seal.id;
    PERFORM set_config('auditlog.permit', '', true);
END $$;

-- Erase the person `person_id` of `resource` as actor and as object, the objects (resources[n], ids[n]), and whatever
-- records call by one of `labels`. A seal's salts are what its commitments could be guessed with: they go too.
CREATE FUNCTION auditlog_redact(resource text, person_id text, resources text[], ids text[], labels text[])
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_variable
DECLARE
    doomed record;
    seal public.auditlog_seal;
    place integer;
    places integer[] := '{}';
    salt bytea;
    erased bigint := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('auditlog seals', 0));
    -- Before the rest, so that it is erased with the rest when people do this to themselves.
    PERFORM public.auditlog_note('erase', resource, person_id, NULL);
    FOR doomed IN
        SELECT f.* FROM (
            SELECT r.id, r.at, r.transaction, r.epoch, date_trunc('week', r.at, 'UTC') AS week,
                CASE WHEN r.erased_who IS NULL AND (
                    (r.actor_kind = 'user' AND r.actor_id = person_id) OR r.on_behalf_id = person_id
                ) THEN public.auditlog_who(r) END AS who,
                CASE WHEN r.erased_what IS NULL AND (
                    (r.resource = resource AND r.object_id = person_id) OR r.object_label = ANY (labels)
                    OR (r.resource, r.object_id) IN (SELECT * FROM unnest(resources, ids))
                ) THEN public.auditlog_what(r) END AS what
            FROM public.auditlog_record r
        ) f WHERE f.who IS NOT NULL OR f.what IS NOT NULL ORDER BY f.week, f.epoch, f.transaction, f.id
    LOOP
        IF seal.id IS NULL OR (doomed.week, doomed.epoch) <> (seal.week, seal.epoch)
            OR (doomed.transaction, doomed.id) >= (seal.to_transaction, seal.to_id) THEN
            PERFORM public.auditlog_forget_salts(seal, places);
            places := '{}';
            SELECT s.* INTO seal FROM public.auditlog_seal s
            WHERE s.week = doomed.week AND s.epoch = doomed.epoch
                AND (doomed.transaction, doomed.id) >= (s.from_transaction, s.from_id)
                AND (doomed.transaction, doomed.id) < (s.to_transaction, s.to_id);
        END IF;
        place := NULL;
        IF seal.ids @> doomed.id THEN
            SELECT 1 + 16 * coalesce(sum(least(upper(known), doomed.id) - lower(known)), 0) INTO place
            FROM unnest(seal.ids) known WHERE lower(known) < doomed.id;
        END IF;
        -- Not sealed yet: any salt will do.
        salt := coalesce(substring(seal.salts FROM place FOR 16), uuid_send(gen_random_uuid()));
        PERFORM set_config('auditlog.permit', 'UPDATE', true);
        IF doomed.who IS NOT NULL THEN
            UPDATE public.auditlog_record r
            SET actor_label = NULL, on_behalf_label = NULL, address = NULL, agent = NULL,
                erased_who = sha256(substring(salt FOR 8) || doomed.who)
            WHERE r.id = doomed.id AND r.at = doomed.at;
            places := CASE WHEN place IS NULL THEN places ELSE places || place END;
        END IF;
        IF doomed.what IS NOT NULL THEN
            UPDATE public.auditlog_record r
            SET object_label = NULL, personal = NULL, reason = NULL,
                erased_what = sha256(substring(salt FROM 9) || doomed.what)
            WHERE r.id = doomed.id AND r.at = doomed.at;
            places := CASE WHEN place IS NULL THEN places ELSE places || (place + 8) END;
        END IF;
        PERFORM set_config('auditlog.permit', '', true);
        erased := erased + 1;
    END LOOP;
    PERFORM public.auditlog_forget_salts(seal, places);
    RETURN erased;
END $$;
"""

DROP = """
DROP TRIGGER auditlog_only_erase ON auditlog_record;
DROP FUNCTION auditlog_redact, auditlog_forget_salts, auditlog_only_erase, auditlog_what, auditlog_who;
DROP FUNCTION auditlog_add_seal, auditlog_horizons, auditlog_note;
DROP TABLE auditlog_seal;
"""


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0001_create_audit_trail")]

    operations = [
        migrations.RunSQL(TABLE + SEAL + ERASE, DROP),
        migrations.CreateModel(
            name="Seal",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("key", models.TextField()),
                ("epoch", models.SmallIntegerField()),
                ("week", models.DateTimeField()),
                ("from_transaction", models.BigIntegerField()),
                ("from_id", models.BigIntegerField()),
                ("to_transaction", models.BigIntegerField()),
                ("to_id", models.BigIntegerField()),
                ("records", models.IntegerField()),
                ("purged_before", models.DateTimeField(null=True)),
                ("root", models.BinaryField()),
                ("digest", models.BinaryField()),
                ("ids", models.TextField(null=True)),
                ("prefixes", models.BinaryField(null=True)),
                ("salts", models.BinaryField(null=True)),
            ],
            options={
                "db_table": "auditlog_seal",
                "managed": False,
                "default_permissions": (),
            },
        ),
    ]
