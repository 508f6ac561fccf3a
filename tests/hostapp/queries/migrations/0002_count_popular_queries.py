"""What three people or more asked in the last seven days; the host app's own rule, see the model."""

from django.db import migrations

from config.database_views import CreateView

POPULAR = """
SELECT
    text, kind,
    count(*) FILTER (WHERE is_new) AS runs,
    count(*) FILTER (WHERE NOT is_new) AS runs_before,
    count(DISTINCT owner_id) FILTER (WHERE is_new) AS people,
    percentile_cont(0.5) WITHIN GROUP (ORDER BY milliseconds) FILTER (WHERE is_new) AS median_milliseconds,
    count(*) FILTER (WHERE is_new) / greatest(count(*) FILTER (WHERE NOT is_new), 1)::float8 AS growth
FROM (
    SELECT *, at > now() - interval '7 days' AS is_new FROM queries_query WHERE at > now() - interval '14 days'
) lately
GROUP BY text, kind HAVING count(DISTINCT owner_id) FILTER (WHERE is_new) >= 3
"""


class Migration(migrations.Migration):
    dependencies = [("queries", "0001_initial")]

    operations = [CreateView("queries_popular", POPULAR, materialised=True, unique=["text", "kind"])]
