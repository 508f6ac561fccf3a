"""What can happen to an account: one function per event, one transaction per function.

Read from top to bottom, this is the list. Callers: forms, the admin, commands. Forms explain, these
functions check again, and the constraints of `models` make a wrong outcome impossible. The audit trail records each
change by itself; what is said here is why (`reason`), and what changes no row of its own.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import partial

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet, Value
from django.db.models.functions import Now
from django.utils import timezone

import auditlog
from accounts import (
    addresses,
    breaches,
    identity,
    invitations,
    jobs,
    life_cycle,
    links,
    lockout,
    preferences,
    roles,
    rules,
    sessions,
)
from accounts.errors import AccountError, Sorted
from accounts.models import AddressChange, ErasedName, LoginAttempt, ReservedUsername, User, UserState
from accounts.refusals import refusals
from accounts.second_factor import factors
from config.database import retry

_ENOUGH = 100  # rows that look like one name; more tell nothing new
_SIGNUP_KEYS = uuid.UUID("01a1fe20-0000-7000-8000-000000000000")  # any constant of our own


class SignUpOutcome(Enum):
    """How a signup ended. All three are answered alike: nobody learns which addresses have accounts."""

    CREATED = "created"
    REPEATED = "repeated"  # the same form again: a double click, a reload, a retry after a lost answer
    ADDRESS_KNOWN = "address_known"


@dataclass(frozen=True, kw_only=True)
class SignUp:
    """A signup form's content; `browser` is a secret that only the browser it came from holds.

    `invitation` is the token of an invitation's link, or "".
    """

    username: str
    email: str
    password: str
    full_name: str = ""
    browser: str
    invitation: str = ""

    @property
    def key(self) -> uuid.UUID:
        """The same for the same browser, name and address, and for nothing else."""
        name, email = identity.canonical_username(self.username), identity.canonical_email(self.email)
        return uuid.uuid5(_SIGNUP_KEYS, f"{self.browser}\n{name}\n{email}")


@auditlog.acting_as(reason="signup")
def sign_up(signup: SignUp) -> SignUpOutcome:
    """Let a stranger in: one user with roles, one use of the invitation, the mail to verify the address; or nothing.

    Raises AccountError (``signup_closed``, ``username_taken``, ``username_look_alike``,
    ``username_retired``, ``invitation_*``, ``inviter_lost_authority``) and ValidationError (shape, password policy).
    """
    if settings.SIGNUP_MODE == "closed" or (settings.SIGNUP_MODE == "invite" and not signup.invitation):
        raise AccountError("signup_closed")
    user = User(username=signup.username, email=signup.email, full_name=signup.full_name)
    user.signup_key = signup.key
    user.language = preferences.language_of_newcomer()
    identity.validate_email_domain(user.email)
    choose_password(user, signup.password)  # the slow part, so before the transaction
    # May be done twice: what an attempt has committed whose answer was lost, the next one finds by the user's id.
    return retry.run(partial(_sign_up, user, signup), idempotent=True)


def _sign_up(user: User, signup: SignUp) -> SignUpOutcome:
    try:
        with refusals(), transaction.atomic(durable=True):
            # Lock order: invitation, then user.
            use = invitations.take_use(signup.invitation, email=user.email) if signup.invitation else None
            _let_in(user, use)
    except AccountError as refusal:
        return _explain_refused_signup(user, refusal)
    return SignUpOutcome.CREATED


def _let_in(user: User, use: invitations.Use | None) -> None:
    """Insert a newcomer with roles, and note the invitation; an address that it was mailed to needs no other mail."""
    granted = use.roles if use else []
    user.is_staff = roles.is_staff_role(granted)
    user.email_verified_at = timezone.now() if use and use.proves_address else None
    _insert(user)
    roles.give(user, granted)
    if use:
        invitations.record_redemption(use.invitation, user)
    if user.email_verified_at is None:
        jobs.send_mail_to_user.enqueue("verify_email", str(user.pk))


def _explain_refused_signup(user: User, refusal: AccountError) -> SignUpOutcome:
    # The same form in the same instant breaks several constraints at once; its key tells what it is.
    twin = User.objects.filter(signup_key=user.signup_key).only("pk").first()
    if twin is not None:
        return SignUpOutcome.CREATED if twin.pk == user.pk else SignUpOutcome.REPEATED
    if refusal.field == "username":
        raise username_refusal(user) or refusal
    if refusal.code != "email_taken":
        raise refusal
    with transaction.atomic(durable=True):
        # The name is kept as if the account had been made: a name still free would tell that it was not.
        _name, new = ReservedUsername.objects.get_or_create(
            signup_key=user.signup_key,
            defaults={
                "username_canonical": identity.canonical_username(user.username),
                "username_skeleton": identity.username_skeleton(user.username),
                "reserved_until": timezone.now() + timedelta(days=settings.NAME_RESERVED_DAYS),
            },
        )
        if new:
            jobs.send_mail_to_address.enqueue("address_known", user.email)
    return SignUpOutcome.ADDRESS_KNOWN


def choose_password(user: User, password: str) -> None:
    """Give `user`, in memory, a new password that is nobody's by now, as far as can be known.

    Asks a network and hashes, so it comes before any transaction. Raises ValidationError: the policy,
    ``password_breached`` and ``password_used_before``.
    """
    breaches.require_unknown(password)
    user.set_password(password)


def add_user(user: User, *, acting_user: User | None) -> None:
    """An administrator or a command adds a colleague; without a password yet, a mail lets them choose one.

    The address counts as verified: whoever adds a colleague vouches for it. May be done again after a lost
    connection. Raises AccountError (also ``email_taken``) and ValidationError (shape).
    """
    user.email_verified_at = user.email_verified_at or timezone.now()
    if not user.password:
        user.set_password(None)
    try:
        with refusals(), transaction.atomic():
            _insert(user)
            roles.give(user, [])
            if not user.has_usable_password():
                jobs.send_mail_to_user.enqueue("set_password", str(user.pk))
    except AccountError:
        # Its own id is taken if an earlier attempt was committed and nobody was told.
        if not User.objects.filter(pk=user.pk).exists():
            raise


def _insert(user: User) -> None:
    """Insert one valid user inside the caller's transaction; raises ValidationError, IntegrityError."""
    user.clean()
    user.clean_fields(exclude=["password"])
    user.save(force_insert=True)


def unconfirmed_since(before: datetime) -> QuerySet[User]:
    """Return those who signed up before then and have neither confirmed their address nor ever signed in.

    Whom an administrator has added, edited into staff or shut out is none of them.
    """
    never_came = Q(email_verified_at=None, last_login=None, login_count=0)
    signed_up = Q(signup_key__isnull=False, is_staff=False, is_superuser=False, is_active=True, deleted_at=None)
    return User.objects.filter(never_came & signed_up, created_at__lt=before)


@auditlog.acting_as(reason="address not confirmed in time")
def delete_unconfirmed(users: QuerySet[User]) -> None:
    """Take accounts away that nobody has ever used (see `unconfirmed_since`); their names and addresses are free."""
    users.delete()


def save_user(user: User, *, changed: Collection[str], acting_user: User) -> None:
    """An administrator edits an account: the columns in `changed`, and no other, are written.

    The old name of a renamed one stays reserved for a while; a new address ends all sessions and must be confirmed
    before the next login; the old one is told. Raises AccountError as `add_user` does.
    """
    columns = {field.name for field in User._meta.concrete_fields} & set(changed)
    if not columns:
        return
    stored = User.objects.get(pk=user.pk)
    if stored.deleted_at is not None:
        raise AccountError("account_erased")
    wanted_active = user.is_active
    moved = identity.canonical_email(user.email) != stored.email_canonical
    if moved:
        user.email_verified_at = None
        columns.add("email_verified_at")
    with refusals(), transaction.atomic():
        with connection.cursor() as cursor:
            # Read by the trigger that reserves old names; without it, its own default of 90 days holds.
            cursor.execute(
                "SELECT set_config('gatehouse.name_reserved_for', %s, true)",
                [f"{settings.NAME_RESERVED_DAYS} days"],
            )
        # Only what was edited: a password changed or a login counted meanwhile must not be undone.
        user.save(update_fields=columns - {"is_active"})
        if "is_active" in columns:
            (life_cycle.restore if wanted_active else life_cycle.deactivate)(user, acting_user=acting_user)
        if moved:
            # Else those of the old address, asleep until the new one is confirmed, would go on then.
            sessions.end_all(user)
            addresses.moved_by_staff(user, old=stored)
            jobs.send_mail_to_user.enqueue("verify_email", str(user.pk))


def username_refusal(user: User) -> AccountError | None:
    """Return what would refuse this username now, or None; a kindness to forms, never the guarantee."""
    canonical, skeleton = identity.canonical_username(user.username), identity.username_skeleton(user.username)
    twins = User.objects.exclude(pk=user.pk)
    reserved = ReservedUsername.objects.filter(reserved_until__gt=Now()).exclude(holder=user.pk)
    if user.signup_key is not None:  # the same signup again is no twin of itself
        twins = twins.exclude(signup_key=user.signup_key)
        reserved = reserved.exclude(signup_key=user.signup_key)
    same_name, same_look = Q(username_canonical=canonical), Q(username_skeleton=skeleton)
    if not user.look_alike_approved:
        twins = twins.filter(same_name | same_look & Q(look_alike_approved=False))
        reserved = reserved.filter(same_name | same_look & Q(holder=None))
    else:
        twins, reserved = twins.filter(same_name), reserved.filter(same_name)
    erased = ErasedName.objects.filter(digest__in=identity.name_digests(user.username).split())
    # In one statement, for each costs a signup a round trip.
    names = twins.values_list("username_canonical", flat=True)[:_ENOUGH].union(erased.values_list(Value(canonical)))
    taken = set(names)
    kept = list(reserved.values_list("username_canonical", "holder")[:_ENOUGH])
    holders = [holder for name, holder in kept if name == canonical]
    if canonical in taken or None in holders:
        return AccountError("username_taken", "username")
    if holders:
        return AccountError("username_retired", "username")
    return AccountError("username_look_alike", "username") if taken or kept else None


def find_twin(user: User, refusal: AccountError) -> User | None:
    """Return the existing user on whose account `user` was refused, for those who may know it."""
    others = User.objects.exclude(pk=user.pk)
    twins = {
        "username_taken": Q(username_canonical=identity.canonical_username(user.username)),
        "username_look_alike": Q(username_skeleton=identity.username_skeleton(user.username)),
        "email_taken": Q(email_canonical=identity.canonical_email(user.email)),
    }
    return others.filter(twins[refusal.code]).first() if refusal.code in twins else None


def email_refusal(user: User) -> AccountError | None:
    """As `username_refusal`, for the address. For the admin only: a stranger must not learn it."""
    canonical = identity.canonical_email(user.email)
    twins = User.objects.exclude(pk=user.pk).filter(email_canonical=canonical)
    kept = AddressChange.objects.exclude(user=user.pk).filter(old_email_canonical=canonical, undo_until__gt=Now())
    return AccountError("email_taken", "email") if twins.exists() or kept.exists() else None


def send_verification(email: str) -> None:
    """Mail a new confirmation link to the owner of `email`, if there is one who still needs it."""
    jobs.send_mail_to_address.enqueue("verify_email", email)


@auditlog.acting_as(reason="e-mail address confirmed")
def verify_email(token: str) -> User:
    """Confirm the address that the token was mailed to; works once.

    Raises AccountError (``link_invalid``) when the token is used, expired, forged, or for an address that
    the account no longer has.
    """
    user_id, email_canonical = links.read_verification_token(token) or ("", "")
    with transaction.atomic():
        # One conditional statement: of two clicks at once, one confirms.
        confirmed = bool(user_id) and User.objects.filter(
            pk=user_id, email_canonical=email_canonical, email_verified_at=None, deleted_at=None
        ).update(email_verified_at=Now())
    if not confirmed:
        raise AccountError("link_invalid")
    return User.objects.get(pk=user_id)


def is_verified(token: str) -> bool:
    """Whether a token that is right and not too old has nothing left to confirm: its address is that already."""
    user_id, email_canonical = links.read_verification_token(token) or ("", "")
    if not user_id:
        return False
    owners = User.objects.filter(pk=user_id, email_canonical=email_canonical, deleted_at=None)
    return owners.filter(email_verified_at__isnull=False).exists()


def request_password_reset(email: str) -> None:
    """Mail a one-use link to the owner of `email`, if there is one."""
    jobs.send_mail_to_address.enqueue("password_reset", email)


@auditlog.acting_as(reason="password reset by a mailed link")
def reset_password(user: User, token: str, password: str) -> None:
    """Choose a new password by a mailed link, which also proves the address. Ends all sessions.

    Raises ValidationError (`choose_password`) and AccountError (``link_invalid``), also when the same link is used
    twice at once.
    """
    choose_password(user, password)
    with transaction.atomic():
        current = User.objects.select_for_update().get(pk=user.pk)
        # Look again under the lock: the token dies with the password that it replaces.
        if not default_token_generator.check_token(current, token):
            raise AccountError("link_invalid")
        current.password = user.password
        current.email_verified_at = current.email_verified_at or timezone.now()
        current.save(update_fields=["password", "email_verified_at"])
        sessions.end_all(current)
        # With a second factor the lock stays: whoever reads the mailbox could guess codes, a reset after every few.
        if not factors.is_on(current):
            lockout.forget(LoginAttempt.objects.filter(account=str(current.pk)))
        jobs.send_mail_to_user.enqueue("password_changed", str(user.pk))


@auditlog.acting_as(reason="own password changed")
def change_password(user: User, password: str, *, session_key: str = "") -> None:
    """Replace the signed-in user's own password. Ends all sessions but the one with `session_key`.

    Raises ValidationError (`choose_password`) and AccountError (``account_changed``). The caller has checked the old
    password by the hash that `user` carries, and renews the hash in that session.
    """
    checked = user.password
    choose_password(user, password)
    with transaction.atomic():
        # Look again under the lock: a reset, an undone address or an erasure meanwhile must not be overwritten.
        current = User.objects.select_for_update().get(pk=user.pk)
        if current.password != checked or not current.may_sign_in:
            raise AccountError("account_changed")
        user.save(update_fields=["password"])
        sessions.end_all(user, but=session_key)
        jobs.send_mail_to_user.enqueue("password_changed", str(user.pk))


PROFILE = ("full_name", "bio", "avatar_url", "time_zone", "language")


@auditlog.acting_as(reason="own profile edited")
def update_profile(user: User, *, version: int) -> None:
    """Save what people may say about themselves, if the row still has the version that they were shown.

    Raises AccountError (``changed_meanwhile``) unless it says the same already; nothing is written then.
    """
    said = {name: getattr(user, name) for name in PROFILE}
    with transaction.atomic():
        saved = User.objects.filter(pk=user.pk, version=version).update(**said)
        if not saved and not User.objects.filter(pk=user.pk, **said).exists():
            raise AccountError("changed_meanwhile")


_NO_LINK = {
    UserState.DEACTIVATED: "account_shut_out",
    UserState.SCHEDULED: "erasure_planned",
    UserState.ERASED: "account_erased",
}


def send_set_password_links(users: Iterable[User], *, acting_user: User) -> Sorted:
    """Mail each active user a one-use link to choose a new password; returns whom, and why not the others."""
    people = Sorted()
    for user in users:
        allowed = rules.may(acting_user, "send_password_link", user)
        people.add(user, _NO_LINK.get(user.state) if allowed else "person_above_own")
    with transaction.atomic():
        for user in people.done:
            # "An account was made for you" is for those who have never had a password.
            mail = "password_reset" if user.has_usable_password() else "set_password"
            jobs.send_mail_to_user.enqueue(mail, str(user.pk))
            auditlog.record("set_password_link_sent", user)
    return people


def unlock(*, account: str | None = None, network: str | None = None, acting_user: User | None) -> int:
    """Forget the tries for an account (see `lockout.account_of`), from a network, of both or, without either, all.

    Returns how many; whoever was locked by them is not any more.
    """
    given = {"account": account, "network": network}
    whose = {column: value for column, value in given.items() if value is not None}
    with transaction.atomic():
        forgotten = lockout.forget(LoginAttempt.objects.filter(**whose))
        if forgotten:
            _record_unlock(account, {"attempts": forgotten, "network": network})
    return forgotten


def _record_unlock(account: str | None, facts: dict[str, object]) -> None:
    user = None if account is None or lockout.is_nobodys(account) else User.objects.filter(pk=account).first()
    label = "" if account is None or user else lockout.recorded_name(account)
    new = {name: value for name, value in facts.items() if value is not None}
    auditlog.record("unlocked", user or "login", label=label, new=new)


def count_login(user: User, *, new_device: tuple[str, str] | None = None) -> None:
    """Note a successful login; its owner is told by mail of a `new_device` (its name, its address)."""
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(last_login=Now(), login_count=F("login_count") + 1)
        if new_device is not None:
            jobs.send_new_device.enqueue(str(user.pk), *new_device, timezone.now().isoformat())


def sign_out_everywhere(users: Iterable[User], *, acting_user: User) -> int:
    """An administrator ends all sessions of these people; returns how many sessions there were."""
    with transaction.atomic():
        return sum(sessions.end_all(user) for user in users)
