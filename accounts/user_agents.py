"""What a browser is called by people, from what it calls itself: "Firefox on Linux"."""

from __future__ import annotations

import re
from functools import lru_cache

import ua_parser
from django.utils.translation import gettext as _

LONGEST_AGENT = 300  # characters
_LONGEST_NAME = 40
# A name is shown in mails too, and whoever signs in chooses it: no dot or slash may make an address of it.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9 +_-]+")


def storable(header: str) -> str:
    """Return a User-Agent header as a column holds it: bounded, and nothing that no database takes."""
    return header[:LONGEST_AGENT].replace("\0", "").encode("utf-8", "replace").decode()


def readable(agent: str) -> str:
    """Return the name for people; never empty, and never longer than a line."""
    browser, system = _parsed(agent[:LONGEST_AGENT])
    if not browser and not system:
        return _("Unknown browser")
    if not system:
        return browser
    return _("%(browser)s on %(system)s") % {"browser": browser or _("Unknown browser"), "system": system}


def is_known(agent: str) -> bool:
    """Whether `readable` has anything to say of it."""
    return any(_parsed(agent[:LONGEST_AGENT]))


@lru_cache(maxsize=2048)
def _parsed(agent: str) -> tuple[str, str]:
    """The families of browser and system, "" for what nobody knows. Milliseconds of work, so it is kept."""
    found = ua_parser.parse(agent)
    return _named(found.user_agent), _named(found.os)


def _named(part: ua_parser.UserAgent | ua_parser.OS | None) -> str:
    family = "" if part is None or part.family == "Other" else part.family
    return _NOT_IN_NAMES.sub(" ", family).strip()[:_LONGEST_NAME]
