"""What was done with each account, and how many were made on which day; with that, how often people signed in.

Nothing is rewritten. The materialised view is counted from the whole user table, which keeps nobody waiting.
"""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

ACTIVITY = """
CREATE VIEW accounts_user_activity WITH (security_invoker = true) AS
SELECT
    u.id AS user_id, u.username, u.is_active, u.created_at, u.email_verified_at, u.last_login, u.login_count,
    i.invited_by_id, coalesce(i.invited_by_name, '') AS invited_by_name, made.invitations, made.people_invited,
    greatest(u.created_at, u.last_login, made.newest) AS last_activity_at
FROM accounts_user u
LEFT JOIN accounts_redemption r ON r.user_id = u.id
LEFT JOIN accounts_invitation i ON i.id = r.invitation_id
CROSS JOIN LATERAL (
    SELECT count(*) AS invitations, coalesce(sum(own.uses), 0) AS people_invited, max(own.created_at) AS newest
    FROM accounts_invitation own WHERE own.invited_by_id = u.id
) made
"""

# Always has a row of the day before it was counted, however few sign up: so the newest day tells how far it has come.
DAYS = """
CREATE MATERIALIZED VIEW accounts_daily_signups AS
WITH today AS (SELECT date_trunc('day', statement_timestamp(), 'UTC') AS began)
SELECT
    day, coalesce(signups, 0) AS signups, coalesce(verified, 0) AS verified, coalesce(added, 0) AS added,
    coalesce(invited, 0) AS invited
FROM (
    SELECT
        (created_at AT TIME ZONE 'UTC')::date AS day, count(*) AS signups, count(email_verified_at) AS verified,
        count(*) FILTER (WHERE signup_key IS NULL) AS added
    FROM accounts_user WHERE created_at < (SELECT began FROM today) GROUP BY 1
) made
FULL JOIN (
    SELECT (redeemed_at AT TIME ZONE 'UTC')::date AS day, count(*) AS invited
    FROM accounts_redemption WHERE redeemed_at < (SELECT began FROM today) GROUP BY 1
) came USING (day)
FULL JOIN (SELECT (began AT TIME ZONE 'UTC')::date - 1 AS day FROM today) yesterday USING (day);
CREATE UNIQUE INDEX accounts_daily_signups_day ON accounts_daily_signups (day);
"""

# Yesterday and today, and whatever the worker has not counted yet, are counted now: day by day, so that the planner
# knows that each is a small part of the table.
DAYS_AND_TODAY = """
CREATE VIEW accounts_signups_by_day WITH (security_invoker = true) AS
WITH live AS (
    SELECT least(max(day) + 1, (statement_timestamp() AT TIME ZONE 'UTC')::date - 1) AS begins
    FROM accounts_daily_signups
)
SELECT day, signups, verified, added, invited
FROM accounts_daily_signups WHERE day < (SELECT begins FROM live)
UNION ALL
SELECT one.at::date, made.signups, made.verified, made.added, came.invited
FROM live
CROSS JOIN generate_series(
    live.begins::timestamp, statement_timestamp() AT TIME ZONE 'UTC', interval '1 day'
) one (at)
CROSS JOIN LATERAL (
    SELECT
        count(*) AS signups, count(email_verified_at) AS verified,
        count(*) FILTER (WHERE signup_key IS NULL) AS added
    FROM accounts_user
    WHERE created_at >= one.at AT TIME ZONE 'UTC' AND created_at < (one.at + interval '1 day') AT TIME ZONE 'UTC'
) made
CROSS JOIN LATERAL (
    SELECT count(*) AS invited FROM accounts_redemption
    WHERE redeemed_at >= one.at AT TIME ZONE 'UTC' AND redeemed_at < (one.at + interval '1 day') AT TIME ZONE 'UTC'
) came
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0016_index_redemptions")]

    operations = [
        migrations.CreateModel(
            name="EventDay",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("day", models.DateField()),
                ("event", models.TextField()),
                ("count", models.PositiveBigIntegerField()),
            ],
            options={
                "verbose_name": "events of a day",
                "verbose_name_plural": "events of days",
                "default_permissions": (),
                "constraints": [models.UniqueConstraint(fields=("day", "event"), name="accounts_event_day")],
            },
        ),
        migrations.RunSQL(ACTIVITY, "DROP VIEW accounts_user_activity"),
        migrations.RunSQL(DAYS, "DROP MATERIALIZED VIEW accounts_daily_signups"),
        migrations.RunSQL(DAYS_AND_TODAY, "DROP VIEW accounts_signups_by_day"),
        migrations.CreateModel(
            name="UserActivity",
            fields=[
                (
                    "user",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("username", models.TextField()),
                ("is_active", models.BooleanField()),
                ("created_at", models.DateTimeField()),
                ("email_verified_at", models.DateTimeField(null=True)),
                ("last_login", models.DateTimeField(null=True)),
                ("login_count", models.PositiveIntegerField()),
                (
                    "invited_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.DO_NOTHING,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                ("invited_by_name", models.TextField()),
                ("invitations", models.BigIntegerField()),
                ("people_invited", models.BigIntegerField()),
                ("last_activity_at", models.DateTimeField()),
            ],
            options={"db_table": "accounts_user_activity", "managed": False, "default_permissions": ()},
        ),
        migrations.CreateModel(
            name="SignupDay",
            fields=[
                ("day", models.DateField(primary_key=True, serialize=False)),
                ("signups", models.BigIntegerField()),
                ("verified", models.BigIntegerField()),
                ("added", models.BigIntegerField()),
                ("invited", models.BigIntegerField()),
            ],
            options={"db_table": "accounts_signups_by_day", "managed": False, "default_permissions": ()},
        ),
    ]
