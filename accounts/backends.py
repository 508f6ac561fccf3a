"""The one authentication backend."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password
from django.http import HttpRequest

from accounts.models import User


class IdentityBackend(ModelBackend):
    """Signs in by username or e-mail address, at the cost of one hash whatever the account's state."""

    def authenticate(
        self,
        request: HttpRequest | None,
        username: str | None = None,
        password: str | None = None,
        **kwargs: Any,
    ) -> User | None:
        if not username or password is None:
            return None
        user = User.objects.by_login_name(username)
        if user is None:
            make_password(password)
            return None
        # Hash first, judge afterwards: a refused state must cost what a wrong password costs.
        return user if user.check_password(password) and self.user_can_authenticate(user) else None

    def user_can_authenticate(self, user: Any) -> bool:
        return isinstance(user, User) and user.may_sign_in
