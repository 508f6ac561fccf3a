"""Every signal that accounts listens to, on one screen."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.signals import user_logged_in
from django.http import HttpRequest

from accounts import lockout, services
from accounts.models import User


def connect() -> None:
    # Django's own receiver saves the instance; ours counts the login in the same statement.
    user_logged_in.disconnect(dispatch_uid="update_last_login")
    user_logged_in.connect(_count_login, dispatch_uid="accounts.count_login")


def _count_login(sender: type[User], request: HttpRequest, user: User, **kwargs: Any) -> None:
    services.count_login(user)
    lockout.forget_failures(request, user)
