"""The drill: back up, lose the server with its directory, restore on another one, compare rows, seals and logins."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from accounts.models import User
from auditlog import sealing
from config.database import backups
from config.database.roles import owner_connection
from tests.bench.figures import Figure
from tests.bench.people import SIZE, fill_users, name_of
from tests.live import LOGIN, PASSWORD, Database, Site, manage, own_database, running_site

CHANGED = 50_000  # people with a record in the trail
LOGINS = 5


def drill(database: Database) -> list[Figure]:
    with owner_connection() as owner:
        fill_users(owner, SIZE)
    some = User.objects.order_by("-id").values("pk")[:CHANGED]
    User.objects.filter(pk__in=some).update(bio="changed")
    sealing.seal()
    with tempfile.TemporaryDirectory() as directory:
        begun = time.perf_counter()
        made = backups.make(Path(directory))
        wrote = time.perf_counter() - begun
        size = int(database.value("SELECT pg_database_size(current_database())"))
        database.cluster.stop()  # which deletes it
        with own_database(migrated=False) as elsewhere:
            elsewhere.be_durable()
            begun = time.perf_counter()
            done = manage("restore", str(made.path), "--yes", "--json", environment=elsewhere.environment, timeout=7200)
            restored = time.perf_counter() - begun
            told = json.loads(done.stdout)
            with running_site(elsewhere.environment) as site:
                let_in = sum(_is_let_in(site, name_of(number)) for number in range(3, 3 + 100 * LOGINS, 100))
    return [
        Figure("rows", told["rows"], digits=0),
        Figure("size of the database", size / 1e6, "MB", 0),
        Figure("size of the backup", made.manifest.bytes / 1e6, "MB", 0),
        Figure("backup", wrote, "s", 1),
        Figure("restore, with the comparison", restored, "s", 1),
        Figure("tables whose rows differ", len(told["differing"]), digits=0, at_most=0),
        Figure("seals that hold", told["trail"]["seals"] if told["trail"]["ok"] else 0, digits=0, at_least=1),
        Figure(f"logins of {LOGINS} that work", let_in, digits=0, at_least=LOGINS),
    ]


def _is_let_in(site: Site, name: str) -> bool:
    browser = site.browser()
    fields = browser.open_form(LOGIN) | {"username": name, "password": PASSWORD}
    return browser.post(LOGIN, fields).status == 302
