"""Words of the health pages: states, readings, ages and lengths of time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from healthcheck import advice, operations
from healthcheck.history import IncidentView
from healthcheck.models import Run
from healthcheck.overall import Finding, Report
from healthcheck.results import Status, worst
from healthcheck.statistics import Cap

register = template.Library()
# The classes of the site's style sheet for what is well, doubtful and wrong.
_TONES = {Status.PASS: "open", Status.WARN: "expired", Status.FAIL: "failed"}
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


@register.filter
def headline(status: Status) -> Any:
    return advice.HEADLINES[status]


@register.filter
def assurance(status: Status) -> Any:
    return advice.ASSURANCES[status]


@register.filter
def word(status: Status) -> Any:
    return advice.WORDS[status]


@register.filter
def tone(status: Status) -> str:
    return _TONES[status]


@register.filter
def summary(report: Report) -> str:
    """Return in a sentence how many checks need somebody."""
    number, bad = len(report.findings), sum(finding.status is not Status.PASS for finding in report.findings)
    if not bad:
        return ngettext(
            "The one check found what it should.", "All %(number)d checks found what they should.", number
        ) % {"number": number}
    return ngettext(
        "One of %(number)d checks needs a look. What to do is said below.",
        "%(bad)d of %(number)d checks need a look. What to do is said below.",
        bad,
    ) % {"number": number, "bad": bad}


@register.filter
def advised(finding: Any) -> advice.Advice:
    """Return the advice about a finding or an incident."""
    return advice.advice(getattr(finding, "name", None) or finding.check_name, finding.code)


@register.filter
def todos(findings: Iterable[Finding]) -> list[tuple[advice.Advice, Status, list[Finding]]]:
    """Return each advice once, the worst first, with the findings that it is about."""
    about: dict[advice.Advice, list[Finding]] = {}
    for finding in findings:
        if finding.status is not Status.PASS:
            about.setdefault(advised(finding), []).append(finding)
    found = [(each, worst(finding.status for finding in of), of) for each, of in about.items()]
    return sorted(found, key=lambda todo: todo[1] is not Status.FAIL)


@register.filter
def called(name: str) -> Any:
    return advice.label(name)


@register.filter
def of_check(incidents: list[IncidentView] | None, name: str) -> list[IncidentView]:
    """Return the incidents of one check."""
    return [incident for incident in incidents or () if incident.check_name == name]


@register.filter
def operation(run: Run) -> Any:
    """Return what the operation of a run is called, also one that is no longer registered."""
    known = operations.operations().get(run.operation)
    return known.label if known else run.operation


@register.filter
def reading(finding: Finding) -> Any:
    """Return the number that a check looked at, with its unit; a remark where it needed none."""
    if finding.value is None:
        return advice.NOTES.get(finding.code, "–")
    return f"{_short(finding.value)} {finding.unit}".rstrip()


@register.filter
def grouped(number: float | None) -> str:
    """Return a whole number with its thousands apart."""
    return "–" if number is None else number_format(f"{number:.0f}", force_grouping=True)


@register.filter
def milliseconds(number: float | None) -> str:
    return "–" if number is None else f"{_short(number)} ms"


_WHOSE = {
    "server": gettext_lazy("Of the server"),
    "database": gettext_lazy("Of this database"),
    "role": gettext_lazy("Of this role"),
}
_STATES = {
    "active": gettext_lazy("at work"),
    "idle": gettext_lazy("idle"),
    "idle in transaction": gettext_lazy("idle in a transaction"),
    "idle in transaction (aborted)": gettext_lazy("idle in a failed transaction"),
    "not visible": gettext_lazy("not visible"),
}


@register.filter
def whose(cap: Cap) -> Any:
    return _WHOSE[cap.of]


@register.filter
def state_called(state: str) -> Any:
    """Return what a state of sessions is called; the server's own word where we have none."""
    return _STATES.get(state, state)


def _short(number: float) -> str:
    return grouped(number) if abs(number) >= 100 else number_format(f"{number:.3g}")


@register.filter
def lasting(length: timedelta | float | None) -> str:
    """Return a length of time (or seconds) in its two largest units: “2 h 5 min”."""
    seconds = length.total_seconds() if isinstance(length, timedelta) else length or 0.0
    left, parts = round(seconds), list[str]()
    for size, unit in _UNITS:
        number, left = divmod(left, size)
        if number or parts:
            parts.append(f"{number} {unit}" if number else "")
        if len(parts) == 2:  # units are enough
            break
    return " ".join(filter(None, parts)) or f"0 {_UNITS[-1][1]}"


@register.filter
def ago(seconds: float | None) -> str:
    """Return an age in words."""
    if seconds is None:
        return _("never")
    return _("just now") if seconds < 1 else _("%(length)s ago") % {"length": lasting(seconds)}


@register.filter
def percent(share: float | None) -> str:
    """Return a share from 0 to 1; it is 100 % only when nothing at all is missing."""
    if share is None:
        return "–"
    text = "100" if share >= 1 else f"{min(share * 100, 99.99):.2f}"
    return f"{number_format(text)} %"
