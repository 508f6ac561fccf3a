"""A table full of people, for whoever measures what a page or a command costs on it."""

from __future__ import annotations

import os
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.db.backends.base.base import BaseDatabaseWrapper

from accounts import roles
from accounts.models import User
from accounts.seeding import FIRST_NAMES, LAST_NAMES, skeleton_sql
from tests.live import PASSWORD

SIZE = int(os.environ.get("SIZE", "1000000"))
BATCH = 250_000
SELDOM = 100_003  # one in so many bears the name below
SELDOM_NAME = "Zebedee Quillfeather"
YEARS = 3  # over which they came

_NAMED = """
SELECT n, first || '.' || last || '.' || n AS username,
    CASE WHEN n %% {seldom} = 0 THEN '{seldom_name}' ELSE initcap(first || ' ' || last) END AS full_name,
    now() - (1 - n / {size}::float8) * interval '{years} years' AS at
FROM (
    SELECT n,
        (%(first)s::text[])[n * 7919 %% {firsts} + 1] AS first,
        (%(last)s::text[])[n / 7 * 104729 %% {lasts} + 1] AS last
    FROM generate_series(%(begin)s::bigint, %(end)s) n
) numbered
"""
# Of a hundred: one shut out, five without a confirmed address, thirty who never came back; fifty of the staff in all.
_VALUES = {
    "id": "(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n %% 4096), 3, '0')"
    " || '8' || lpad(to_hex(n), 15, '0'))::uuid",
    "password": "%(password)s",
    "username": "username",
    "username_source": "username",
    "username_canonical": "username",
    "username_skeleton": "{skeleton}",
    "email": "username || '@' || 'mail' || n %% 20 || '.example.com'",
    "email_source": "username || '@' || 'mail' || n %% 20 || '.example.com'",
    "email_canonical": "username || '@' || 'mail' || n %% 20 || '.example.com'",
    "email_verified_at": "CASE WHEN n %% 20 > 0 THEN at + interval '1 hour' END",
    "full_name": "full_name",
    "last_login": "CASE WHEN n %% 10 > 2 THEN at + interval '1 day' END",
    "login_count": "CASE WHEN n %% 10 > 2 THEN n %% 90 + 1 ELSE 0 END",
    "is_active": "n %% 100 > 0",
    "is_staff": "n %% greatest({size} / 50, 2) = 1",
    "created_at": "at",
    "updated_at": "at",
}


def fill_users(connection: BaseDatabaseWrapper, size: int = SIZE) -> None:
    """Make `size` members as the site would have made them, but unrecorded; they sign in with `PASSWORD`.

    `connection` is the owner's, in autocommit (see `config.database.roles.owner_connection`). What a column unknown
    here holds is the model's default.
    """
    columns = {str(field.column): field for field in User._meta.concrete_fields}
    others = {name: field for name, field in columns.items() if name not in _VALUES}
    about: dict[str, Any] = {name: field.get_default() for name, field in others.items()}
    about |= {"password": make_password(PASSWORD), "first": FIRST_NAMES, "last": LAST_NAMES}
    values = {**_VALUES, **{name: f"%({name})s" for name in others}}
    named = {
        "size": size,
        "seldom": SELDOM,
        "seldom_name": SELDOM_NAME,
        "years": YEARS,
        "skeleton": skeleton_sql("username"),
    }
    insert = (
        f"WITH named AS ({_NAMED}), made AS ("  # noqa: S608 - names of our own
        f"INSERT INTO accounts_user ({', '.join(values)}) SELECT {', '.join(values.values())} FROM named ORDER BY n"
        " RETURNING id) INSERT INTO accounts_user_groups (user_id, group_id) SELECT id, %(member)s FROM made"
    ).format(**named, firsts=len(FIRST_NAMES), lasts=len(LAST_NAMES))
    about["member"] = Group.objects.get(name=roles.MEMBER).pk
    tables = ("accounts_user", "accounts_user_groups")
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        for begin in range(1, size + 1, BATCH):
            cursor.execute(insert, {**about, "begin": begin, "end": min(begin + BATCH - 1, size)})
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")
            cursor.execute(f"VACUUM (ANALYZE) {table}")


def name_of(number: int) -> str:
    """The username of the person of this number, from 1 on."""
    return (
        f"{FIRST_NAMES[number * 7919 % len(FIRST_NAMES)]}.{LAST_NAMES[number // 7 * 104729 % len(LAST_NAMES)]}.{number}"
    )
