"""What becomes of invitations: sent, opened, accepted, or expired; of all of them, and of each who invites.

A funnel is about the invitations that were made in a span of time, whenever they went on. Very many are not counted
to the end: the newest tell enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext_lazy as _

from accounts import identity
from accounts.models import User
from config.database import routing

MOST = 10_000  # invitations that one funnel looks at, the newest
SHOWN = 20  # inviters
NAMES = 200  # people whose name begins alike; most of them may have invited nobody

# As `models.InvitationManager` says it.
STATE = (
    "CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN uses >= max_uses THEN 'used'"
    " WHEN lapsed_at IS NOT NULL OR expires_at <= statement_timestamp() THEN 'expired' ELSE 'open' END"
)
LABELS = {
    "made": _("made"),
    "sent": _("handed over or delivered"),
    "opened": _("opened"),
    "accepted": _("accepted"),
    "people": _("people who came in"),
    "waiting": _("not used yet, open"),
    "expired": _("expired unused"),
    "revoked": _("revoked unused"),
}
_COUNTS = """
    count(*), count(*) FILTER (WHERE sent OR opened), count(*) FILTER (WHERE opened), count(*) FILTER (WHERE uses > 0),
    coalesce(sum(uses), 0), count(*) FILTER (WHERE uses = 0 AND state = 'open'),
    count(*) FILTER (WHERE uses = 0 AND state = 'expired'), count(*) FILTER (WHERE uses = 0 AND state = 'revoked')
"""
# One that was used was opened, also when that was before openings were noted.
_MADE = f"""
    SELECT i.id, invited_by_id, invited_by_name, uses, {STATE} AS state, delivery IN ('', 'delivered') AS sent,
        uses > 0 OR EXISTS (SELECT FROM accounts_opening o WHERE o.invitation_id = i.id) AS opened
    FROM accounts_invitation i WHERE {{where}} ORDER BY created_at DESC LIMIT {MOST}
"""  # noqa: S608 - our own names only


@dataclass(frozen=True)
class Stages:
    """How many invitations came so far. `made` ≥ `sent` ≥ `opened` ≥ `accepted`; `people` may be more.

    Those that let nobody in are `waiting`, `expired` or `revoked`.
    """

    made: int = 0
    sent: int = 0
    opened: int = 0
    accepted: int = 0
    people: int = 0
    waiting: int = 0
    expired: int = 0
    revoked: int = 0

    @property
    def counts(self) -> tuple[int, ...]:
        """All of them, in the order of `LABELS`."""
        return astuple(self)

    @property
    def acceptance(self) -> float | None:
        """The share of those made that let somebody in."""
        return self.accepted / self.made if self.made else None


@dataclass(frozen=True)
class Funnel:
    stages: Stages

    @property
    def is_capped(self) -> bool:
        """Whether there were so many that only the newest `MOST` were looked at."""
        return self.stages.made >= MOST


@dataclass(frozen=True)
class Inviter:
    """`user_id` None: gone, or a command."""

    user_id: Any
    name: str
    stages: Stages


def of_everybody(since: datetime) -> Funnel:
    """Return what became of the invitations made since then."""
    made = _MADE.format(where="created_at >= %s")
    with routing.connection_for_reading().cursor() as cursor:
        cursor.execute(f"SELECT {_COUNTS} FROM ({made}) made", [since])  # noqa: S608 - our own names only
        return Funnel(Stages(*cursor.fetchone()))


def by_inviter(since: datetime, *, name: str = "") -> list[Inviter]:
    """Return who invited most since then; with `name` those whose username begins so."""
    where, values = "created_at >= %s", [since]
    if name:
        ids = _beginning(name)
        if not ids:
            return []
        where, values = f"{where} AND invited_by_id = ANY(%s)", [since, ids]  # type: ignore[list-item]
    with routing.connection_for_reading().cursor() as cursor:
        cursor.execute(
            f"SELECT counted.id, coalesce(u.username, counted.name), {', '.join(f'n{n}' for n in range(len(LABELS)))}"  # noqa: S608
            f" FROM (SELECT invited_by_id, CASE WHEN invited_by_id IS NULL THEN invited_by_name END, {_COUNTS}"
            f" FROM ({_MADE.format(where=where)}) made GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT {SHOWN})"
            f" AS counted (id, name, {', '.join(f'n{n}' for n in range(len(LABELS)))})"
            " LEFT JOIN accounts_user u ON u.id = counted.id ORDER BY n0 DESC, 2",
            values,
        )
        return [Inviter(user_id, username, Stages(*counts)) for user_id, username, *counts in cursor.fetchall()]


def _beginning(name: str) -> Sequence[Any]:
    """The first people by name whose username begins so, in any spelling."""
    if not identity.is_storable(name):
        return []
    found = User.objects.filter(username_canonical__startswith=identity.canonical_username(name))
    return list(found.order_by("username_canonical").values_list("pk", flat=True)[:NAMES])
