"""Erase also from where somebody acted on the person's own account without being signed in: mostly it was the person."""

from importlib import import_module

from django.db import migrations

_former = import_module("auditlog.migrations.0002_create_seals").ERASE
_REDACT = "CREATE OR REPLACE FUNCTION auditlog_redact" + _former.partition("CREATE FUNCTION auditlog_redact")[2]
_ABOUT = """(r.resource = resource AND r.object_id = person_id) OR r.object_label = ANY (labels)
                    OR (r.resource, r.object_id) IN (SELECT * FROM unnest(resources, ids))"""
_WHO = "(r.actor_kind = 'user' AND r.actor_id = person_id) OR r.on_behalf_id = person_id"
# Who signs up, mistypes a password or follows a mailed link is nobody yet.
REDACT = _REDACT.replace(_WHO, f"{_WHO}\n                    OR (r.actor_kind = 'anonymous' AND ({_ABOUT}))")


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0006_keep_functions_from_others")]
    operations = [migrations.RunSQL(REDACT, _REDACT)]
