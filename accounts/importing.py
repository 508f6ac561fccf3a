"""Imports people and invitations from a CSV file: looks, tells what would happen, and does it a batch at a time.

The page and the command enter here. A batch is one transaction that writes its rows and how far the import is, so that
an import which is killed goes on behind its last batch, and no row is written twice. Who is there already stays as they
are, so the same file may be imported again. ``docs/accounts.md`` has the columns.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import PurePath
from typing import BinaryIO
from uuid import UUID

import structlog
from django.core.exceptions import PermissionDenied
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from django.utils import timezone
from django_tasks import task

import auditlog
from accounts import csv_files, identity, invitations, jobs, rules
from accounts.csv_files import Row
from accounts.errors import AccountError
from accounts.import_verdicts import (
    EXISTS,
    OK,
    REFUSED,
    InvitationPlanner,
    Memory,
    PeoplePlanner,
    Plan,
    Verdict,
    guarded,
    refusal_of,
    verdict,
)
from accounts.models import Import, User
from accounts.role_changes import set_roles
from config.database import retry

log = structlog.get_logger("accounts.importing")

Kind, State = Import.Kind, Import.State
COLUMNS = {
    Kind.USERS: (("username", "email"), ("full_name", "roles")),
    Kind.INVITATIONS: (("email",), ("roles", "note", "expires_in_days")),
}
# Rows of one transaction. Invitations are few statements each, under a lock that all who invite wait for.
BATCH = {Kind.USERS: 1000, Kind.INVITATIONS: 50}
MOST_RACES = 5  # times that others may take a name between our look and our write


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is imported: `update` changes who exists already, `mail` sends newcomers a link to choose a password."""

    kind: str
    update: bool = False
    mail: bool = False


# Beginning


def survey(file: BinaryIO, options: Options, *, most: int | None = None) -> csv_files.Survey:
    """Look through the whole file; raises AccountError (``file_*``) with what is wrong with it."""
    required, optional = COLUMNS[Kind(options.kind)]
    return csv_files.survey(file, required=required, optional=optional, most=most)


def dry_run(file: BinaryIO, options: Options, *, acting_user: User | None) -> Iterator[list[Verdict]]:
    """Yield the verdicts, a batch at a time, of a file that was surveyed; nothing is written.

    Names of earlier rows are remembered, some hundred bytes a row: later ones may be their twins.
    """
    require_rights(options, acting_user)
    memory = Memory()
    planner = _planner(options, acting_user)
    for rows in _batches(file, options, after=0):
        planned = planner.plan(rows, memory)
        verdicts = planned.verdicts if isinstance(planned, Plan) else planned
        yield [verdicts[row.number] for row in rows]


def _planner(options: Options, acting_user: User | None) -> PeoplePlanner | InvitationPlanner:
    if options.kind == Kind.USERS:
        return PeoplePlanner(acting_user, update=options.update)
    return InvitationPlanner(acting_user)


def _batches(file: BinaryIO, options: Options, *, after: int) -> Iterator[list[Row]]:
    found = csv_files.rows(file, after=after)
    while batch := list(islice(found, BATCH[Kind(options.kind)])):
        yield batch


def require_rights(options: Options, acting_user: User | None) -> None:
    """Raise PermissionDenied unless `acting_user` may import so."""
    rules.require(acting_user, "import_users" if options.kind == Kind.USERS else "invite")
    if options.update:
        rules.require(acting_user, "update_by_import")


def check_upload(content: bytes, name: str, options: Options, *, most: int, acting_user: User) -> Import:
    """Keep a file that a page was sent, with the verdicts of a dry run, until somebody confirms it (`start`).

    Raises AccountError (``file_*``), PermissionDenied.
    """
    require_rights(options, acting_user)
    file = io.BytesIO(content)
    found = survey(file, options, most=most)
    verdicts = [asdict(each) for batch in dry_run(file, options, acting_user=acting_user) for each in batch]
    return Import.objects.create(
        **_facts(found, name, options, acting_user),
        state=State.CHECKED,
        content=content,
        verdicts=verdicts,
        counts=_counts(verdicts),
    )


def _facts(found: csv_files.Survey, name: str, options: Options, acting_user: User | None) -> dict[str, object]:
    shown = "".join(letter for letter in PurePath(name.replace("\\", "/")).name if letter.isprintable())
    return {
        "kind": options.kind,
        "file_name": shown[:200] or "people.csv",
        "sha256": found.sha256,
        "rows": found.rows,
        "update_existing": options.update,
        "send_mail": options.mail,
        "started_by": acting_user,
        "started_by_name": acting_user.username if acting_user else f"{invitations.shell_user()} (command)",
        "from_command": acting_user is None,
    }


def _counts(verdicts: Sequence[dict[str, object]]) -> dict[str, int]:
    counted = Counter(str(each["result"]) for each in verdicts)
    return {result: counted[result] for result in (OK, EXISTS, REFUSED)}


def start(import_id: UUID, *, acting_user: User) -> None:
    """Let the worker write what was checked. Raises AccountError (``import_*``), PermissionDenied."""
    with transaction.atomic():
        found = _waiting(import_id, acting_user)
        # The verdicts of the dry run give way to those of what is done.
        found.state, found.verdicts, found.counts = State.QUEUED, [], {}
        found.save(update_fields=["state", "verdicts", "counts"])
        write_import.enqueue(str(found.pk))


def discard(import_id: UUID, *, acting_user: User) -> None:
    """Throw away what was checked, file and verdicts. Raises AccountError (``import_*``), PermissionDenied."""
    with transaction.atomic():
        found = _waiting(import_id, acting_user)
        found.state, found.ended_at = State.DISCARDED, timezone.now()
        found.content, found.verdicts, found.counts = b"", [], {}
        found.save(update_fields=["state", "ended_at", "content", "verdicts", "counts"])
        log.info("import.ended", id=str(found.pk), state=found.state, code="")


def _waiting(import_id: UUID, acting_user: User) -> Import:
    """Lock and return an import that waits for a confirmation; only whoever may start it decides about it."""
    found = Import.objects.select_for_update().get(pk=import_id)
    rules.require(acting_user, "run_import", found)
    require_rights(_options(found), acting_user)
    if found.state != State.CHECKED:
        raise AccountError("import_discarded" if found.state == State.DISCARDED else "import_not_waiting")
    return found


def begin(file: BinaryIO, name: str, options: Options, *, acting_user: User | None, resume: bool = False) -> Import:
    """Begin to import a command's file, or go on with the same file where an import of it stopped (`resume`).

    Raises AccountError (``file_*``, ``import_none_to_resume``), PermissionDenied.
    """
    require_rights(options, acting_user)
    found = survey(file, options)
    facts = _facts(found, name, options, acting_user)
    if resume:
        same = {column: facts[column] for column in ("kind", "sha256", "update_existing", "send_mail", "started_by")}
        unfinished = Import.objects.filter(**same, ended_at=None, content=b"").order_by("-created_at").first()
        if unfinished is None:
            raise AccountError("import_none_to_resume")
        return unfinished
    return Import.objects.create(**facts, state=State.RUNNING)


# Writing


@task()
def write_import(import_id: str) -> None:
    """Write an import that a page began; one that was interrupted goes on where it stopped."""
    found = Import.objects.filter(pk=import_id, ended_at=None).exclude(state=State.CHECKED).first()
    if found is None:
        return
    with suppress(AccountError), auditlog.acting_as(found.started_by):  # the row says why it stopped
        for _verdicts in write(found, io.BytesIO(found.content), acting_user=found.started_by, keep_verdicts=True):
            pass


def write(
    found: Import, file: BinaryIO, *, acting_user: User | None, keep_verdicts: bool = False
) -> Iterator[list[Verdict]]:
    """Write the rows that are not written yet; yields the verdicts of each batch when it is committed.

    Raises AccountError: ``import_rights_lost`` when `acting_user` was demoted meanwhile, ``import_person_erased``.
    """
    options = _options(found)
    Import.objects.filter(pk=found.pk, state=State.QUEUED).update(state=State.RUNNING)
    for rows in _batches(file, options, after=found.position):
        # May be done twice: what was committed has moved the position.
        batch = partial(_write_batch, found.pk, rows, options, acting_user, keep_verdicts)
        try:
            with auditlog.acting_as(reason=f"import of {found.file_name}"):
                written = retry.run(batch, idempotent=True, patience=retry.BACKGROUND)
        except AccountError as refusal:
            _end(found, State.FAILED, code=refusal.code)
            raise
        yield written
    _end(found, State.DONE)


def _options(found: Import) -> Options:
    return Options(kind=found.kind, update=found.update_existing, mail=found.send_mail)


def _end(found: Import, state: str, code: str = "") -> None:
    # The file is needed no more, and is full of people.
    unended = Import.objects.filter(pk=found.pk, ended_at=None)
    if unended.update(state=state, code=code, ended_at=Now(), content=b""):
        log.info("import.ended", id=str(found.pk), state=str(state), code=code)


def _write_batch(
    import_id: UUID, rows: Sequence[Row], options: Options, acting_user: User | None, keep_verdicts: bool
) -> list[Verdict]:
    with transaction.atomic():
        found = Import.objects.select_for_update(no_key=True).defer("content").get(pk=import_id)
        if found.state == State.FAILED:
            raise AccountError(found.code)  # by somebody else, who has taken the file away (see `forgetting`)
        if found.position >= rows[-1].number:
            return []  # committed before, by an attempt that could not tell or by another process
        rows = [row for row in rows if row.number > found.position]
        acting_user = _still_entitled(options, found, acting_user)
        write_rows = _write_people if options.kind == Kind.USERS else _write_invitations
        by_number = write_rows(rows, options, acting_user)
        verdicts = [by_number[row.number] for row in rows]
        counted = Counter(found.counts) + Counter(each.result for each in verdicts)
        found.counts, found.position = dict(counted), rows[-1].number
        if keep_verdicts:
            found.verdicts = found.verdicts + [asdict(each) for each in verdicts]
        found.save(update_fields=["counts", "position", "verdicts"])
    return verdicts


def _still_entitled(options: Options, found: Import, acting_user: User | None) -> User | None:
    """Return the acting user as they are now: who was demoted meanwhile goes on no more."""
    if found.from_command:
        return None
    current = User.objects.filter(pk=acting_user.pk, deleted_at=None).first() if acting_user else None
    try:
        if current is None:
            raise AccountError("import_rights_lost")
        require_rights(options, current)
    except PermissionDenied as denied:
        raise AccountError("import_rights_lost") from denied
    return current


def _write_people(rows: Sequence[Row], options: Options, acting_user: User | None) -> dict[int, Verdict]:
    """Write what the plan says; whoever others let in between plan and write is planned anew."""
    verdicts: dict[int, Verdict] = {}
    memory = Memory()
    for _race in range(MOST_RACES):
        plan = PeoplePlanner(acting_user, update=options.update, locking=options.update).plan(rows, memory)
        raced = _write_plan(plan, options)
        verdicts |= {number: each for number, each in plan.verdicts.items() if number not in raced}
        rows = [row for row in rows if row.number in raced]
        if not rows:
            return verdicts
        memory = Memory()
    return verdicts | {row.number: refusal_of(row, AccountError("row_raced")) for row in rows}


def _write_plan(plan: Plan, options: Options) -> set[int]:
    """Write a plan in the caller's transaction; returns the numbers of the rows whose names others took meanwhile."""
    # In one order everywhere, so that two imports of the same people wait for each other instead of for both.
    new = sorted(plan.new.items(), key=lambda item: identity.canonical_username(item[1].username))
    made = _insert([user for _number, user in new])
    known = {pk: wanted for pk, wanted in plan.roles.items() if pk in plan.held or pk in made}
    set_roles({**{pk: set() for pk in made}, **plan.held}, known)
    User.objects.bulk_update(plan.renamed, ["full_name"])
    if options.mail:
        for _number, user in new:
            if user.pk in made:
                jobs.send_mail_to_user.enqueue("set_password", str(user.pk))
    return {number for number, user in new if user.pk not in made}


def _insert(people: list[User]) -> set[UUID]:
    """Insert these people, and return the ids of those whose names and addresses were free."""
    now = timezone.now()
    for user in people:
        user.set_password(None)
        user.email_verified_at = now  # whoever adds a colleague vouches for the address
    try:
        with transaction.atomic():
            User.objects.bulk_create(people, ignore_conflicts=True)
    except IntegrityError:  # a name was given up this moment, and its reservation says so by an error, for all of them
        for user in people:
            with suppress(IntegrityError), transaction.atomic():
                User.objects.bulk_create([user], ignore_conflicts=True)
    return set(User.objects.filter(pk__in=[user.pk for user in people]).values_list("pk", flat=True))


def _write_invitations(rows: Sequence[Row], options: Options, acting_user: User | None) -> dict[int, Verdict]:
    planner = InvitationPlanner(acting_user)
    planner.look_up(rows)

    def invite(row: Row) -> Verdict:
        if known := planner.known(row):
            return known
        email, terms = planner.terms(row)
        (made,) = invitations.invite_addresses([email], terms, acting_user=acting_user)
        return verdict(row, EXISTS, "open") if made.was_open else verdict(row, OK, "invited")

    return {row.number: guarded(invite, row) for row in rows}
