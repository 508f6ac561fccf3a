"""Index full names by their beginning, and by that of their last word, without keeping anybody from writing."""

from django.contrib.postgres.indexes import OpClass
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models
from django.db.models.functions import Lower

last_word = models.Func("full_name", models.Value("[^ ]+$"), function="SUBSTRING", output_field=models.TextField())
INDEXES = {"accounts_user_full_name": Lower("full_name"), "accounts_user_family_name": Lower(last_word)}


def index(name, expression):
    column = OpClass(expression, name="text_pattern_ops")
    return models.Index(column, name=name, condition=~models.Q(full_name=""))


class Migration(migrations.Migration):
    atomic = False  # a table of ten million rows stays open for writing
    dependencies = [("accounts", "0014_import_people")]
    operations = [
        operation
        for name, expression in INDEXES.items()
        for operation in (
            # What was interrupted has left an index that is not valid.
            migrations.RunSQL(f"DROP INDEX CONCURRENTLY IF EXISTS {name}", migrations.RunSQL.noop),
            AddIndexConcurrently("user", index(name, expression)),
        )
    ]
