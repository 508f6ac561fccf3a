import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_guard_users_by_triggers"),
    ]

    operations = [
        migrations.CreateModel(
            name="LoginAttempt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "account",
                    models.TextField(help_text="The id of the user, or the name that was tried when there is none."),
                ),
                ("network", models.TextField(help_text="An IPv4 address or an IPv6 network, empty for none.")),
                (
                    "device",
                    models.TextField(help_text="The browser, if it had signed in to the account before, else empty."),
                ),
                (
                    "reserved_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), verbose_name="tried at"),
                ),
                ("forgiven_at", models.DateTimeField(null=True, verbose_name="forgiven at")),
            ],
            options={
                "verbose_name": "login attempt",
                "verbose_name_plural": "login attempts",
                "indexes": [
                    models.Index(fields=["account", "device", "reserved_at"], name="accounts_attempt_account"),
                    models.Index(
                        condition=models.Q(("device", "")),
                        fields=["network", "reserved_at"],
                        name="accounts_attempt_network",
                    ),
                    models.Index(fields=["reserved_at"], name="accounts_attempt_age"),
                ],
            },
        ),
        migrations.CreateModel(
            name="RequestedMail",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("email_canonical", models.TextField()),
                ("sent_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
            ],
            options={
                "verbose_name": "requested mail",
                "verbose_name_plural": "requested mails",
                "indexes": [models.Index(fields=["email_canonical", "sent_at"], name="accounts_requested_mail")],
            },
        ),
    ]
