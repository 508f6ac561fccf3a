"""Moments on pages, in the zone of whoever reads, with UTC for whoever points at one. ``site/moments.js`` helps."""

from __future__ import annotations

from datetime import UTC, datetime

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()
_SHORT = {
    "clock",
    "day",
    "hour",
}  # of which a plot has many: the script adds the title that a reader in UTC does not need
# Of each form what the server writes, which says the zone wherever it is not told beside it.
_FORMS = {
    "": "Y-m-d H:i:s T",
    "exact": "Y-m-d H:i:s T",  # to the microsecond, when pointed at
    "minute": "j F Y, H:i T",
    "date": "j F Y",
    "clock": "H:i",
    "day": "j M",
    "hour": "j M H:i",
}


@register.simple_tag
def moment(at: datetime | str | None, form: str = "") -> SafeString | str:
    """Return a moment (or its ISO 8601) as a ``time`` element in the zone of the request; `form` is one of `_FORMS`."""
    if at is None:
        return "–"
    utc = (datetime.fromisoformat(at) if isinstance(at, str) else at).astimezone(UTC)
    zone = timezone.get_current_timezone_name()
    title = f"{utc:%Y-%m-%d %H:%M:%S}{f'.{utc:%f}' if form == 'exact' else ''} UTC"
    return format_html(
        '<time datetime="{}"{} data-moment="{}"{}>{}</time>',
        f"{utc:%Y-%m-%dT%H:%M:%SZ}",
        format_html(' title="{}"', title) if zone != "UTC" or form not in _SHORT else "",
        form,
        # Who has chosen none reads it in that of the browser.
        format_html(' data-zone="{}"', zone) if zone != "UTC" else "",
        date_format(timezone.localtime(utc), _FORMS[form]).replace("Etc/UTC", "UTC"),
    )
