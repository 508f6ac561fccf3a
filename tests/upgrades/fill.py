"""Run inside an older release by `make.py`: rows of every kind that it knows, made by its own code.

What a release does not have yet is left out. The password is in ``PASSWORD``.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import django

django.setup()

from django.core.management import call_command  # noqa: E402 - needs what was just set up
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts import services  # noqa: E402
from accounts.models import User  # noqa: E402

PASSWORD = os.environ["PASSWORD"]
ANOTHER = f"{PASSWORD}-2"
PEOPLE = 24


def module(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def find(name: str) -> Any:
    return User.objects.get(username=name)


def sign_up(name: str, **more: str) -> None:
    email = more.pop("email", f"{name}@example.com")
    signup = services.SignUp(
        username=name, email=email, password=PASSWORD, full_name=name.title(), browser=name, **more
    )
    services.sign_up(signup)


def people() -> None:
    os.environ["GATEHOUSE_PASSWORD"] = PASSWORD
    call_command("create_user", "keeper", "keeper@example.com", "--superuser", verbosity=0)
    call_command("create_user", "helper", "helper@example.com", "--staff", verbosity=0)
    for number in range(PEOPLE):
        sign_up(f"person{number}")
    confirmed = User.objects.filter(username__in=[f"person{number}" for number in range(PEOPLE - 4)])
    confirmed.update(email_verified_at=timezone.now())
    User.objects.filter(username="person3").update(is_active=False)
    renamed = find("person4")
    renamed.username = "renamed"
    renamed.save()
    changed = find("person5")
    changed.set_password(ANOTHER)
    changed.save()


def sign_ins() -> None:
    for name, password in [(f"person{n}", PASSWORD) for n in range(6, 10)] + [("person10", "Wrong-Password-1")] * 3:
        Client().post("/accounts/login/", {"username": name, "password": password}, HTTP_HOST="localhost")
    assert User.objects.filter(last_login__isnull=False).count() == 4, "sign-ins work"


def invitations() -> None:
    ours = module("accounts.invitations")
    if ours is None:
        return
    from accounts import links

    def token(invitation: Any) -> str:
        return str(links.invitation_url(invitation, mailed=bool(invitation.email))).rstrip("/").rpartition("/")[2]

    keeper = find("keeper")
    mailed = ours.invite_addresses([f"guest{n}@example.com" for n in range(3)], ours.Terms(), acting_user=keeper)
    free, taken_back = ours.make_links(2, ours.Terms(max_uses=1), acting_user=keeper)
    sign_up("guest0", invitation=token(mailed[0]))
    sign_up("by-link", invitation=token(free))
    ours.revoke(taken_back.pk, acting_user=keeper)


def own_accounts() -> None:
    """What came with issue 6."""
    if module("accounts.life_cycle") is None:
        return
    from datetime import timedelta

    from accounts import addresses, exporting, life_cycle
    from accounts.second_factor import recovery_codes, totp
    from accounts.second_factor.models import AuthenticatorApp, RecoveryCodes

    keeper = find("keeper")
    addresses.request_change(find("person11"), "moved@example.com")
    exporting.ask_for_data(find("person12"))
    life_cycle.schedule_erasure(find("person13"), after=timedelta(days=7), acting_user=keeper)
    life_cycle.erase(find("person14"), acting_user=keeper)
    careful = find("person15")
    AuthenticatorApp.objects.create(user=careful, name="Phone", secret=totp.new_secret(), last_step=0)
    codes = [recovery_codes.digest(code, careful.pk) for code in recovery_codes.new_codes()]
    RecoveryCodes.objects.create(user=careful, digests=codes)
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "people.csv"
        file.write_text("username,email,full_name,roles\nimported,imported@example.com,Im Ported,\n")
        call_command("import_people", str(file), "--users")


def main() -> None:
    people()
    sign_ins()
    invitations()
    own_accounts()
    if module("auditlog.sealing"):
        call_command("audit", "seal", verbosity=0)


main()
