"""What the audit trail holds of accounts; ``docs/audit.md`` says what it does not, and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.utils.translation import gettext_lazy as _

import auditlog
from accounts import services
from accounts.errors import AccountError
from accounts.models import Invitation, Redemption, ReservedUsername, User
from auditlog import describing
from auditlog.models import Record


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
        line=_line_of_user,
        restore=_restore_user,
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
    describing.name_actions(
        {
            "locked_out": _("failed so often that sign-in is locked"),
            "unlocked": _("lifted a lock"),
            "opened": _("opened the page of"),
            "set_password_link_sent": _("sent a link to choose a password"),
        }
    )


def _line_of_user(record: Record) -> dict[str, Any]:
    """A new user's line says who it is; of a change it names the fields only."""
    if record.action != Record.Action.CREATE:
        return {}
    created = record.after  # without its personal values when they were erased meanwhile
    return {
        "username": created.get("username"),
        "email": created.get("email"),
        "created": created["created_at"],
        "second_factor": False,
    }


def _restore_user(user: User, changed: Collection[str], acting_user: User) -> None:
    """As an edit in the admin: an old address must be confirmed again, and an old name must still be free."""
    try:
        services.save_user(user, changed=changed, acting_user=acting_user)
    except AccountError as refusal:
        raise refusal.as_validation_error() from refusal
