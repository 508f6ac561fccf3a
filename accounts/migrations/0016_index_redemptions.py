"""Find redemptions by their time, without keeping anybody from coming in by an invitation meanwhile."""

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0015_search_people")]
    operations = [
        # What was interrupted has left an index that is not valid.
        migrations.RunSQL("DROP INDEX CONCURRENTLY IF EXISTS accounts_redemption_redeemed", migrations.RunSQL.noop),
        AddIndexConcurrently("redemption", models.Index(fields=["redeemed_at"], name="accounts_redemption_redeemed")),
    ]
