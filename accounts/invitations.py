"""What can happen to an invitation: made, sent, sent again, given a new link, revoked, used, asked for anew.

As in `services`: one function per event, one transaction per function. `acting_user` None stands for whoever
runs a command. Lock order is always invitation, then user.
"""

from __future__ import annotations

import getpass
import os
import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

import auditlog
from accounts import identity, jobs, links, preferences, rules
from accounts.errors import AccountError
from accounts.models import Invitation, Opening, Redemption, User, UserState
from config.database.locks import hold_until_commit

log = structlog.get_logger("accounts.invitations")

PAUSE_BETWEEN_MAILS = timedelta(minutes=1)
MOST_DAYS = 365
PAUSE_BETWEEN_QUESTIONS = timedelta(days=1)

State = Invitation.State
Delivery = Invitation.Delivery


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What an invitation gives: to a `domain` or ("") anybody, how often, for how many days, with which roles."""

    domain: str = ""
    max_uses: int = 1
    days: int | None = None  # None: INVITATION_DAYS
    roles: Collection[Group] = ()
    note: str = ""


def invite_addresses(emails: Sequence[str], terms: Terms, *, acting_user: User | None) -> list[Invitation]:
    """Invite every address by mail, or none of them; returns an invitation for each, in order.

    One that is open already is sent again as it is (`was_open`), so that the same list can be sent twice. Raises
    ValidationError (shape), AccountError (``role_above_own``, ``invitations_closed``, ``quota_*``, ``email_taken``).
    """
    _require_rights(terms.roles, acting_user)
    for refusal in address_refusals(emails, acting_user=acting_user).values():
        raise refusal
    with transaction.atomic():
        _require_quota(len(emails), acting_user)
        return [_invite_address(email, terms, acting_user) for email in emails]


def make_links(count: int, terms: Terms, *, acting_user: User | None) -> list[Invitation]:
    """Make `count` invitations that are handed over as links. Raises as `invite_addresses` does."""
    _require_rights(terms.roles, acting_user)
    made = [_new(terms, acting_user) for _number in range(count)]
    with transaction.atomic():
        _require_quota(count, acting_user)
        _insert(made, terms.roles, acting_user)
    return made


def _invite_address(email: str, terms: Terms, acting_user: User | None) -> Invitation:
    unused = Q(revoked_at=None, lapsed_at=None, uses__lt=F("max_uses"))
    waiting = Invitation.objects.filter(unused, email_canonical=identity.canonical_email(email))
    earlier = waiting.select_for_update().first()
    # One that lets nobody in any more must not keep others from inviting the same address.
    if earlier is not None and earlier.state == State.OPEN and has_authority(earlier):
        earlier.was_open = True
        # Whoever could not send it themselves does not make it go out by inviting again.
        may = rules.may(acting_user, "send_invitation", earlier)
        with auditlog.acting_as(reason="invited again"):
            return _send_again(earlier, acting_user) if may and _is_due(earlier) else earlier
    if earlier is not None:
        Invitation.objects.filter(pk=earlier.pk).update(lapsed_at=Now())
    invitation = _new(terms, acting_user, email=email)
    _insert([invitation], terms.roles, acting_user)
    jobs.send_invitation.enqueue(str(invitation.pk), preferences.language_of_guests(acting_user))
    return invitation


def _new(terms: Terms, acting_user: User | None, *, email: str = "") -> Invitation:
    days = settings.INVITATION_DAYS if terms.days is None else terms.days
    if terms.domain:
        identity.validate_email_domain(f"somebody@{identity.canonical_domain(terms.domain)}")
    invitation = Invitation(
        email=email.strip(),
        domain=identity.canonical_domain(terms.domain),
        max_uses=1 if email else terms.max_uses,
        note=terms.note,
        invited_by=acting_user,
        invited_by_name=acting_user.username if acting_user else f"{shell_user()} (command)",
        from_command=acting_user is None,
        lifetime_days=days,
        expires_at=timezone.now() + timedelta(days=days),
    )
    if email:
        invitation.delivery, invitation.sent_at = Delivery.QUEUED, timezone.now()
    invitation.clean_fields()
    return invitation


def shell_user() -> str:
    """The name of whoever runs a command, as the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return str(os.getuid())


def _insert(made: list[Invitation], granted: Collection[Group], acting_user: User | None) -> None:
    Invitation.objects.bulk_create(made, batch_size=1000)
    row = Invitation.roles.through
    row.objects.bulk_create(
        [row(invitation=invitation, group=group) for invitation in made for group in granted], batch_size=1000
    )


def address_refusals(emails: Sequence[str], *, acting_user: User | None) -> dict[str, ValidationError | AccountError]:
    """Return what would refuse to invite these addresses. For forms and commands, and checked again."""
    refusals: dict[str, ValidationError | AccountError] = {}
    refusals |= {email: refusal for email in emails if (refusal := _shape_refusal(email))}
    # Only who sees the users anyway may learn which addresses have accounts.
    if rules.may(acting_user, "see_user"):
        canonical = {identity.canonical_email(email): email for email in emails if email not in refusals}
        known = User.objects.filter(email_canonical__in=canonical).values_list("email_canonical", flat=True)
        refusals |= {canonical[email]: AccountError("email_taken", "emails") for email in known}
    return {email: refusals[email] for email in emails if email in refusals}


def open_among(emails: Iterable[str]) -> set[str]:
    """Return the canonical addresses among `emails` to which an invitation is open that still lets them in."""
    waiting = Invitation.objects.in_state(State.OPEN).select_related("invited_by").prefetch_related("roles")
    found = waiting.filter(email_canonical__in=[identity.canonical_email(email) for email in emails])
    return {invitation.email_canonical for invitation in found if has_authority(invitation)}


def check_terms(email: str, terms: Terms, *, acting_user: User | None) -> None:
    """Raise what `invite_addresses` would about the `terms` of an invitation to `email`; makes nothing."""
    _require_rights(terms.roles, acting_user)
    _new(terms, acting_user, email=email)


def _shape_refusal(email: str) -> ValidationError | None:
    try:
        identity.validate_email_address(email.strip())
        identity.validate_email_domain(email)
    except ValidationError as error:
        return error
    return None


def _require_rights(granted: Collection[Group], acting_user: User | None) -> None:
    if settings.SIGNUP_MODE == "closed":
        raise AccountError("invitations_closed")
    if not rules.may(acting_user, "grant_roles", granted):
        raise AccountError("role_above_own", "roles")


def _require_quota(wanted: int, acting_user: User | None) -> None:
    """Count under the lock under which all invitations are made, which ends with the transaction."""
    hold_until_commit("invitations")
    if refusal := quota_refusal(wanted, acting_user):
        raise refusal


def quota_refusal(wanted: int, acting_user: User | None) -> AccountError | None:
    """Return what would refuse to make so many invitations now. For dry runs, and checked again under a lock."""
    if acting_user is None:
        return None
    today = Invitation.objects.filter(created_at__gt=Now() - timedelta(days=1), from_command=False)
    for code, made, limit in (
        ("quota_of_inviter", today.filter(invited_by=acting_user), settings.INVITATIONS_PER_DAY),
        ("quota_of_site", today, settings.INVITATIONS_PER_DAY_OF_SITE),
    ):
        left = limit - made[:limit].count()
        if wanted > left:
            return AccountError(code, left=left, wanted=wanted, limit=limit)
    return None


@auditlog.acting_as(reason="sent again")
def resend(invitation_id: uuid.UUID, *, acting_user: User | None) -> Invitation:
    """Send the same link again and open it for its lifetime from now, unless it is open for longer.

    Raises PermissionDenied, and AccountError: ``invitation_used``, ``invitation_revoked``,
    ``invitation_followed``, ``invitation_sent_recently``, ``inviter_lost_authority``.
    """
    with transaction.atomic():
        invitation = _locked(invitation_id)
        rules.require(acting_user, "send_invitation", invitation)
        _require_sendable(invitation)
        return _send_again(invitation, acting_user)


@auditlog.acting_as(reason="given a new link")
def replace(invitation_id: uuid.UUID, *, acting_user: User | None) -> Invitation:
    """Give the invitation a new link, which ends the old one, and send it. Raises as `resend` does."""
    with transaction.atomic():
        invitation = _locked(invitation_id)
        rules.require(acting_user, "replace_invitation", invitation)
        _require_sendable(invitation)
        invitation.nonce = uuid.uuid4()
        return _send_again(invitation, acting_user, also=["nonce"])


@auditlog.acting_as(reason="revoked")
def revoke(invitation_id: uuid.UUID, *, acting_user: User | None) -> Invitation:
    """End an invitation; who opens its link then sees what a stranger's guess sees.

    Raises PermissionDenied, and AccountError: ``invitation_used``, ``invitation_revoked``.
    """
    with transaction.atomic():
        invitation = _locked(invitation_id)
        rules.require(acting_user, "revoke_invitation", invitation)
        if invitation.state in (State.USED, State.REVOKED):
            raise AccountError(f"invitation_{invitation.state}")
        Invitation.objects.filter(pk=invitation.pk).update(revoked_at=Now())
    return Invitation.objects.get(pk=invitation.pk)


def _locked(invitation_id: uuid.UUID) -> Invitation:
    return Invitation.objects.select_for_update().get(pk=invitation_id)


def _is_due(invitation: Invitation) -> bool:
    """Whether a mail may go out: not when one did a moment ago (a double click, a list sent twice)."""
    return invitation.sent_at is None or timezone.now() - invitation.sent_at > PAUSE_BETWEEN_MAILS


def _require_sendable(invitation: Invitation) -> None:
    if invitation.state in (State.USED, State.REVOKED):
        raise AccountError(f"invitation_{invitation.state}")
    if invitation.lapsed_at is not None:
        raise AccountError("invitation_followed")
    _require_authority(invitation)
    if not _is_due(invitation):
        raise AccountError("invitation_sent_recently")


def _send_again(invitation: Invitation, acting_user: User | None, also: Sequence[str] = ()) -> Invitation:
    """Extend inside the caller's transaction, which has locked the row and changed the columns `also`.

    Queue a mail if there is an address to send it to.
    """
    lifetime = timedelta(days=invitation.lifetime_days)
    invitation.expires_at = max(invitation.expires_at, timezone.now() + lifetime)
    invitation.asked_at = None
    if invitation.email:
        invitation.delivery, invitation.sent_at = Delivery.QUEUED, timezone.now()
        jobs.send_invitation.enqueue(str(invitation.pk), preferences.language_of_guests(acting_user))
    invitation.save(update_fields=["expires_at", "asked_at", "delivery", "sent_at", *also])
    return invitation


def find(token: str) -> Invitation:
    """Return the invitation of a link, whatever its state.

    Raises AccountError (``invitation_invalid``) alike for a forged, replaced, unknown and revoked one.
    """
    link = links.read_invitation_token(token)
    all_made = Invitation.objects.select_related("invited_by")
    found = all_made.filter(pk=link.invitation_id, nonce=link.nonce).first() if link else None
    if found is None or found.state == State.REVOKED:
        raise AccountError("invitation_invalid")
    return found


def note_opening(token: str) -> None:
    """Note that a person is at the page behind the link, the first time; the invitation itself stays as it was.

    For POST only: programs that follow links before people do send none. A link that opens nothing is no error.
    """
    link = links.read_invitation_token(token)
    if link is None:
        return
    usable = Invitation.objects.in_state(State.OPEN).filter(pk=link.invitation_id, nonce=link.nonce)
    with transaction.atomic():
        invitation = usable.first()
        if invitation is not None and Opening.objects.get_or_create(invitation=invitation)[1]:
            auditlog.record("opened", invitation)


def proves_address(token: str) -> bool:
    """Whether the link was made for a mail to the one address that the invitation is for."""
    link = links.read_invitation_token(token)
    return link is not None and link.mailed


def require_open(invitation: Invitation) -> None:
    """Raise AccountError (``invitation_used``, ``_expired``, ``inviter_lost_authority``) if it lets nobody in."""
    if invitation.state != State.OPEN:
        raise AccountError(f"invitation_{invitation.state}")
    _require_authority(invitation)


@dataclass(frozen=True, kw_only=True)
class Use:
    """One use of an invitation; `proves_address` when its link came to the address by our own mail."""

    invitation: Invitation
    roles: list[Group]
    proves_address: bool


def take_use(token: str, *, email: str) -> Use:
    """Take one use for `email` inside the caller's transaction; rolled back, the use is given back.

    The update itself decides, so that any number at once cannot take more than there are. Raises AccountError:
    as `find` and `require_open`, ``invitation_other_address``, ``invitation_other_domain``.
    """
    link = links.read_invitation_token(token)
    if link is None:
        raise AccountError("invitation_invalid")
    canonical = identity.canonical_email(email)
    usable = Invitation.objects.in_state(State.OPEN).filter(pk=link.invitation_id, nonce=link.nonce)
    meant = usable.filter(email_canonical__in=["", canonical], domain__in=["", canonical.rpartition("@")[2]])
    if not meant.update(uses=F("uses") + 1):
        found = find(token)
        require_open(found)
        code = "invitation_other_domain" if found.domain else "invitation_other_address"
        raise AccountError(code, "email", domain=found.domain)
    # Read under the row's lock: the inviter may have been demoted while others were ahead of us.
    invitation = Invitation.objects.select_related("invited_by").get(pk=link.invitation_id)
    _require_authority(invitation)
    return Use(invitation=invitation, roles=list(invitation.roles.all()), proves_address=link.mailed)


def record_redemption(invitation: Invitation, user: User) -> None:
    """Note inside the caller's transaction who came in by it."""
    Redemption.objects.create(invitation=invitation, user=user, username=user.username)


def has_authority(invitation: Invitation) -> bool:
    """Whether whoever invited may (still) let people in with these roles."""
    if invitation.from_command:
        return True
    inviter = invitation.invited_by
    return (
        inviter is not None
        and inviter.state == UserState.ACTIVE
        and rules.may(inviter, "invite")
        and rules.may(inviter, "grant_roles", invitation.roles.all())
    )


def _require_authority(invitation: Invitation) -> None:
    if not has_authority(invitation):
        log.warning("invitation.without_authority", id=str(invitation.pk), inviter=str(invitation.invited_by_id))
        raise AccountError("inviter_lost_authority")


@auditlog.acting_as(reason="its holder asks for a new one")
def ask_for_new(token: str) -> None:
    """Tell the inviter of an expired invitation, at most once a day, that a new one is wished for.

    Raises AccountError (``invitation_invalid``) unless there is somebody to ask.
    """
    invitation = find(token)
    if not can_be_asked(invitation):
        raise AccountError("invitation_invalid")
    with transaction.atomic():
        not_lately = Q(asked_at=None) | Q(asked_at__lt=Now() - PAUSE_BETWEEN_QUESTIONS)
        if Invitation.objects.filter(not_lately, pk=invitation.pk).update(asked_at=Now()):
            jobs.send_invitation_asked.enqueue(str(invitation.pk))


def can_be_asked(invitation: Invitation) -> bool:
    """Whether it is expired, no newer one followed it, and its inviter is still there to send it again."""
    unfollowed = invitation.state == State.EXPIRED and invitation.lapsed_at is None
    return unfollowed and not invitation.from_command and has_authority(invitation)


def visible_to(user: User) -> QuerySet[Invitation]:
    """Return the invitations that `user` may see (rule ``see_invitation``), as a set."""
    everything = Invitation.objects.select_related("invited_by").prefetch_related("roles")
    return everything if user.has_perm("accounts.view_invitation") else everything.filter(invited_by=user)
