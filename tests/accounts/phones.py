"""Second factors of the cast: a phone with an authenticator app."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pyotp
from django.test import Client

from accounts.models import User, new_id
from accounts.second_factor import events, totp
from accounts.second_factor.models import AuthenticatorApp

SECOND_STEP = "/accounts/login/second-factor/"
OVERVIEW = "/accounts/security/second-factor/"


@dataclass
class Phone:
    """An authenticator app that a person has set up, with what it knows and we should not show."""

    app: AuthenticatorApp
    secret: str
    recovery_codes: list[str]

    def code(self, steps: int = 1) -> str:
        """What it shows so many steps of 30 seconds from now; the next one is taken, too, and was not used yet."""
        return pyotp.HOTP(self.secret).at(int(time.time()) // totp.SECONDS + steps)

    def wrong_code(self) -> str:
        """Six digits that it does not show about now."""
        shown = {self.code(steps) for steps in range(-2, 4)}
        return next(code for code in map(str, range(100_000, 100_010)) if code not in shown)

    def forget_use(self) -> None:
        """As if no code had been used for long."""
        AuthenticatorApp.objects.filter(pk=self.app.pk).update(last_step=0)


def give_phone(user: User, name: str = "Phone") -> Phone:
    app, secret = AuthenticatorApp(pk=new_id(), name=name), totp.new_secret()
    code = pyotp.HOTP(secret).at(int(time.time()) // totp.SECONDS)
    return Phone(app, secret, events.add_app(app, secret, code, acting_user=user))


def show_code(browser: Client, code: str, **more: Any) -> Any:
    return browser.post(SECOND_STEP, {"code": code}, **more)
