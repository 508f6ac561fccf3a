"""Where accounts, and Django's own apps, hold something personal, and how it goes when the person is erased.

Everything here runs inside the transaction of `life_cycle.erase`, and finds the same again when it is repeated. What
other apps hold they take out themselves (`life_cycle.on_erasure`).
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django_tasks_db.models import DBTaskResult

from accounts import csv_files, identity, links, lockout
from accounts.import_verdicts import LONGEST_WHO
from accounts.models import (
    AddressChange,
    DataExport,
    FormerPassword,
    Import,
    Invitation,
    LoginAttempt,
    Redemption,
    RequestedMail,
    ReservedUsername,
    Session,
    User,
)
from accounts.second_factor.models import AuthenticatorApp, Demand, Passkey, RecoveryCodes, RecoveryLink
from accounts.session_engine import SessionStore
from auditlog import reading
from auditlog.models import Record

NOBODY = "erased person"  # in place of names that others' rows hold; as it stands there, in no language
_READ_AT_ONCE = 500  # records


@dataclass(frozen=True)
class Known:
    """By what a person was ever known here, as far as the row and the trail tell: names and addresses as typed."""

    user: User
    usernames: frozenset[str]
    emails: frozenset[str]
    asked_for: frozenset[str]  # addresses that they wanted and never confirmed: perhaps somebody else's

    @classmethod
    def of(cls, user: User) -> Known:
        names, emails = {user.username}, {user.email}
        asked_for: set[str] = set()
        for change in user.address_changes.all():
            emails.add(change.old_email)
            (asked_for if change.confirmed_at is None else emails).add(change.new_email)
        for record in _history(user):
            for values in (record.before, record.after):
                names.add(values.get("username"))
                emails.add(values.get("email"))
        return cls(user, frozenset(filter(None, names)), frozenset(filter(None, emails)), frozenset(asked_for))

    @cached_property
    def canonical_usernames(self) -> set[str]:
        return {identity.canonical_username(name) for name in self.usernames}

    @cached_property
    def canonical_emails(self) -> set[str]:
        return {identity.canonical_email(email) for email in self.emails}

    @property
    def canonical_asked_for(self) -> set[str]:
        return {identity.canonical_email(email) for email in self.asked_for}

    @property
    def accounts(self) -> set[str]:
        """What tries to sign in counted for, before the name or address was theirs and after."""
        names = {lockout.name_of_nobody(name) for name in (*self.usernames, *self.emails)}
        return {str(self.user.pk), *names}

    @property
    def labels(self) -> set[str]:
        """What records are called that are about this person and about no object.

        Not the bare username: somebody could take that of a group or page, and erase what others' records are called.
        """
        fingerprints = {lockout.recorded_name(account) for account in self.accounts if lockout.is_nobodys(account)}
        return {*self.emails, *self.canonical_emails, *fingerprints}


def _history(user: User) -> Iterator[Any]:
    query = reading.of_object(User._meta.label_lower, str(user.pk))
    for records in reading.batches(query, _READ_AT_ONCE):
        yield from records


def forget(known: Known) -> list[models.Model]:
    """Take out all that is held here but the user's own row; returns the objects that are about the person."""
    about: list[models.Model] = [*_forget_invitations(known), *_forget_redemption(known)]
    about += ReservedUsername.objects.filter(holder=known.user)  # deleted by whoever reserves the names for ever
    about += _forget_changes_of_address(known)
    about += _forget_imports(known)
    about += _made_by(known.user, AddressChange, AuthenticatorApp, Passkey)
    for kept in (DataExport, FormerPassword, AuthenticatorApp, Passkey, RecoveryCodes, RecoveryLink, Demand):
        kept.objects.filter(user=known.user).delete()
    _forget_console([known.user, *about])
    _forget_jobs(known)
    LoginAttempt.objects.filter(account__in=known.accounts).delete()
    # Mails to an address that was only asked for are noted because of them, too.
    RequestedMail.objects.filter(email_canonical__in=known.canonical_emails | known.canonical_asked_for).delete()
    return about


def _forget_invitations(known: Known) -> list[Invitation]:
    """Those to the person lose address and note and open nothing any more, those by the person name and note."""
    to_them = list(Invitation.objects.filter(email_canonical__in=known.canonical_emails))
    by_them = list(Invitation.objects.filter(invited_by=known.user))
    received = Invitation.objects.filter(pk__in=[invitation.pk for invitation in to_them])
    received.filter(revoked_at=None, uses__lt=F("max_uses")).update(revoked_at=Now())  # or it would be for anybody
    received.update(email="", email_canonical="", note="")
    Invitation.objects.filter(pk__in=[invitation.pk for invitation in by_them]).update(invited_by_name=NOBODY, note="")
    return [*to_them, *by_them]


def _forget_redemption(known: Known) -> list[Redemption]:
    found = list(Redemption.objects.filter(user=known.user))
    Redemption.objects.filter(user=known.user).update(username=NOBODY)
    return found


def _forget_changes_of_address(known: Known) -> list[AddressChange]:
    """Theirs, and those of others who wanted an address of theirs and did not get it."""
    wanted = Q(new_email_canonical__in=known.canonical_emails) & ~Q(state=AddressChange.State.CONFIRMED)
    changes = AddressChange.objects.filter(Q(user=known.user) | wanted)
    found = list(changes)
    AddressChange.objects.filter(pk__in=[change.pk for change in found]).delete()
    return found


def _made_by(user: User, *kinds: type[models.Model]) -> list[models.Model]:
    """What of these kinds the person ever made, as the trail tells; most of it is gone, and its records are not."""
    resources = {kind._meta.label_lower: kind for kind in kinds}
    records = Record.objects.filter(actor_id=str(user.pk), action=Record.Action.CREATE, resource__in=resources)
    return [resources[resource](pk=key) for resource, key in records.values_list("resource", "object_id")]


def _forget_imports(known: Known) -> list[Import]:
    """The name of who began them; rows about the person; files that hold the person and are not written yet."""
    begun = list(Import.objects.filter(started_by=known.user).defer("content"))
    Import.objects.filter(pk__in=[each.pk for each in begun]).update(started_by_name=NOBODY, file_name="")
    for each in Import.objects.iterator(chunk_size=10):
        if _holds(each, known) or _others_in(each, known) != each.verdicts:
            _forget_in_import(each, known)
    return begun


def _forget_in_import(found: Import, known: Known) -> None:
    """Stop one whose file is needed yet, and take out what it says of the person; a batch may have added to that."""
    locked = Import.objects.select_for_update(no_key=True).filter(pk=found.pk).first()
    if locked is None:  # nobody keeps them for ever
        return
    changes: dict[str, Any] = {"verdicts": _others_in(locked, known)}
    if locked.ended_at is None:
        ended = {"state": Import.State.FAILED, "code": "import_person_erased", "ended_at": Now()}
        changes |= {**ended, "content": b""}
    Import.objects.filter(pk=found.pk).update(**changes)


def _holds(found: Import, known: Known) -> bool:
    """Whether the file has the name or address of the person in a cell for such; in rows that do not fit, in any."""
    if not found.content:
        return False
    for column, cell in csv_files.cells(io.BytesIO(found.content)):
        if column in ("username", "") and identity.canonical_username(cell.strip()) in known.canonical_usernames:
            return True
        if column in ("email", "") and identity.canonical_email(cell) in known.canonical_emails:
            return True
    return False


def _others_in(found: Import, known: Known) -> list[dict[str, Any]]:
    return [verdict for verdict in found.verdicts if not _is_called(verdict["who"], known)]


def _is_called(who: str, known: Known) -> bool:
    """Whether a verdict's cut name or address is one of theirs."""
    name, email = identity.canonical_username(who), identity.canonical_email(who)
    if name in known.canonical_usernames or email in known.canonical_emails:
        return True
    emails = (each.casefold() for each in (*known.emails, *known.canonical_emails))
    return len(who) == LONGEST_WHO and any(each.startswith(who.casefold()) for each in emails)


def _forget_console(things: list[models.Model]) -> None:
    """What the console's own log calls the person, and objects that bear their name or address."""
    for kind, several in groupby(things, type):
        entries = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(kind))
        ids = [str(thing.pk) for thing in several]
        entries.filter(object_id__in=ids).update(object_repr=NOBODY, change_message="")


def _forget_jobs(known: Known) -> None:
    """Addresses and devices in what jobs were asked with, and in what they failed with.

    A waiting mail then goes to nobody.
    """
    asked = DBTaskResult.objects.filter(task_path="accounts.jobs.send_mail_to_address")
    for pk, arguments in asked.values_list("pk", "args_kwargs").iterator():
        *mail, email = arguments["args"]
        if identity.canonical_email(email) in known.canonical_emails:
            DBTaskResult.objects.filter(pk=pk).update(args_kwargs={"args": [*mail, ""], "kwargs": {}}, traceback="")
    sign_ins = DBTaskResult.objects.filter(task_path="accounts.jobs.send_new_device")
    for job in sign_ins.filter(args_kwargs__args__0=str(known.user.pk)):
        user_id, _device, _address, at = job.args_kwargs["args"]
        blank = {"args": [user_id, "", "", at], "kwargs": {}}
        DBTaskResult.objects.filter(pk=job.pk).update(args_kwargs=blank, traceback="")
    words = Q()
    for email in {*known.emails, *known.canonical_emails, *known.asked_for, *known.canonical_asked_for}:
        words |= Q(traceback__icontains=email)
    DBTaskResult.objects.filter(words).update(traceback="")


def forget_links(user: User) -> None:
    """Delete the sessions of strangers that hold a link to confirm the user's address."""
    strangers = Session.objects.filter(user=None)
    holding = [each.pk for each in strangers.iterator() if _is_about(SessionStore().decode(each.data), user)]
    Session.objects.filter(pk__in=holding).delete()


def _is_about(session: dict[str, Any], user: User) -> bool:
    link = links.read_verification_token(str(session.get("_verify_email_token", "")))
    return link is not None and link[0] == str(user.pk)
