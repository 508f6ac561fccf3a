from django.db import migrations

# What a follower must know before it looks at the records: everything that is visible in `snapshot` is settled, and
# whatever is not has an id above `last`, unless its transaction is one of those open in `snapshot`. So `last` has to
# be read before the snapshot is taken: plpgsql takes one for each statement, but only when the transaction reads
# what is committed. A snapshot does not list those that are newer than all that have ended (`xmax`); but each of them
# holds a lock on its own number before it draws an id.
HORIZON = """
CREATE FUNCTION auditlog_horizon(
    OUT epoch smallint, OUT snapshot text, OUT newer bigint[], OUT last bigint, OUT at timestamptz, OUT session bigint
)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    locked bigint[];
    xmax bigint;
BEGIN
    IF current_setting('transaction_isolation') NOT LIKE 'read %' THEN
        RAISE invalid_transaction_state USING MESSAGE = 'the audit trail can only be followed at READ COMMITTED';
    END IF;
    IF pg_is_in_recovery() THEN  -- its sequences run ahead
        RAISE invalid_transaction_state USING MESSAGE = 'the audit trail cannot be followed on a replica';
    END IF;
    epoch := public.auditlog_epoch();
    session := pg_backend_pid();
    SELECT coalesce(pg_sequence_last_value('public.auditlog_record_id_seq'), 0) INTO last;
    SELECT array_agg(l.transactionid::text::bigint) INTO locked FROM pg_locks l
        WHERE l.locktype = 'transactionid' AND l.mode = 'ExclusiveLock' AND l.granted;
    SELECT pg_current_snapshot()::text, clock_timestamp() INTO snapshot, at;
    xmax := pg_snapshot_xmax(snapshot::pg_snapshot)::text::bigint;
    -- A lock tells the lower 32 bits of a number.
    SELECT coalesce(array_agg(xmax + n.ahead ORDER BY n.ahead), '{}') INTO newer
        FROM (SELECT (number - xmax % 4294967296 + 4294967296) % 4294967296 AS ahead FROM unnest(locked) number) n
        WHERE n.ahead < 2147483648;
END $$;
"""

# How far those have come who follow in turns. The lock ends with the transaction, so that it holds behind a pooler.
CURSORS = """
CREATE TABLE auditlog_cursor (
    name text NOT NULL PRIMARY KEY,
    state text NOT NULL,
    moved_at timestamptz NOT NULL
);

-- NULL: somebody else holds it; '': nobody has followed by this name yet.
CREATE FUNCTION auditlog_take_cursor(cursor_name text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtextextended('auditlog cursor ' || cursor_name, 0)) THEN
        RETURN NULL;
    END IF;
    RETURN coalesce((SELECT c.state FROM public.auditlog_cursor c WHERE c.name = cursor_name), '');
END $$;

CREATE FUNCTION auditlog_move_cursor(cursor_name text, cursor_state text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO public.auditlog_cursor VALUES (cursor_name, cursor_state, clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET state = excluded.state, moved_at = excluded.moved_at
$$;
"""

# A fingerprint for what is masked in an event. Not the one that the triggers make of the same value: whoever may call
# this could else try every PIN.
FINGERPRINT = """
CREATE FUNCTION auditlog_fingerprint_of(value text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    SELECT public.auditlog_fingerprint('event ' || value)
$$;
"""

DROP = """
DROP FUNCTION auditlog_fingerprint_of, auditlog_move_cursor, auditlog_take_cursor, auditlog_horizon;
DROP TABLE auditlog_cursor;
"""


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0004_read_numbers_exactly")]

    operations = [migrations.RunSQL(HORIZON + CURSORS + FINGERPRINT, DROP)]
