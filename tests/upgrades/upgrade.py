"""Run as a process of today's code on a database of an older release; says as JSON what became of it."""

from __future__ import annotations

import json
import os
import sys

import django

django.setup()

from django.apps import apps  # noqa: E402 - needs what was just set up
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402

from accounts.models import User  # noqa: E402
from auditlog import verifying  # noqa: E402
from config.database import operations  # noqa: E402
from config.database.roles import as_owner  # noqa: E402

OURS = ("healthcheck", "accounts", "auditlog")
PEOPLE = ("person6", "person7", "keeper")


def schema() -> list[str]:
    with as_owner():
        return sorted(operations._schema())


def upgrade() -> dict[str, object]:
    call_command("migrate", verbosity=0)
    report = verifying.verify()
    return {
        "schema": schema(),
        "missing": operations.missing_migrations(),
        "without_role": User.objects.filter(groups=None, deleted_at=None).count(),
        "trail": {"ok": report.ok, "seals": report.seals},
        "rows": rows(),
        "let_in": [name for name in PEOPLE if _is_let_in(name)],
    }


def rows() -> dict[str, int]:
    with as_owner(), connection.cursor() as cursor:
        counted = {}
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT count(*) FROM "{table}"')  # noqa: S608
            counted[table] = cursor.fetchone()[0]
        return counted


def _is_let_in(name: str) -> bool:
    fields = {"username": name, "password": os.environ["PASSWORD"]}
    return Client().post("/accounts/login/", fields, headers={"host": "localhost"}).status_code == 302


def back_and_forth() -> dict[str, object]:
    """Undo every migration of ours, on whatever rows there are, and do it again."""
    for app in OURS:
        call_command("migrate", app, "zero", verbosity=0)
    tables = {model._meta.db_table for app in OURS for model in apps.get_app_config(app).get_models()}
    left = sorted(tables & set(rows()))
    call_command("migrate", verbosity=0)
    return {"left": left, "schema": schema(), "missing": operations.missing_migrations()}


if __name__ == "__main__":
    work = {"schema": schema, "upgrade": upgrade, "back_and_forth": back_and_forth}[sys.argv[1]]
    sys.stdout.write(json.dumps(work()))
