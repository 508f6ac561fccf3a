from django.db import migrations, models

import auditlog.models


class Migration(migrations.Migration):
    """Nothing changes in the database: the values are read as they are written."""

    dependencies = [("auditlog", "0003_care_for_partitions")]

    operations = [
        migrations.AlterField("record", name, models.JSONField(null=True, decoder=auditlog.models.ExactDecoder))
        for name in ("old", "new", "personal")
    ]
