"""What the audit trail holds of accounts; ``docs/audit.md`` says what it does not, and why."""

from __future__ import annotations

from django.contrib.auth.models import Group, Permission

import auditlog
from accounts.models import Invitation, Redemption, ReservedUsername, User


def register_models() -> None:
    auditlog.register(
        User,
        label=["username"],
        excluded=[
            "username_source",
            "username_canonical",
            "username_skeleton",
            "email_source",
            "email_canonical",
            "signup_key",
        ],
        masked=["password"],
        personal=["username", "email", "full_name", "bio", "avatar_url"],
        quiet=["last_login", "login_count", "updated_at", "version"],
    )
    auditlog.register(Group, label=["name"])
    auditlog.register(Permission, label=["codename"])
    auditlog.register(
        Invitation,
        label=["email", "domain"],
        excluded=["email_canonical"],
        masked=["nonce"],
        personal=["email", "invited_by_name", "note"],
    )
    auditlog.register(Redemption, label=["username"], personal=["username"])
    auditlog.register(
        ReservedUsername,
        label=["username_canonical"],
        excluded=["username_skeleton", "signup_key"],
        personal=["username_canonical"],
    )
