"""The first page of the console: what happened in the last days, and how things are.

A figure is shown to those who may open the list that explains it, and leads there. Nothing here reads a whole table:
days are counted as they pass, people and records are estimated by the server, the rest is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from math import floor, log10
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from accounts import daily, funnel, stats
from accounts.figures_page import days_asked
from accounts.funnel import Funnel
from auditlog import partitions
from healthcheck import history
from healthcheck.history import Day
from healthcheck.overall import Finding, Report, overall
from healthcheck.results import Status

RANGES = (7, 30, 90)  # days
USUAL = 30
DAY = _("Day (UTC)")
Steps = Sequence[int | None]


@dataclass(frozen=True)
class Span:
    """The last `days` days of UTC, today included."""

    days: int
    today: date

    @property
    def first(self) -> date:
        return self.today - timedelta(days=self.days - 1)

    @property
    def since(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def every(self) -> list[date]:
        return [self.first + timedelta(days=number) for number in range(self.days)]


@dataclass(frozen=True, kw_only=True)
class Number:
    """`address` is of the list that explains it. `value` None: nobody has counted yet.

    `steps` are its parts, to be drawn; None: not counted.
    """

    name: str
    label: Any
    value: int | None
    address: str
    estimated: bool = False
    note: Any = ""
    steps: Steps = ()

    @property
    def shown(self) -> int:
        value = self.value or 0
        return _three_digits(value) if self.estimated else value


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Figures about one thing. What is drawn of them has one step for each of `dates`."""

    name: str
    title: Any
    numbers: Sequence[Number]
    dates: Sequence[date] = ()
    step: Any = ""
    funnel: Funnel | None = None
    nobody_yet: bool = False

    @property
    def drawn(self) -> list[Number]:
        return [number for number in self.numbers if number.steps]

    @property
    def table(self) -> Sequence[tuple[date, Steps]]:
        """What is drawn, by date, the newest first."""
        rows = zip(*(number.steps for number in self.drawn), strict=True)
        return list(zip(self.dates, rows, strict=True))[::-1]


@dataclass(frozen=True)
class Health:
    """The last readings, and as much of the past days as is kept and asked for."""

    report: Report
    days: Sequence[Day]

    @property
    def bad(self) -> list[Finding]:
        return [finding for finding in self.report.findings if finding.status is not Status.PASS]


def dashboard(request: HttpRequest) -> dict[str, Any]:
    """Return the context of the page, with what the viewer may see of it for the days that the address names."""
    may: Callable[[str], bool] = request.user.has_perm
    span = Span(days_asked(request, RANGES, USUAL), timezone.now().astimezone(UTC).date())
    return {
        "ranges": RANGES,
        "days": span.days,
        "panels": list(_panels(may, span)),
        "health": _health(span) if may("healthcheck.view_health") else None,
    }


def _panels(may: Callable[[str], bool], span: Span) -> Iterator[Panel]:
    if may("accounts.view_user"):
        yield _people(span)
    if numbers := list(_signing_in(may, span)):
        yield Panel(name="logins", title=_("Signing in"), numbers=numbers, dates=span.every, step=DAY)
    if may("accounts.view_invitation"):
        yield _invitations(span)
    if may("auditlog.view_record"):
        yield _trail(span)


def _list(name: str, **asked: str) -> str:
    return f"{reverse(f'admin:{name}_changelist')}?{urlencode(asked)}"


# Panels


def _people(span: Span) -> Panel:
    figures = {figure.name: figure for figure in stats.users_by_state()}
    made = [day.signups for day in stats.signup_days(2 * span.days)]
    active = figures["active"]
    return Panel(
        name="people",
        title=_("People"),
        numbers=[
            _counted(
                "signups",
                _("New people"),
                made,
                # As PostgreSQL writes it: a date alone would be read in the viewer's zone.
                _list("accounts_user", created_at__gte=f"{span.since}"),
            ),
            Number(
                name="active",
                label=_("Active people"),
                value=int(active.value),  # type: ignore[arg-type]
                estimated=active.estimated,
                address=_list("accounts_user", state="active"),
                note=_("may sign in now"),
            ),
        ],
        dates=span.every,
        step=DAY,
        nobody_yet=int(figures["total"].value) <= 1,  # type: ignore[arg-type]  # whoever looks
    )


def _signing_in(may: Callable[[str], bool], span: Span) -> Iterator[Number]:
    if may("auditlog.view_record"):
        first = span.first - timedelta(days=span.days)
        found = daily.events_since(first)
        dates = [first + timedelta(days=number) for number in range(2 * span.days)]
        for event, label in (
            ("login", _("Logins")),
            ("login_failed", _("Failed logins")),
            ("locked_out", _("Lock-outs begun")),
        ):
            address = _list("auditlog_record", action=event, since=_moment(span.since))
            yield _counted(event, label, [found.get(day, {}).get(event, 0) for day in dates], address)
    if may("accounts.view_loginattempt"):
        yield Number(
            name="locked",
            label=_("Accounts locked now"),
            value=stats.accounts_locked(),
            address=_list("accounts_loginattempt", locked="yes"),
        )


def _invitations(span: Span) -> Panel:
    found = funnel.of_everybody(timezone.now() - timedelta(days=span.days))
    address = f"{reverse('admin:accounts_invitation_figures')}?days={span.days}"
    stages = found.stages
    return Panel(
        name="invitations",
        title=_("Invitations"),
        numbers=[
            Number(
                name="made",
                label=_("Invitations made"),
                value=stages.made,
                address=address,
                note=_("only the newest are looked at") if found.is_capped else "",
            ),
            Number(name="came", label=_("People who came in by them"), value=stages.people, address=address),
        ],
        funnel=found,
    )


def _trail(span: Span) -> Panel:
    """Whole weeks, as the trail is kept in."""
    weeks = [week for week in partitions.every() if week.closes > span.since and week.opens <= timezone.now()]
    counts = [None if week.records is None else _three_digits(week.records) for week in weeks]
    known = [count for count in counts if count is not None]
    size = sum(week.bytes or 0 for week in weeks)
    since = weeks[0].opens if weeks else span.since
    return Panel(
        name="trail",
        title=_("Audit trail"),
        numbers=[
            Number(
                name="records",
                label=_("Records"),
                value=sum(known) if known else None,
                estimated=True,
                address=_list("auditlog_record", since=_moment(since)),
                note=_of_weeks(len(weeks), size),
                steps=counts if len(known) > 1 else (),
            )
        ],
        dates=[week.opens.astimezone(UTC).date() for week in weeks],
        step=_("Week from (UTC)"),
    )


def _of_weeks(weeks: int, size: int) -> str:
    text = ngettext("in this week, %(size)s", "in %(weeks)s weeks, %(size)s", weeks)
    return text % {"weeks": weeks, "size": filesizeformat(size)}


def _health(span: Span) -> Health:
    past = history.past(1).current()  # the one that the health page shows, and both share
    return Health(overall.current(), past.days[-span.days :])


# Words


def _counted(name: str, label: Any, days: Sequence[int], address: str) -> Number:
    """Of twice as many days as are shown: the first half is what it is compared with."""
    half = len(days) // 2
    value = sum(days[half:])
    return Number(
        name=name,
        label=label,
        value=value,
        address=address,
        note=_change(value, sum(days[:half]), half),
        steps=days[half:] if value else (),
    )


def _change(value: int, before: int, days: int) -> str:
    if value == before == 0:
        text = gettext("none in the %(days)s days before either")
    elif value == before:
        text = gettext("as many as in the %(days)s days before")
    elif value > before:
        text = gettext("%(by)s more than in the %(days)s days before")
    else:
        text = gettext("%(by)s fewer than in the %(days)s days before")
    return text % {"by": number_format(abs(value - before), force_grouping=True), "days": days}


def _three_digits(number: int) -> int:
    """Round an estimate: more digits would claim too much."""
    return round(number, 2 - floor(log10(number))) if number else 0


def _moment(at: datetime) -> str:
    """As the filters of the trail are typed."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M}"
