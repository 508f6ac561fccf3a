"""Indexes for the states of an account, made while the table is in use."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models

INDEXES = [
    models.Index(
        condition=models.Q(("deleted_at", None), ("is_active", False)), fields=["id"], name="accounts_user_deactivated"
    ),
    models.Index(condition=models.Q(("erase_at__isnull", False)), fields=["erase_at"], name="accounts_user_erase_at"),
    models.Index(condition=models.Q(("deleted_at__isnull", False)), fields=["id"], name="accounts_user_erased"),
]


class Migration(migrations.Migration):
    atomic = False  # a table of ten million rows stays open for writing
    dependencies = [("accounts", "0011_end_accounts")]

    operations = [
        *(
            operation
            for index in INDEXES
            for operation in (
                # What was interrupted has left an index that is not valid.
                migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {index.name}", migrations.RunSQL.noop),
                AddIndexConcurrently("user", index),
            )
        ),
        RemoveIndexConcurrently(model_name="user", name="accounts_user_inactive"),
    ]
