"""Indexes for the states of an account, made while the table is in use."""

from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0011_end_accounts")]

    operations = [
        AddIndexConcurrently(
            model_name="user",
            index=models.Index(
                condition=models.Q(("deleted_at", None), ("is_active", False)),
                fields=["id"],
                name="accounts_user_deactivated",
            ),
        ),
        AddIndexConcurrently(
            model_name="user",
            index=models.Index(
                condition=models.Q(("erase_at__isnull", False)), fields=["erase_at"], name="accounts_user_erase_at"
            ),
        ),
        AddIndexConcurrently(
            model_name="user",
            index=models.Index(
                condition=models.Q(("deleted_at__isnull", False)), fields=["id"], name="accounts_user_erased"
            ),
        ),
        RemoveIndexConcurrently(model_name="user", name="accounts_user_inactive"),
    ]
