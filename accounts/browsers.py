"""Says what a browser calls itself in words that people know."""

from __future__ import annotations

from django.utils.translation import gettext as _
from ua_parser import parse

LONGEST = 300  # characters; nothing real is longer, and the parser tries hundreds of patterns on each


def readable(agent: str) -> str:
    """Return, for the User-Agent of Firefox on Linux, “Firefox 128 on Linux”; "" for what nobody has heard of.

    A guess for people, never a proof: a program says of itself what it likes.
    """
    found = parse(agent[:LONGEST])
    browser, system = found.user_agent, found.os
    name = f"{browser.family} {_number(browser.major)}".strip() if browser else ""
    place = system.family if system else ""
    if name and place:
        return _("%(browser)s on %(system)s") % {"browser": name, "system": place}
    return name or place


def _number(version: str | None) -> str:
    return version if version and version.isdecimal() and len(version) <= 4 else ""
