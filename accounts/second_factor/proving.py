"""Whether somebody has the second factor that they claim to have."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest

import auditlog
from accounts import lockout
from accounts.models import User
from accounts.second_factor import events, factors, passkeys

WRONG = "wrong second factor"  # the reason in the trail


@dataclass(frozen=True)
class Proof:
    """What was shown: a code of an app or of the recovery codes, or what a passkey answered (JSON)."""

    code: str = ""
    answer: str = ""


def is_proved(request: HttpRequest, user: User, proof: Proof) -> bool:
    """Whether `proof` is right; used up by it. Counts as a try of the account's password does, by the same counter.

    When the account is locked nothing is evaluated, and whatever the view answers becomes the page of the lock.
    """
    if seconds := lockout.reserve(request, str(user.pk), user):
        lockout.refuse(request, user.username_canonical, seconds, reset_helps=False)
        return False
    if _is_right(request, user, proof):
        # The rest is forgiven by the login, if this is one: who is in already could guess the password without end.
        lockout.release(request)
        return True
    with auditlog.acting_as(reason=WRONG):
        user_login_failed.send(sender=__name__, credentials={"username": user.username}, request=request)
    return False


def _is_right(request: HttpRequest, user: User, proof: Proof) -> bool:
    if proof.answer:
        return passkeys.is_right(request.session, user, proof.answer)
    typed = "".join(proof.code.split())
    if typed.isascii() and typed.isdecimal() and len(typed) == 6:
        return events.use_code_of_app(factors.apps(user), typed)
    return events.use_recovery_code(user, typed)
