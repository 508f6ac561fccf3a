"""The versions of machines, and what people spend."""

from django.db import migrations

from config.database_views import CreateView
from config.rows import CountVersions

SPENDING = """
SELECT
    owner_id, date_trunc('month', at AT TIME ZONE 'UTC')::date AS month,
    coalesce(sum(amount) FILTER (WHERE amount > 0), 0) AS bought,
    coalesce(-sum(amount) FILTER (WHERE amount < 0), 0) AS spent
FROM machines_bill GROUP BY 1, 2
"""


class Migration(migrations.Migration):
    dependencies = [("machines", "0001_initial")]

    operations = [CountVersions("machine"), CreateView("machines_spending", SPENDING)]
