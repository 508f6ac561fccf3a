"""A small cast: make people with `UserFactory`; their password is `PASSWORD`."""

from __future__ import annotations

from typing import Any

import factory
from django.contrib.auth.hashers import make_password
from django.utils import timezone
from factory import declarations

from accounts.models import User

PASSWORD = "Correct-Horse-7-Battery"


class UserFactory(factory.django.DjangoModelFactory[User]):
    """A verified member."""

    class Meta:
        model = User

    username = declarations.Sequence(lambda number: f"member-{number}")
    email = declarations.LazyAttribute(lambda user: f"{user.username}@example.com")
    email_verified_at = declarations.LazyFunction(timezone.now)

    @classmethod
    def _create(cls, model_class: type[User], *args: Any, **kwargs: Any) -> User:
        kwargs["password"] = make_password(kwargs.get("password", PASSWORD))
        user: User = super()._create(model_class, *args, **kwargs)
        return user
