"""Let an import be discarded: a state more, which only the model knows. No SQL."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0018_count_invitations")]

    operations = [
        migrations.AlterField(
            model_name="import",
            name="state",
            field=models.CharField(
                choices=[
                    ("checked", "checked, nothing is written yet"),
                    ("queued", "waiting for the worker"),
                    ("running", "being written"),
                    ("done", "done"),
                    ("failed", "stopped"),
                    ("discarded", "discarded, nothing was written"),
                ],
                max_length=10,
                verbose_name="state",
            ),
        ),
    ]
