"""Every signal that accounts listens to, on one screen."""

from __future__ import annotations

from typing import Any

import structlog
from axes.signals import user_locked_out
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.db.models.signals import post_migrate
from django.http import HttpRequest

from accounts import daily, devices, lockout, roles, services
from accounts.models import User
from auditlog import lines
from auditlog.models import Record
from auditlog.signals import batch_recorded
from config.client_address import client_address

# These three lines are written at once, also while nobody follows the trail: what bans addresses reads them.
log = structlog.get_logger("accounts.login")


def connect() -> None:
    # Django's own receiver saves the instance; ours counts the login in the same statement. It takes the other's place
    # by its name: whether Django has connected that already depends on the order of the apps.
    user_logged_in.disconnect(dispatch_uid="update_last_login")
    user_logged_in.connect(_logged_in, dispatch_uid="update_last_login")
    user_login_failed.connect(_login_failed, dispatch_uid="accounts.login_failed")
    user_locked_out.connect(_locked_out, dispatch_uid="accounts.locked_out")
    lines.leave_out("login", "login_failed")
    batch_recorded.connect(daily.recorded, sender=Record, dispatch_uid="accounts.daily")
    post_migrate.connect(roles.write_roles, sender=roles.last_app(), dispatch_uid="accounts.write_roles")


def _logged_in(sender: type[User], request: HttpRequest, user: User, **kwargs: Any) -> None:
    services.count_login(user)
    lockout.forgive(request, user)
    devices.remember(request, user)
    log.info("login.succeeded", id=str(user.pk), address=client_address(request))


def _login_failed(sender: Any, credentials: dict[str, Any], request: HttpRequest | None = None, **kwargs: Any) -> None:
    if getattr(request, "axes_locked_out", False):
        return  # nothing was tried; `_locked_out` has said so
    lockout.failed(request, credentials.get("username") or "")
    name = lockout.counted_name(credentials.get("username") or "")
    log.warning("login.failed", name=name, address=client_address(request) if request else None)


def _locked_out(sender: Any, request: HttpRequest, username: str, ip_address: str, **kwargs: Any) -> None:
    log.warning("login.locked_out", name=username, address=ip_address)
