"""The versions of tasks, and the views that the pages show."""

from django.db import migrations

from config.database_views import CreateView
from config.rows import CountVersions

# One row a person who has any task at all.
SUMMARY = """
SELECT
    owner_id,
    count(*) FILTER (WHERE completed_at IS NULL) AS open,
    count(completed_at) AS completed,
    count(*) FILTER (WHERE completed_at IS NULL AND due < (now() AT TIME ZONE 'UTC')::date) AS overdue,
    count(*) FILTER (WHERE completed_at IS NULL AND due = (now() AT TIME ZONE 'UTC')::date) AS due_today
FROM tasks_task WHERE deleted_at IS NULL GROUP BY owner_id
"""

WITH_TAGS = """
SELECT t.id AS task_id, t.owner_id, t.title, named.tags
FROM tasks_task t
CROSS JOIN LATERAL (
    SELECT coalesce(array_agg(tag.name::text ORDER BY tag.name), '{}') AS tags
    FROM tasks_task_tags has JOIN tasks_tag tag ON tag.id = has.tag_id WHERE has.task_id = t.id
) named
WHERE t.deleted_at IS NULL
"""

BY_PRIORITY = """
SELECT
    owner_id, priority, count(*) FILTER (WHERE completed_at IS NULL) AS open, count(completed_at) AS completed
FROM tasks_task WHERE deleted_at IS NULL GROUP BY owner_id, priority
"""

OVERDUE = """
SELECT id AS task_id, owner_id, title, due, (now() AT TIME ZONE 'UTC')::date - due AS days
FROM tasks_task WHERE deleted_at IS NULL AND completed_at IS NULL AND due < (now() AT TIME ZONE 'UTC')::date
"""

RECENTLY_COMPLETED = """
SELECT id AS task_id, owner_id, title, completed_at, completed_at - created_at AS took
FROM tasks_task WHERE deleted_at IS NULL AND completed_at > now() - interval '7 days'
"""

PRODUCTIVITY = """
SELECT
    owner_id, period, date_trunc(period, completed_at AT TIME ZONE 'UTC')::date AS begins, count(*) AS completed,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM completed_at - created_at)::float8 / 3600)
        AS median_hours
FROM tasks_task CROSS JOIN (VALUES ('day'), ('week')) periods (period)
WHERE deleted_at IS NULL AND completed_at IS NOT NULL GROUP BY 1, 2, 3
"""


class Migration(migrations.Migration):
    dependencies = [("tasks", "0001_initial")]

    operations = [
        CountVersions("task"),
        CreateView("tasks_summary", SUMMARY),
        CreateView("tasks_with_tags", WITH_TAGS),
        CreateView("tasks_by_priority", BY_PRIORITY),
        CreateView("tasks_overdue", OVERDUE),
        CreateView("tasks_recently_completed", RECENTLY_COMPLETED),
        CreateView("tasks_productivity", PRODUCTIVITY),
    ]
