"""What accounts themselves tell a person about that person (see `exporting`). No secret, not even a hashed one."""

from __future__ import annotations

from typing import Any

from accounts import exporting, sessions
from accounts.models import Invitation, Redemption, ReservedUsername, User
from accounts.second_factor import factors


def register_parts() -> None:
    exporting.register("account", account)
    exporting.register("profile", profile)
    exporting.register("roles", roles)
    exporting.register("invitations", invitations)
    exporting.register("sessions", signed_in)
    exporting.register("second-factors", second_factors)


def account(user: User) -> dict[str, Any]:
    kept = ReservedUsername.objects.filter(holder=user)[: exporting.MOST_ROWS]
    changes = user.address_changes.order_by("-requested_at")[: exporting.MOST_ROWS]
    return {
        "id": user.pk,
        "username": user.username,
        "email": user.email,
        "email_verified": user.email_verified_at,
        "created": user.created_at,
        "changed": user.updated_at,
        "last_login": user.last_login,
        "logins": user.login_count,
        "is_active": user.is_active,
        "former_usernames": [{"name": one.username_canonical, "reserved_until": one.reserved_until} for one in kept],
        "address_changes": [
            {
                "from": one.old_email,
                "to": one.new_email,
                "state": one.state,
                "asked": one.requested_at,
                "confirmed": one.confirmed_at,
            }
            for one in changes
        ],
    }


def profile(user: User) -> dict[str, str]:
    return {name: getattr(user, name) for name in ("full_name", "bio", "avatar_url", "time_zone", "language")}


def roles(user: User) -> dict[str, Any]:
    return {
        "roles": sorted(user.groups.values_list("name", flat=True)),
        "is_staff": user.is_staff,
        "is_superuser": user.is_superuser,
    }


def invitations(user: User) -> dict[str, Any]:
    made = Invitation.objects.filter(invited_by=user).order_by("-created_at")[: exporting.MOST_ROWS]
    redeemed = Redemption.objects.select_related("invitation").filter(user=user).first()
    return {
        "made": [_made(invitation) for invitation in made.prefetch_related("roles")],
        "redeemed": redeemed
        and {
            "at": redeemed.redeemed_at,
            "invited_by": redeemed.invitation.invited_by_name,
            "note": redeemed.invitation.note,
        },
    }


def signed_in(user: User) -> list[dict[str, Any]]:
    return [
        {"device": one.device, "address": one.address, "began": one.first_seen_at, "last_used": one.last_seen_at}
        for one in sessions.of(user)
    ]


def second_factors(user: User) -> dict[str, Any]:
    return {
        "factors": [
            {"kind": one.kind, "name": one.name, "added": one.created_at, "last_used": one.last_used_at}
            for one in factors.of(user)
        ],
        "recovery_codes_left": factors.codes_left(user),
    }


def _made(invitation: Invitation) -> dict[str, Any]:
    return {
        "email": invitation.email,
        "domain": invitation.domain,
        "note": invitation.note,
        "roles": sorted(role.name for role in invitation.roles.all()),
        "created": invitation.created_at,
        "expires": invitation.expires_at,
        "state": invitation.state,
        "uses": invitation.uses,
        "most_uses": invitation.max_uses,
        "delivery": invitation.delivery,
    }
