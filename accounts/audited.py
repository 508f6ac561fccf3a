"""What the audit trail holds of accounts; ``docs/audit.md`` says what it does not, and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import Group, Permission
from django.utils.translation import gettext_lazy as _

import auditlog
from accounts import services
from accounts.errors import AccountError
from accounts.models import (
    AddressChange,
    ErasedName,
    FormerPassword,
    Import,
    Invitation,
    Redemption,
    ReservedUsername,
    User,
)
from accounts.second_factor.models import AuthenticatorApp, Demand, Passkey, RecoveryCodes, RecoveryLink
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
            "username_digests",
            "email_source",
            "email_canonical",
            "signup_key",
        ],
        masked=["password"],
        personal=["username", "email", "full_name", "bio", "avatar_url", "time_zone", "language"],
        quiet=["last_login", "login_count", "updated_at", "version"],
        line=_line_of_user,
        restore=_restore_user,
    )
    auditlog.register(FormerPassword, masked=["password"])
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
        Import,
        label=["file_name"],
        excluded=["content", "verdicts", "sha256"],
        personal=["started_by_name"],
        quiet=["position", "counts"],
    )
    auditlog.register(
        ReservedUsername,
        label=["username_canonical"],
        excluded=["username_skeleton", "signup_key"],
        personal=["username_canonical"],
    )
    auditlog.register(ErasedName, clear=["digest", "hash_key"])
    auditlog.register(
        AddressChange,
        label=["new_email"],
        excluded=["old_email_canonical", "new_email_canonical"],
        personal=["old_email", "new_email"],
    )
    _register_second_factors()
    describing.name_actions(
        {
            "locked_out": _("failed so often that sign-in is locked"),
            "unlocked": _("lifted a lock"),
            "opened": _("opened the page of"),
            "session_ended": _("signed out a device"),
            "data_asked": _("asked for a copy of their data"),
            "data_made": _("made a copy of somebody’s data for them"),
            "data_downloaded": _("downloaded the copy of their data"),
            "set_password_link_sent": _("sent a link to choose a password"),
            "seed": _("began to fill the database with made-up people"),
        }
    )


def _register_second_factors() -> None:
    """What lets somebody in is masked by its name already; what each login writes makes no record by itself."""
    auditlog.register(
        AuthenticatorApp,
        label=["name"],
        masked=["secret"],
        personal=["name"],
        quiet=["last_step", "last_used_at"],
    )
    auditlog.register(
        Passkey,
        label=["name"],
        masked=["credential_id", "public_key"],
        personal=["name"],
        quiet=["sign_count", "answered", "last_used_at"],
    )
    auditlog.register(RecoveryCodes, masked=["digests"])
    auditlog.register(RecoveryLink, masked=["nonce"])
    auditlog.register(Demand)
    describing.name_actions(
        {
            "second_factor_asked": _("gave the right password and was asked for the second factor"),
            "second_factor_added": _("added a second factor"),
            "second_factor_removed": _("removed a second factor"),
            "second_factor_codes_replaced": _("made new recovery codes"),
            "second_factor_code_used": _("used a recovery code"),
            "second_factor_recovery": _("sent a link to begin anew without a second factor"),
            "second_factor_recovered": _("began anew without a second factor, by a mailed link"),
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
