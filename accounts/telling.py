"""What the console's actions say about several people: what was done to whom, who was left out, and why.

Few names and one message for each reason: messages travel in a cookie, and what does not fit into it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.contrib import messages
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.errors import AccountError
from accounts.models import User

NAMED = 10


def names_of(users: Sequence[User]) -> str:
    """Return the first names, and how many more there are."""
    names = ", ".join(_("“%(name)s”") % {"name": user} for user in users[:NAMED])
    if (more := len(users) - NAMED) > 0:
        text = ngettext("%(names)s and %(count)d more", "%(names)s and %(count)d more", more)
        return text % {"names": names, "count": more}
    return names


def tell_done(request: HttpRequest, text: str, users: Sequence[User], **more: str) -> None:
    """Say `text`, which has places for `count` and `names`, or that nobody was changed."""
    if users:
        messages.success(request, text % {"count": len(users), "names": names_of(users), **more})
    else:
        messages.info(request, _("0 users changed."))


def tell_left_out(request: HttpRequest, left_out: Iterable[tuple[User, AccountError | str]]) -> None:
    by_reason: dict[str, list[User]] = {}
    for user, reason in left_out:
        words = str(reason.message) if isinstance(reason, AccountError) else reason
        by_reason.setdefault(words, []).append(user)
    for words, users in by_reason.items():
        messages.warning(request, f"{names_of(users)}: {words}")
