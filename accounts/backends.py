"""The two authentication backends: one reserves the try, the other looks at the password."""

from __future__ import annotations

from typing import Any

from axes.backends import AxesStandaloneBackend
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import make_password
from django.http import HttpRequest

from accounts import lockout
from accounts.models import User, UserState
from config.database import routing


class ReservingBackend(AxesStandaloneBackend):  # type: ignore[misc]  # axes has no types
    """Refuses what `lockout` refuses; lets in nobody. Code without a request counts as one network of its own."""

    def authenticate(self, request: HttpRequest | None, **credentials: Any) -> None:
        super().authenticate(request or HttpRequest(), **credentials)


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
        if not user.check_password(password):
            return None
        if not self.user_can_authenticate(user):
            is_open = user.state == UserState.ACTIVE
            lockout.fails_because(request, lockout.NOT_CONFIRMED if is_open else lockout.NOT_OPEN)
            return None
        if request is None:  # no login follows that would forgive the reservation
            lockout.forgive(HttpRequest(), user)
        return user

    def get_user(self, user_id: Any) -> User | None:
        with routing.on_primary():  # no replica says whether somebody may be here
            return super().get_user(user_id)

    def user_can_authenticate(self, user: Any) -> bool:
        return isinstance(user, User) and user.may_sign_in
