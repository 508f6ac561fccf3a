"""A small cast: make people with `UserFactory`; their password is `PASSWORD`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import factory
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group
from django.utils import timezone
from factory import declarations

from accounts.models import Invitation, User

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


class InvitationFactory(factory.django.DjangoModelFactory[Invitation]):
    """A link that anybody may use once, as a command makes it; open for a fortnight."""

    class Meta:
        model = Invitation

    lifetime_days = 14
    expires_at = declarations.LazyFunction(lambda: timezone.now() + timedelta(days=14))
    from_command = declarations.LazyAttribute(lambda invitation: invitation.invited_by is None)
    invited_by = None
    invited_by_name = declarations.LazyAttribute(lambda invitation: str(invitation.invited_by or "command"))

    @classmethod
    def _create(cls, model_class: type[Invitation], *args: Any, **kwargs: Any) -> Invitation:
        roles = kwargs.pop("roles", ())
        invitation: Invitation = super()._create(model_class, *args, **kwargs)
        invitation.roles.set(Group.objects.filter(name__in=roles))
        return Invitation.objects.get(pk=invitation.pk)
