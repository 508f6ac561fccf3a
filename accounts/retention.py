"""How long accounts keep what."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from accounts import addresses, exporting, jobs, services
from accounts.models import FormerPassword, Import, LoginAttempt, RequestedMail, ReservedUsername, Session
from config import retention


def register_rules() -> None:
    retention.register_rows(
        "sessions",
        _("expired sessions"),
        kept_for=timedelta,  # each row says until when
        older_than=lambda before: Session.objects.filter(expires_at__lt=before),
    )
    retention.register_rows(
        "login_attempts",
        _("tries to sign in that are part of no lock any more"),
        kept_for=lambda: 2 * settings.LOGIN_COOLOFF,
        older_than=lambda before: LoginAttempt.objects.filter(reserved_at__lt=before),
    )
    retention.register_rows(
        "requested_mails",
        _("notes of mails that somebody asked for"),
        kept_for=lambda: jobs.REQUESTED_MAILS_FOR,
        older_than=lambda before: RequestedMail.objects.filter(sent_at__lt=before),
    )
    retention.register_rows(
        "reserved_usernames",
        _("names that are free again"),
        kept_for=timedelta,  # each row says until when
        older_than=lambda before: ReservedUsername.objects.filter(reserved_until__lt=before),
    )
    retention.register_rows(
        "former_passwords",
        _("former passwords, when none are asked for any more"),
        # With a history, each change deletes what is beyond it.
        kept_for=lambda: None if settings.PASSWORD_HISTORY else timedelta(),
        older_than=lambda before: FormerPassword.objects.filter(replaced_at__lt=before),
    )
    retention.register_rows(
        "imports",
        _("imports of people, with the verdicts on their rows"),
        kept_for=lambda: timedelta(days=settings.IMPORTS_KEPT_DAYS),
        older_than=lambda before: Import.objects.filter(created_at__lt=before),
    )
    retention.register_rows(
        "address_changes",
        _("changes of an e-mail address that cannot be confirmed or undone any more"),
        kept_for=addresses.kept_for,
        older_than=addresses.over_since,
    )
    retention.register_rows(
        "data_export_pieces",
        _("content of copies of people’s data that have expired"),
        kept_for=timedelta,  # each copy says until when
        older_than=exporting.expired_pieces,
    )
    retention.register_rows(
        "data_exports",
        _("notes of copies of people’s data"),
        kept_for=exporting.kept_for,
        older_than=exporting.over_since,
    )
    retention.register_rows(
        "unconfirmed_accounts",
        _("accounts whose address was never confirmed"),
        kept_for=lambda: timedelta(days=days) if (days := settings.UNCONFIRMED_ACCOUNT_DAYS) else None,
        older_than=services.unconfirmed_since,
        delete=services.delete_unconfirmed,
    )
