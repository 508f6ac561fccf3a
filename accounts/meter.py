"""What the live meter needs beside the verdict: whom a page is about, and a bound on how often it is asked."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from threading import Lock

from django.core import signing

from accounts import identity
from accounts.models import User

_SALT = "accounts.meter"
_LASTS = 24 * 3600  # seconds; whoever leaves the page open longer is judged without the own name until it is sent
_LONGEST = {"username": identity.LONGEST_USERNAME, "email": identity.LONGEST_EMAIL, "full_name": 150}


def owner_token(user: User) -> str:
    """Name `user` to the meter, for a page that only they can open; it opens nothing else."""
    return signing.dumps(str(user.pk), salt=_SALT)


def whose(token: str, read: Callable[[str], str | None]) -> User:
    """Return whose password it is: the one that the token names, else somebody with what is typed so far."""
    try:
        user_id = signing.loads(token, salt=_SALT, max_age=_LASTS) if token else None
    except signing.BadSignature:
        user_id = None
    known = User.objects.only("username", "email", "full_name").filter(pk=user_id).first() if user_id else None
    return known or User(**typed(read))


def typed(read: Callable[[str], str | None]) -> dict[str, str]:
    """Return the name and address that `read` finds, stripped as a form does, and never longer than a form takes."""
    return {name: (read(name) or "").strip()[:longest] for name, longest in _LONGEST.items()}


class Budget:
    """So many calls at once, and so many a second in the long run, for each network and for all together.

    Counted in this process's memory: what it protects is this process's time, it must cost less than the answer, and a
    row for each keystroke would be a record of it. Several processes so allow as much more as they can bear more.
    """

    NETWORKS = 10_000  # that are remembered; the one that asked longest ago is forgotten first

    def __init__(self, *, at_once: int, per_second: float, all_at_once: int, all_per_second: float) -> None:
        self._limits = {True: (at_once, per_second), False: (all_at_once, all_per_second)}
        self._spent: OrderedDict[str, tuple[float, float]] = OrderedDict()  # network -> calls still counted, when
        self._all = (0.0, 0.0)
        self._lock = Lock()

    def take(self, network: str) -> int:
        """Count a call; return 0, or the seconds to wait when it is one too many, which counts as none."""
        now = time.monotonic()
        with self._lock:
            own, everybody = self._left(self._spent.get(network), True, now), self._left(self._all, False, now)
            waits = [self._wait(own, True), self._wait(everybody, False)]
            if not any(waits):
                self._spent[network], self._all = (own + 1, now), (everybody + 1, now)
                self._spent.move_to_end(network)
                if len(self._spent) > self.NETWORKS:
                    self._spent.popitem(last=False)
        return ceil(max(waits))

    def clear(self) -> None:
        """Forget all calls."""
        self._spent.clear()
        self._all = (0.0, 0.0)

    def _left(self, spent: tuple[float, float] | None, is_own: bool, now: float) -> float:
        calls, when = spent or (0.0, now)
        return max(0.0, calls - (now - when) * self._limits[is_own][1])

    def _wait(self, calls: float, is_own: bool) -> float:
        at_once, per_second = self._limits[is_own]
        return max(0.0, (calls + 1 - at_once) / per_second)


# Somebody who types thinks more often than that, and an office behind one address is twenty of them. All together cost
# at most about half of a core.
budget = Budget(at_once=120, per_second=5, all_at_once=400, all_per_second=50)
