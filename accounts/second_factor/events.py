"""What can happen to a person's second factors: one function per event, one transaction per function.

Each is in the audit trail twice: as the change of its row, and as an event of the person, which they find among their
own activity. Each tells the owner by mail.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import datetime

from django.db import transaction
from django.db.models import F, Func, Value
from django.db.models.functions import Now

import auditlog
from accounts import jobs, links, rules
from accounts.errors import AccountError, Sorted
from accounts.models import User
from accounts.second_factor import encryption, factors, recovery_codes, totp
from accounts.second_factor.models import AuthenticatorApp, Factor, Passkey, RecoveryCodes, RecoveryLink
from config.database.locks import hold_until_commit

MOST_FACTORS = 20  # of one person


def _happened(event: str, user: User) -> None:
    """Record an event and tell the owner by the mail of the same name; in the caller's transaction."""
    auditlog.record(event, user)
    jobs.send_mail_to_user.enqueue(event, str(user.pk))


# Adding


@auditlog.acting_as(reason="second factor added")
def add_app(app: AuthenticatorApp, secret: str, code: str, *, acting_user: User) -> list[str]:
    """Let codes of `app`, of which `code` is one that it shows now, be a second factor of its user.

    Returns the recovery codes in clear when they were made with it, as with a person's first factor. Once added, the
    same `app` again changes nothing. Raises AccountError (``code_wrong``, ``second_factor_too_many``,
    ``account_changed``).
    """
    steps = totp.matching_steps(secret, code)
    if not steps:
        raise AccountError("code_wrong", "code")
    app.secret = encryption.encrypt(secret, about=_place_of(app))
    app.last_step = steps[-1]  # the code that was just seen lets nobody in
    return _add(app, acting_user)


@auditlog.acting_as(reason="second factor added")
def add_passkey(passkey: Passkey, *, acting_user: User) -> list[str]:
    """As `add_app`, for a passkey whose attestation was verified. Raises AccountError (also ``passkey_known``)."""
    return _add(passkey, acting_user)


def _add(factor: Factor, acting_user: User) -> list[str]:
    factor.user = acting_user
    with transaction.atomic():
        _hold(acting_user)
        _require_unchanged(acting_user)
        existing = factors.of(acting_user)
        if factor.pk in {each.pk for each in existing}:
            return []  # the same form again
        if len(existing) >= MOST_FACTORS:
            raise AccountError("second_factor_too_many")
        if isinstance(factor, Passkey) and Passkey.objects.filter(credential_id=factor.credential_id).exists():
            raise AccountError("passkey_known")
        _check_name(factor)
        factor.save(force_insert=True)
        _happened("second_factor_added", acting_user)
        return [] if factors.codes_left(acting_user) else _new_codes(acting_user)


def _hold(user: User) -> None:
    """Let nobody else change `user`'s factors until the commit: two first ones must not both make recovery codes."""
    hold_until_commit(f"second factor {user.pk}")


def _require_unchanged(user: User) -> None:
    """Lock the row of `user`, as whom a request acts, and look again: no factor for who was erased or shut out since.

    Nor when the password went: an undone change of address must not leave a factor of whoever made it.
    """
    current = User.objects.select_for_update().get(pk=user.pk)
    if current.password != user.password or not current.may_sign_in:
        raise AccountError("account_changed")


def _place_of(app: AuthenticatorApp) -> str:
    return f"authenticator app {app.pk}"


# Changing and removing


@auditlog.acting_as(reason="second factor renamed")
def rename(factor: Factor, name: str, *, acting_user: User) -> bool:
    """Call one of the own factors by another name; False when it was removed meanwhile. Raises ValidationError."""
    factor.name = name
    _check_name(factor)
    kinds = (AuthenticatorApp.objects, Passkey.objects)
    return any(kind.filter(pk=factor.pk, user=acting_user).update(name=name) for kind in kinds)


def _check_name(factor: Factor) -> None:
    factor.clean_fields(exclude=[field.name for field in factor._meta.fields if field.name != "name"])


@auditlog.acting_as(reason="second factor removed")
def remove(factor: Factor, *, acting_user: User) -> None:
    """Take one of the own factors away; with the last one, the recovery codes. The caller has seen a proof.

    Of two removals at the same time, one is recorded and mailed.
    """
    with transaction.atomic():
        _hold(acting_user)
        removed, _models = factor.delete()
        if not removed:
            return
        if not factors.is_on(acting_user):
            RecoveryCodes.objects.filter(user=acting_user).delete()
        _happened("second_factor_removed", acting_user)


@auditlog.acting_as(reason="recovery codes replaced")
def replace_codes(*, acting_user: User) -> list[str]:
    """Make new recovery codes and return them in clear, for the only time; the old ones are dead."""
    with transaction.atomic():
        _hold(acting_user)
        codes = _new_codes(acting_user)
        _happened("second_factor_codes_replaced", acting_user)
    return codes


def _new_codes(user: User) -> list[str]:
    codes = recovery_codes.new_codes()
    digests = [recovery_codes.digest(code, user.pk) for code in codes]
    RecoveryCodes.objects.update_or_create(user=user, defaults={"digests": digests, "made_at": Now()})
    return codes


def send_recovery_links(users: Iterable[User], *, acting_user: User) -> Sorted:
    """Mail a link to begin anew to those of `users` who have a second factor and whom `acting_user` may edit.

    Returns whom, and why not the others. A link ends the one before; nobody makes one for themselves.
    """
    chosen, people = list(users), Sorted()
    with transaction.atomic():
        whose = User.objects.filter(factors.has(), pk__in=[user.pk for user in chosen])
        having = set(whose.values_list("pk", flat=True))
        for user in chosen:
            people.add(user, _why_no_link(user, acting_user, has_factor=user.pk in having))
        for user in people.done:
            fresh = {"nonce": uuid.uuid4(), "made_at": Now()}
            RecoveryLink.objects.update_or_create(user=user, defaults=fresh)
            _happened("second_factor_recovery", user)
    return people


def _why_no_link(user: User, acting_user: User, *, has_factor: bool) -> str | None:
    if user.deleted_at is not None:
        return "account_erased"
    if user == acting_user:
        return "own_account"
    if not rules.may(acting_user, "recover_second_factor", user):
        return "person_above_own"
    if not has_factor:
        return "no_second_factor"
    return None if user.is_active else "account_shut_out"


def may_recover(user: User, token: str) -> bool:
    """Whether `token` is that of the newest link to `user`, for the password that they have."""
    link = RecoveryLink.objects.filter(user=user).first()
    return link is not None and links.is_recovery_token(token, user, link.nonce)


@auditlog.acting_as(reason="second factor recovered by a mailed link")
def recover(user: User, token: str) -> None:
    """Drop every second factor of `user`, who has shown the password, by the token of a mailed link; works once.

    Raises AccountError (``link_invalid``), also when it is used twice at once.
    """
    with transaction.atomic():
        _hold(user)
        # Look again under the lock: a token dies with its use, with the password and with a newer one.
        if not may_recover(User.objects.select_for_update().get(pk=user.pk), token):
            raise AccountError("link_invalid")
        RecoveryLink.objects.filter(user=user).delete()
        drop_all(user)
        _happened("second_factor_recovered", user)


def drop_all(user: User) -> None:
    """Take every second factor of `user` away, in the caller's transaction."""
    for held in (AuthenticatorApp.objects, Passkey.objects, RecoveryCodes.objects):
        held.filter(user=user).delete()


def drop_since(moment: datetime, user: User) -> None:
    """Take away what of `user`'s second factors was added or made since `moment`, in the caller's transaction."""
    held = (AuthenticatorApp.objects, Passkey.objects)
    if sum(factor.filter(user=user, created_at__gte=moment).delete()[0] for factor in held):
        auditlog.record("second_factor_removed", user)
    RecoveryLink.objects.filter(user=user, made_at__gte=moment).delete()
    codes = RecoveryCodes.objects.filter(user=user)
    (codes.filter(made_at__gte=moment) if factors.is_on(user) else codes).delete()


# Using up


def use_code_of_app(apps: Iterable[AuthenticatorApp], code: str) -> bool:
    """Whether one of `apps` shows `code` about now, and neither it nor a later one was used; uses it up."""
    return any(_use_code_of(app, code) for app in apps)


def _use_code_of(app: AuthenticatorApp, code: str) -> bool:
    secret = encryption.decrypt(app.secret, about=_place_of(app))
    if secret is None:
        return False
    for step in totp.matching_steps(secret, code):
        # One conditional statement: of two who show the same code at once, one is let in.
        if AuthenticatorApp.objects.filter(pk=app.pk, last_step__lt=step).update(last_step=step, last_used_at=Now()):
            _renew(app, secret)
            return True
    return False


@auditlog.acting_as(reason="the same secret, encrypted anew")
def _renew(app: AuthenticatorApp, secret: str) -> None:
    if encryption.is_stale(app.secret):
        # Only if it is what was read: of two at once, one renews it.
        unchanged = AuthenticatorApp.objects.filter(pk=app.pk, secret=app.secret)
        unchanged.update(secret=encryption.encrypt(secret, about=_place_of(app)))


@auditlog.acting_as(reason="recovery code used")
def use_recovery_code(user: User, code: str) -> bool:
    """Whether `code` is an unused recovery code of `user`; uses it up, and tells the owner."""
    if not recovery_codes.is_shaped(recovery_codes.normalised(code)):
        return False
    digest = recovery_codes.digest(code, user.pk)
    with transaction.atomic():
        # One conditional statement: whoever comes second finds the digest gone when the row is free again.
        codes = RecoveryCodes.objects.filter(user=user, digests__contains=[digest])
        if not codes.update(digests=Func(F("digests"), Value(digest), function="array_remove")):
            return False
        _happened("second_factor_code_used", user)
    return True
