"""The figures of accounts, for the command, for pages and for programs: cheap at any size, and honest about it.

Each figure says whether it was counted or estimated. Other parts add their own by `register`, in `AppConfig.ready`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from operator import eq
from typing import Any, NamedTuple

from django.db.models import Count, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts import daily, funnel, lockout
from accounts.models import Invitation, LoginAttempt, SignupDay, User
from accounts.sampling import Sample, sample
from accounts.second_factor import factors
from accounts.second_factor.models import AuthenticatorApp, Passkey

COUNTED_UP_TO = 50_000  # rows of an index; from there on a sample tells
CHARTED = 30  # days
PERIODS = {"today": 1, "days_7": 7, "days_30": 30}
# Algorithm and cost, never what comes behind: that is the salt. Without regular expressions, which cost ten times more.
_KIND = """
CASE WHEN password = '' OR left(password, 1) = '!' THEN 'none'
WHEN left(password, 6) = 'bcrypt' THEN 'bcrypt_' || split_part(password, '$', 4)
WHEN left(password, 7) = 'argon2$' THEN split_part(password, '$', 2) || '_' || split_part(password, '$', 4)
WHEN left(password, 7) IN ('scrypt$', 'pbkdf2_')
    THEN split_part(password, '$', 1) || '_' || split_part(password, '$', 2)
ELSE 'other' END
"""
# By the index of each table on its user.
_HAS_FACTOR = " OR ".join(
    f"EXISTS (SELECT FROM {kind._meta.db_table} kept WHERE kept.user_id = {User._meta.db_table}.id)"
    for kind in (AuthenticatorApp, Passkey)
)
_UNKNOWN_COST = {"none": _("no password"), "other": _("another kind")}
Periods = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """`name` is for programs and stays, `label` for people.

    `value` is a number, a share from 0 to 1 (`is_share`), a number for each of `PERIODS`, or one for each day. Of what
    is `estimated`, the truth lies within `margin` of it, in 95 of 100 cases; None: nobody knows how far away.
    """

    name: str
    label: Any
    value: float | Periods | Mapping[date, int]
    is_share: bool = False
    estimated: bool = False
    margin: float | None = None

    def as_facts(self) -> dict[str, Any]:
        value = self.value
        if isinstance(value, Mapping):
            value = {str(key): number for key, number in value.items()}
        facts = {"value": value, "estimated": self.estimated}
        return facts | ({"margin": self.margin} if self.estimated else {})


@dataclass(frozen=True, kw_only=True)
class Section:
    """Figures that are asked for together."""

    name: str
    label: Any
    figures: Callable[[], Sequence[Figure]] = field(repr=False)


_sections: dict[str, Section] = {}


def register(name: str, label: Any, figures: Callable[[], Sequence[Figure]]) -> None:
    """Add a section; raises ValueError when another has its name.

    `figures` is asked each time anew, and must cost the database a tenth of a second at most on any size of the site.
    """
    if name in _sections:
        raise ValueError(f"There are figures called {name!r} already.")
    _sections[name] = Section(name=name, label=label, figures=figures)


def sections() -> dict[str, Section]:
    """Return every section by its name, in the order of registration."""
    return dict(_sections)


def take(only: Iterable[str] = ()) -> dict[str, Sequence[Figure]]:
    """Ask for all figures now, or for those of some sections, by the name of their section; people are sampled once."""
    token = _sampled.set([])
    try:
        return {name: _sections[name].figures() for name in only or _sections}
    finally:
        _sampled.reset(token)


def as_facts(taken: Mapping[str, Sequence[Figure]], at: datetime) -> dict[str, Any]:
    """Return what was taken as JSON can hold it; the names in it are what programs rely on."""
    facts: dict[str, Any] = {"at": at.astimezone(UTC).isoformat(timespec="seconds")}
    return facts | {name: {figure.name: figure.as_facts() for figure in figures} for name, figures in taken.items()}


def register_sections() -> None:
    register("users", _("Users"), users)
    register("signups", _("Signups"), signups)
    register("logins", _("Logins"), logins)
    register("second_factor", _("Second factor"), second_factor)
    register("passwords", _("Password hashes"), passwords)
    register("lockouts", _("Lock-outs"), lockouts)
    register("invitations", _("Invitations"), invitations)
    register("funnel", _("Invitations of 30 days"), invitation_funnel)


# People


class Person(NamedTuple):
    """What a sample of people tells of each; `kind` is how the password is hashed."""

    is_active: bool
    is_confirmed: bool
    is_kept: bool
    has_factor: bool
    kind: str


_PERSON = ["is_active", "email_verified_at IS NOT NULL", "deleted_at IS NULL", f"({_HAS_FACTOR})", _KIND]
_STATE_OF_PERSON = ["is_active", "false", "deleted_at IS NULL", "false", "''"]  # the rest takes most of the time
_sampled: ContextVar[list[Sample] | None] = ContextVar("sampled_people", default=None)


def _people() -> Sample:
    taken = _sampled.get()
    if taken:
        return taken[0]
    people = sample(User._meta.db_table, _PERSON)
    if taken is not None:
        taken.append(people)
    return people


def _who(test: Callable[[Person], bool]) -> Callable[..., bool]:
    return lambda *values: test(Person(*values))


def users() -> Sequence[Figure]:
    rows = _people()
    return [
        *_by_state(rows),
        _of_sample(
            "unconfirmed", _("not confirmed"), rows, _who(lambda person: person.is_kept and not person.is_confirmed)
        ),
        Figure(name="staff", label=_("staff"), value=User.objects.filter(is_staff=True).count()),
        Figure(name="superusers", label=_("superusers"), value=User.objects.filter(is_superuser=True).count()),
    ]


def users_by_state() -> Sequence[Figure]:
    """Return the first of `users`, in a third of the time: for a page that has more to ask."""
    return _by_state(sample(User._meta.db_table, _STATE_OF_PERSON))


def _by_state(rows: Sample) -> list[Figure]:
    deactivated = _counted(
        "deactivated",
        _("deactivated"),
        User.objects.filter(is_active=False, deleted_at=None),  # as their index has it
        rows,
        _who(lambda person: person.is_kept and not person.is_active),
    )
    tombstones = User.objects.filter(deleted_at__isnull=False)
    erased = _counted("erased", _("erased"), tombstones, rows, _who(lambda person: not person.is_kept))
    total = rows.rows - int(erased.value)  # type: ignore[arg-type]
    # Of a few weeks, and by an index; who is to be erased counts as nothing else, also when deactivated before.
    planned = User.objects.filter(erase_at__isnull=False).aggregate(
        all=Count("pk"), deactivated=Count("pk", filter=Q(is_active=False))
    )
    shut_out = max(0, int(deactivated.value) - planned["deactivated"])  # type: ignore[arg-type]
    return [
        Figure(name="total", label=_("total"), value=total, estimated=not rows.whole),
        Figure(name="active", label=_("active"), value=total - shut_out - planned["all"], estimated=not rows.whole),
        replace(deactivated, value=shut_out),
        Figure(name="scheduled", label=_("to be erased"), value=planned["all"]),
        erased,
    ]


def _counted(name: str, label: Any, found: QuerySet[Any], rows: Sample, of: Callable[..., bool]) -> Figure:
    """Count what an index finds; of very many a sample tells sooner."""
    count = found.order_by().values("pk")[: COUNTED_UP_TO + 1].count()
    if count > COUNTED_UP_TO:
        return _of_sample(name, label, rows, of)
    return Figure(name=name, label=label, value=count)


def _of_sample(name: str, label: Any, rows: Sample, of: Callable[..., bool]) -> Figure:
    share = rows.share(of)
    return Figure(
        name=name,
        label=label,
        value=round(share.value * rows.rows),
        estimated=not rows.whole,
        margin=None if rows.whole else round(share.margin * rows.rows),
    )


# Signups


def signups() -> Sequence[Figure]:
    days = signup_days(CHARTED)
    return [
        Figure(name="per_day", label=_("per day"), value={day.day: day.signups for day in days}),
        *(
            Figure(name=name, label=label, value=_over_periods(days, name))
            for name, label in (
                ("signups", _("made")),
                ("verified", _("confirmed")),
                ("invited", _("invited")),
                ("added", _("added")),
            )
        ),
    ]


def signup_days(days: int) -> list[SignupDay]:
    """Return the last `days`, oldest first and today included; also those on which nobody came."""
    today = _today()
    wanted = [today - timedelta(days=ago) for ago in reversed(range(days))]
    found = {one.day: one for one in SignupDay.objects.filter(day__gte=wanted[0], day__lte=today)}
    return [found.get(day) or SignupDay(day=day, signups=0, verified=0, added=0, invited=0) for day in wanted]


def _over_periods(days: Sequence[SignupDay], column: str) -> Periods:
    return {name: sum(getattr(day, column) for day in days[-length:]) for name, length in PERIODS.items()}


# Signing in


def logins() -> Sequence[Figure]:
    days = daily.events_since(_today() - timedelta(days=CHARTED))
    return [
        Figure(name="succeeded", label=_("succeeded"), value=_events("login", of=days)),
        Figure(name="failed", label=_("failed"), value=_events("login_failed", of=days)),
    ]


def _events(event: str, *, of: Mapping[date, Mapping[str, int]]) -> Periods:
    today = _today()
    return {
        name: sum(of.get(today - timedelta(days=ago), {}).get(event, 0) for ago in range(length))
        for name, length in PERIODS.items()
    }


def second_factor() -> Sequence[Figure]:
    rows = _people()
    share = rows.share(_who(lambda person: person.has_factor))
    staff = User.objects.filter(is_staff=True, is_active=True)
    protected = staff.filter(factors.has()).count()
    return [
        Figure(
            name="share",
            label=_("of all people"),
            value=share.value,
            is_share=True,
            estimated=not rows.whole,
            margin=None if rows.whole else share.margin,
        ),
        Figure(name="staff_share", label=_("of active staff"), value=protected / max(1, staff.count()), is_share=True),
        Figure(name="staff_without", label=_("active staff without"), value=staff.count() - protected),
    ]


def _today() -> date:
    return timezone.now().astimezone(UTC).date()


def lockouts() -> Sequence[Figure]:
    days = daily.events_since(_today() - timedelta(days=CHARTED))
    return [
        Figure(name="standing", label=_("accounts locked now"), value=accounts_locked()),
        Figure(name="begun", label=_("locks begun"), value=_events("locked_out", of=days)),
    ]


def accounts_locked() -> int:
    """Return for how many accounts, or names that nobody has, a lock stands now."""
    return lockout.locking(LoginAttempt.objects.all()).values("account").distinct().count()


def passwords() -> Sequence[Figure]:
    """Say how passwords are hashed, by algorithm and cost; of a large table from a sample."""
    rows = _people()
    shares = {
        kind: rows.share(_who(partial(_is_hashed, kind))) for kind in {Person(*one).kind for one in rows.values()}
    }
    return [
        Figure(
            name=kind,
            label=_kind(kind),
            value=share.value,
            is_share=True,
            estimated=not rows.whole,
            margin=None if rows.whole else share.margin,
        )
        for kind, share in sorted(shares.items(), key=lambda one: (-one[1].value, one[0]))
    ]


def _is_hashed(kind: str, person: Person) -> bool:
    return person.kind == kind


def _kind(name: str) -> Any:
    algorithm, _line, cost = name.rpartition("_")
    if name in _UNKNOWN_COST:
        return _UNKNOWN_COST[name]
    return f"{algorithm}, {_('work factor')} {cost}" if algorithm == "bcrypt" else f"{algorithm}, {cost}"


# Invitations


def invitations() -> Sequence[Figure]:
    """Count the invitations of all time by their state now."""
    rows = sample(Invitation._meta.db_table, [funnel.STATE])
    return [
        Figure(name="total", label=_("total"), value=rows.rows, estimated=not rows.whole),
        *(_of_sample(state.value, state.label, rows, partial(eq, state.value)) for state in Invitation.State),
    ]


def invitation_funnel() -> Sequence[Figure]:
    found = funnel.of_everybody(timezone.now() - timedelta(days=CHARTED))
    stages = found.stages
    return [
        Figure(name=stage, label=funnel.LABELS[stage], value=getattr(stages, stage), estimated=found.is_capped)
        for stage in funnel.LABELS
    ]
