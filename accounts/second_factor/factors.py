"""Which second factors a person has."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from accounts.models import User
from accounts.second_factor.models import AuthenticatorApp, Factor, Passkey, RecoveryCodes


def has() -> Q:
    """Return the condition that a user has a second factor; recovery codes alone are none."""
    of_user = {"user": OuterRef("pk")}
    return Q(Exists(AuthenticatorApp.objects.filter(**of_user))) | Q(Exists(Passkey.objects.filter(**of_user)))


def is_on(user: User) -> bool:
    """Whether `user` has to show a second factor to come in."""
    return User.objects.filter(has(), pk=user.pk).exists()


def of(user: User) -> list[Factor]:
    """Return all of `user`'s second factors, the oldest first."""
    found: list[Factor] = [*apps(user), *passkeys(user)]
    return sorted(found, key=lambda factor: factor.created_at)


def apps(user: User) -> list[AuthenticatorApp]:
    return list(AuthenticatorApp.objects.filter(user=user).order_by("pk"))


def passkeys(user: User) -> list[Passkey]:
    return list(Passkey.objects.filter(user=user).order_by("pk"))


def find(user: User, factor_id: UUID) -> Factor | None:
    """Return `user`'s factor of this id, or None; nobody finds another person's."""
    return next((factor for factor in of(user) if factor.pk == factor_id), None)


def codes_left(user: User) -> int:
    """How many recovery codes are not used yet."""
    codes = RecoveryCodes.objects.filter(user=user).first()
    return len(codes.digests) if codes else 0
