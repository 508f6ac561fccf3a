"""In whose time zone and language a page or a mail speaks: those that the person chose.

Without a choice, pages speak as the browser asks (config.middleware), and mails as the site.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta, tzinfo
from datetime import timezone as fixed_zone
from functools import cache

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import timezone, translation
from django.utils.functional import SimpleLazyObject
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from config.middleware import Handler

# Who chooses it wants it; whoever has chosen nothing gets "UTC", which scripts turn into the browser's zone. Not a
# ZoneInfo: Django calls that one "UTC" as well.
UTC = "Etc/UTC"
_UNIVERSAL = fixed_zone(timedelta(0), UTC)
_AREAS = {
    "Africa", "America", "Antarctica", "Arctic", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific",
}  # fmt: skip


@cache
def zone_names() -> tuple[str, ...]:
    """Return the zones of places by their IANA names, in the order of the alphabet.

    Not the names of the past (US/Eastern, GMT+1, Zulu): each is another name of one of these.
    """
    known = zoneinfo.available_timezones()
    return (*sorted(name for name in known if name.partition("/")[0] in _AREAS), UTC)


def zone_choices() -> list[tuple[str, object]]:
    """Return the zones for a select, by area; typing the first letters of a place finds it."""
    areas: dict[str, list[tuple[str, str]]] = {}
    for name in zone_names():
        area, _slash, place = name.partition("/")
        areas.setdefault(area, []).append((name, place.replace("_", " ").replace("/", ", ")))
    del areas["Etc"]
    return [("", _("As my browser says")), (UTC, "UTC"), *areas.items()]


def language_choices() -> list[tuple[str, object]]:
    return [("", _("As my browser says")), *((code, name) for code, name in settings.LANGUAGES)]


def language_of(user: User) -> str | None:
    """Return the language that `user` chose, or None; None also for one that is not spoken here any more."""
    return user.language if user.language in dict(settings.LANGUAGES) else None


def language_of_newcomer() -> str:
    """Return the language to keep for somebody who signs up on this page, "" for the site's: their mails speak it."""
    spoken = translation.get_language()
    return "" if spoken in (None, settings.LANGUAGE_CODE) else spoken


def language_of_guests(inviter: User | None) -> str:
    """Return the language of a mail to somebody unknown whom `inviter` writes to by this page, job or command."""
    return (inviter and language_of(inviter)) or translation.get_language() or settings.LANGUAGE_CODE


def zone_of(user: User) -> tzinfo | None:
    """Return the zone that `user` chose, or None; None also for one that is not known any more."""
    if user.time_zone == UTC:
        return _UNIVERSAL
    return zoneinfo.ZoneInfo(user.time_zone) if user.time_zone in zone_names() else None


@contextmanager
def of_user(user: User) -> Iterator[None]:
    """Speak to `user` for the length of the block, for mails."""
    language = language_of(user) or settings.LANGUAGE_CODE
    with translation.override(language), timezone.override(zone_of(user) or timezone.get_default_timezone()):
        yield


def speak_to(user: User) -> None:
    """Speak to `user` from now on, in so far as they chose how; it ends with the request (config.middleware)."""
    if zone := zone_of(user):
        timezone.activate(zone)
    if language := language_of(user):
        translation.activate(language)


class PreferencesMiddleware:
    """Speak to whoever is signed in, from the moment on at which anything looks who that is.

    So it costs no query, and pages that do not ask need no database.
    """

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        visitor = request.user
        request.user = SimpleLazyObject(lambda: _spoken_to(visitor))  # type: ignore[assignment]  # stands for it
        return self.get_response(request)


def _spoken_to(visitor: User | AnonymousUser) -> User | AnonymousUser:
    if isinstance(visitor, User):  # also looks who it is
        speak_to(visitor)
    return visitor
