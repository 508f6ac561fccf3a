"""Demo data for an empty database."""

from __future__ import annotations

from accounts import links, services
from accounts.models import User

ADMINISTRATOR = "gatekeeper"


def add_first_administrator() -> str | None:
    """On a database without users, add a superuser without a password.

    Returns the link that lets its holder choose one, once; None when there are users already. Until the
    link is used, each start makes a new one, so that a lost line is no lost site.
    """
    administrator = User.objects.filter(username_canonical=ADMINISTRATOR).first()
    if administrator is None and not User.objects.exists():
        administrator = User(username=ADMINISTRATOR, email="gatekeeper@example.com", full_name="First Administrator")
        administrator.is_staff = administrator.is_superuser = True
        services.add_user(administrator, acting_user=None)
    if administrator is None or administrator.has_usable_password():
        return None
    return links.set_password_url(administrator)
