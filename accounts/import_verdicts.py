"""What an import thinks of each row: the verdicts, and the plans that come to them.

A plan looks at a batch of rows in a few statements and writes nothing. What it says is what would be done now; the
constraints of the database have the last word when it is done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from accounts import identity, invitations, role_changes, roles, rules
from accounts.csv_files import Row
from accounts.errors import AccountError, words_of
from accounts.models import AddressChange, ErasedName, ReservedUsername, User

OK, EXISTS, REFUSED = "ok", "exists", "refused"
LONGEST_WHO = 100  # characters of a name or address in a verdict
# What people read for a code that is no refusal: before anything is written, and after.
PLANNED = {"created": _("would be created"), "updated": _("would be changed"), "invited": _("would be invited")}
DONE = {"created": _("created"), "updated": _("changed"), "invited": _("invited")}
REASONS = {
    "exists": _("There is such a person already."),
    "open": _("There is an open invitation to this address already."),
    "twice": _("An earlier row says the same."),
}


@dataclass(frozen=True)
class Verdict:
    """What became, or would become, of one row: ``ok``, ``exists`` or ``refused``, with a code and words."""

    line: int
    who: str
    result: str
    code: str
    words: str = ""


def words_for(code: str, words: str, *, planned: bool) -> str:
    """Return what a verdict says to people; its result and code, for programs, are the same before and after."""
    return words or str(((PLANNED if planned else DONE) | REASONS).get(code, code))


def verdict(row: Row, result: str, code: str, words: str = "") -> Verdict:
    cells = row.loose if row.cells is None else row.cells
    who = _harmless(cells.get("username", "")) or _harmless(cells.get("email", ""))
    return Verdict(row.line, who, result, code, words)


def _harmless(cell: str) -> str:
    """Return the cell for a line on a terminal: bounded, and without what would steer it."""
    return "".join(letter for letter in cell if letter.isprintable())[:LONGEST_WHO]


def refusal_of(row: Row, refusal: ValidationError | AccountError) -> Verdict:
    if isinstance(refusal, AccountError):
        return verdict(row, REFUSED, refusal.code, str(refusal.message))
    return verdict(row, REFUSED, _first_code(refusal), words_of(refusal))


def _first_code(refusal: ValidationError) -> str:
    errors = refusal.error_dict.values() if hasattr(refusal, "error_dict") else [refusal.error_list]
    return str(next((error.code for several in errors for error in several if error.code), "invalid"))


@dataclass
class Memory:
    """Names and addresses of earlier rows that were (or, in a dry run, would be) let in."""

    names: dict[str, str] = field(default_factory=dict)  # canonical name -> canonical address
    addresses: set[str] = field(default_factory=set)
    looks: set[str] = field(default_factory=set)

    def keep(self, name: str, address: str, look: str) -> None:
        self.names[name] = address
        self.addresses.add(address)
        self.looks.add(look)


@dataclass
class Plan:
    """What a batch of rows comes to; `verdicts` by the number of the row."""

    verdicts: dict[int, Verdict] = field(default_factory=dict)
    new: dict[int, User] = field(default_factory=dict)
    renamed: list[User] = field(default_factory=list)
    roles: dict[UUID, set[int]] = field(default_factory=dict)
    held: dict[UUID, set[int]] = field(default_factory=dict)


class Roles:
    """The roles by their names, and which of them the acting user may hand out."""

    def __init__(self, acting_user: User | None) -> None:
        self.by_name = {group.name.lower(): group for group in Group.objects.all()}
        self._grantable = {
            group.pk for group in self.by_name.values() if rules.may(acting_user, "grant_roles", [group])
        }

    def named(self, cell: str) -> list[Group]:
        """Return the roles in a cell, between commas, semicolons or bars. Raises AccountError (``role_unknown``)."""
        names = [name.strip() for name in re.split(r"[,;|]", cell) if name.strip()]
        for name in names:
            if name.lower() not in self.by_name:
                raise AccountError("role_unknown", "roles", role=_harmless(name))
        return list({group.pk: group for name in names if (group := self.by_name[name.lower()])}.values())

    def require_grantable(self, groups: Iterable[Group]) -> None:
        if not {group.pk for group in groups} <= self._grantable:
            raise AccountError("role_above_own", "roles")


class PeoplePlanner:
    """Plans batches of rows that are people. The `memory` of a dry run is kept from one batch to the next.

    `locking` keeps those who exist as they are until the caller's transaction ends.
    """

    def __init__(self, acting_user: User | None, *, update: bool, locking: bool = False) -> None:
        self.acting_user, self.update, self.locking = acting_user, update, locking
        self.roles = Roles(acting_user)

    def plan(self, rows: Sequence[Row], memory: Memory) -> Plan:
        self.memory, self.result = memory, Plan()
        self._look_up([row.cells for row in rows if row.cells is not None])
        self.result.verdicts |= {row.number: guarded(self._plan, row) for row in rows}
        return self.result

    def _look_up(self, cells: list[dict[str, str]]) -> None:
        names = {identity.canonical_username(row["username"]) for row in cells}
        looks = {identity.username_skeleton(row["username"]) for row in cells}
        addresses = {identity.canonical_email(row["email"]) for row in cells}
        # Those who are here last: who comes in between is somebody that exists, and no reason to refuse the row.
        alike = User.objects.filter(username_skeleton__in=looks, look_alike_approved=False)
        self.looks = set(alike.values_list("username_skeleton", flat=True))
        reserved = ReservedUsername.objects.filter(reserved_until__gt=Now())
        kept = reserved.filter(Q(username_canonical__in=names) | Q(username_skeleton__in=looks, holder=None))
        self.kept = list(kept.values_list("username_canonical", "username_skeleton", "holder"))
        digests = {name: identity.name_digests(name).split() for name in names}
        erased = ErasedName.objects.filter(digest__in=[digest for several in digests.values() for digest in several])
        gone = set(erased.values_list("digest", flat=True))
        self.erased = {name for name, several in digests.items() if not gone.isdisjoint(several)}
        undoable = AddressChange.objects.filter(old_email_canonical__in=addresses, undo_until__gt=Now())
        self.kept_addresses = set(undoable.values_list("old_email_canonical", flat=True))
        found = User.objects.filter(Q(username_canonical__in=names) | Q(email_canonical__in=addresses))
        known = list(found.order_by("pk").select_for_update(no_key=True) if self.locking else found)
        self.by_name = {user.username_canonical: user for user in known}
        self.by_address = {user.email_canonical: user for user in known}
        if self.update:
            self.changes = rules.RoleChanges(self.acting_user, known)
            self.result.held = role_changes.roles_of([user.pk for user in known])

    def _plan(self, row: Row) -> Verdict:
        cells = _cells(row)
        name, address = identity.canonical_username(cells["username"]), identity.canonical_email(cells["email"])
        if self.memory.names.get(name) == address:
            return verdict(row, EXISTS, "twice")
        if (by_name := self.by_name.get(name)) or address in self.by_address:
            return self._plan_known(row, by_name, self.by_address.get(address))
        if self.update and bool(name) != bool(address):
            raise AccountError("row_nobody")
        user = User(username=cells["username"], email=cells["email"], full_name=cells.get("full_name", ""))
        user.clean()
        user.clean_fields(exclude=["password"])
        look = identity.username_skeleton(user.username)
        self._refuse_twins(name, address, look)
        granted = self.roles.named(cells.get("roles", ""))
        self.roles.require_grantable(granted)
        user.is_staff = roles.is_staff_role(granted)
        self.memory.keep(name, address, look)
        self.result.new[row.number] = user
        self.result.roles[user.pk] = {group.pk for group in granted}
        return verdict(row, OK, "created")

    def _refuse_twins(self, name: str, address: str, look: str) -> None:
        given_up = any(kept == name and holder is None for kept, _look, holder in self.kept)
        if given_up or name in self.memory.names or name in self.erased:
            raise AccountError("username_taken", "username")
        if address in self.memory.addresses or address in self.kept_addresses:
            raise AccountError("email_taken", "email")
        if any(kept == name for kept, _look, _holder in self.kept):
            raise AccountError("username_retired", "username")
        alike = any(kept == look and holder is None for _name, kept, holder in self.kept)
        if alike or look in self.looks or look in self.memory.looks:
            raise AccountError("username_look_alike", "username")

    def _plan_known(self, row: Row, by_name: User | None, by_address: User | None) -> Verdict:
        cells = _cells(row)
        named_by_one = (by_name is None and not cells["username"]) or (by_address is None and not cells["email"])
        if by_name != by_address and not (self.update and named_by_one):
            if by_name and by_address:
                raise AccountError("row_two_people")
            raise AccountError("username_taken" if by_name else "email_taken")
        user = by_name or by_address
        if user is None or not self.update:
            return verdict(row, EXISTS, "exists")
        return verdict(row, OK, "updated") if self._changes(user, cells) else verdict(row, EXISTS, "exists")

    def _changes(self, user: User, cells: dict[str, str]) -> bool:
        """Plan what the row changes about `user`: an empty cell changes nothing. Whether it changes anything."""
        held = self.result.roles.get(user.pk, self.result.held[user.pk])
        wanted = {group.pk for group in self.roles.named(cells.get("roles", ""))} or held
        full_name = cells.get("full_name") or user.full_name
        if wanted == held and full_name == user.full_name:
            return False
        groups = [group for group in self.roles.by_name.values() if group.pk in wanted ^ held]
        refusal = self.changes.refusal(user, groups)
        # Their own name people may change, their own roles nobody.
        if refusal and (groups or refusal.code != "own_roles"):
            raise refusal
        if full_name != user.full_name:
            user.full_name = full_name
            user.clean_fields(exclude=["password"])
            self.result.renamed.append(user)
        if groups:
            self.result.roles[user.pk] = wanted
        return True


def _cells(row: Row) -> dict[str, str]:
    if row.cells is None:
        raise AccountError("row_cells", found=row.found, wanted=row.wanted)
    return row.cells


class InvitationPlanner:
    """Plans batches of rows that are invitations; asks what `invitations` would refuse."""

    def __init__(self, acting_user: User | None) -> None:
        self.acting_user = acting_user
        self.roles = Roles(acting_user)
        self._wanted = 0
        self._over_quota: AccountError | None = None

    def look_up(self, rows: Sequence[Row]) -> None:
        cells = [row.cells for row in rows if row.cells is not None]
        emails = list({identity.canonical_email(each["email"]): each["email"] for each in cells}.values())
        self._open = invitations.open_among(emails)
        refusals = invitations.address_refusals(emails, acting_user=self.acting_user)
        self._refusals = {identity.canonical_email(email): refusal for email, refusal in refusals.items()}

    def plan(self, rows: Sequence[Row], memory: Memory) -> dict[int, Verdict]:
        self.look_up(rows)
        return {row.number: guarded(self._plan, row, memory) for row in rows}

    def _plan(self, row: Row, memory: Memory) -> Verdict:
        if found := self.known(row):
            return found
        email, terms = self.terms(row)
        invitations.check_terms(email, terms, acting_user=self.acting_user)
        address = identity.canonical_email(email)
        if address in memory.addresses:
            return verdict(row, EXISTS, "twice")
        self._over_quota = self._over_quota or invitations.quota_refusal(self._wanted + 1, self.acting_user)
        if self._over_quota:
            raise self._over_quota
        self._wanted += 1
        memory.addresses.add(address)
        return verdict(row, OK, "invited")

    def known(self, row: Row) -> Verdict | None:
        """Return the verdict that nothing is to be done. Raises what is against the address."""
        address = identity.canonical_email(_cells(row)["email"])
        if refusal := self._refusals.get(address):
            raise refusal
        return verdict(row, EXISTS, "open") if address in self._open else None

    def terms(self, row: Row) -> tuple[str, invitations.Terms]:
        """Return what the row asks for. Raises AccountError (``role_*``, ``row_*``)."""
        cells = _cells(row)
        granted = self.roles.named(cells.get("roles", ""))
        self.roles.require_grantable(granted)
        days = cells.get("expires_in_days", "")
        if days and not (re.fullmatch(r"[0-9]{1,3}", days) and 1 <= int(days) <= invitations.MOST_DAYS):
            raise AccountError("row_days")
        terms = invitations.Terms(roles=granted, note=cells.get("note", ""), days=int(days) if days else None)
        return cells["email"], terms


def guarded(look: Callable[..., Verdict], row: Row, *more: Any) -> Verdict:
    """Return the verdict that `look` comes to about a row, or that of its refusal."""
    try:
        return look(row, *more)
    except (ValidationError, AccountError) as refusal:
        return refusal_of(row, refusal)
