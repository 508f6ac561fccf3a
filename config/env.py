"""Read settings from the environment, refuse nonsense, and name every fault at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from math import inf
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

T = TypeVar("T")


class Faults(ImproperlyConfigured):
    """The environment holds one or more bad values; ``str()`` has one clear line for each."""

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        super().__init__("\n".join(lines))


class Environment:
    """Typed readers over django-environ that collect faults instead of stopping at the first one."""

    def __init__(self) -> None:
        self._environ = environ.Env()
        self._faults: list[str] = []
        self.values: dict[str, object] = {}  # what was read, by the names of the variables

    def fault(self, line: str) -> None:
        self._faults.append(line)

    def raise_faults(self) -> None:
        """Raise `Faults` when any reader or check before this call found one."""
        if self._faults:
            raise Faults(self._faults)

    def text(self, name: str, default: str = "") -> str:
        text = str(self._environ.str(name, default=default)).strip()
        self.values[name] = text
        return text

    def require_random(self, name: str, keys: list[str]) -> None:
        """Refuse a key that is short, monotonous or a known default."""
        if any(len(key) < 50 or len(set(key)) < 5 or key.startswith("django-insecure") for key in keys):
            self.fault(f"{name}: must be a random text of at least 50 characters. `make .env` writes one.")

    def site_address(self, name: str, address: str) -> SplitResult:
        """Return the parts of the site's own address, which has a host, perhaps a port, and nothing else."""
        try:
            parts = urlsplit(address)
            plain = parts.port is None or parts.port > 0
        except ValueError:
            parts, plain = urlsplit(""), False
        rest = parts.path or parts.query or parts.fragment or parts.username or parts.password
        if parts.scheme not in ("http", "https") or not parts.hostname or rest or not plain:
            self.fault(f"{name}: must be the site's own address, like https://accounts.example.com, without a path.")
        return parts

    def choice(self, name: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(name, default).lower()
        if value in choices:
            return self._read(name, value)
        self.fault(f"{name}: must be one of {', '.join(choices)}, not {value!r}.")
        return default

    def choices(self, name: str, choices: tuple[str, ...]) -> list[str]:
        """Return any number of `choices`, spelled as there."""
        spelled = {choice.lower(): choice for choice in choices}
        words = self.words(name)
        if unknown := [word for word in words if word.lower() not in spelled]:
            self.fault(f"{name}: may name {', '.join(choices)}, not {', '.join(unknown)}.")
        return self._read(name, [spelled[word.lower()] for word in words if word.lower() in spelled])

    def words(self, name: str, default: str = "") -> list[str]:
        return self._read(name, [word.strip() for word in self.text(name, default).split(",") if word.strip()])

    def digests(self, name: str) -> list[str]:
        """Return SHA-256 digests in hexadecimal; the tokens themselves have no place in an environment."""
        digests = [digest.lower() for digest in self.words(name)]
        if any(not re.fullmatch("[0-9a-f]{64}", digest) for digest in digests):
            self.fault(
                f"{name}: must hold SHA-256 digests of 64 hexadecimal digits. `manage.py health token` makes one."
            )
        return digests

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.text(name).lower()
        if value in ("1", "true", "yes", "on"):
            return self._read(name, True)
        if value in ("0", "false", "no", "off"):
            return self._read(name, False)
        if value:
            self.fault(f"{name}: must be on or off, not {value!r}.")
        return self._read(name, default)

    def day(self, name: str) -> date | None:
        """Return a date like 2026-11-30, not one to come; None without any."""
        text = self.text(name)
        try:
            day = date.fromisoformat(text) if text else None
        except ValueError:
            day = date.max
        if day is not None and day > datetime.now(UTC).date() + timedelta(days=1):  # east of us it is tomorrow already
            self.fault(f"{name}: must be a day that has come, like 2026-11-30, not {text!r}.")
            return None
        return day

    def integer(self, name: str, default: int, *, low: int, high: int) -> int:
        return self._number(name, int, default, low, high)

    def seconds(self, name: str, default: float, *, low: float, high: float) -> float:
        return self._number(name, float, default, low, high)

    def limits(self, name: str, default: tuple[float, float]) -> tuple[float, float]:
        """Return from where on a number warns and from where on it fails; which way is worse is the default's."""
        words = self.words(name)
        if not words:
            return self._read_limits(name, default)
        try:
            warn, fail = (float(word) for word in words)
        except ValueError:
            warn = fail = -1.0
        # The chained comparisons also refuse NaN, which is never within a range.
        is_rising = default[0] < default[1]
        if 0 <= warn < fail < inf if is_rising else inf > warn > fail >= 0:
            return self._read_limits(name, (warn, fail))
        order = "greater" if is_rising else "smaller"
        example = ",".join(f"{number:g}" for number in default)
        self.fault(f"{name}: must be the number that warns and the {order} one that fails, like {example}.")
        return default

    def _read_limits(self, name: str, limits: tuple[float, float]) -> tuple[float, float]:
        self._read(name, list(limits))  # as JSON has it, with which it is compared
        return limits

    def _number(self, name: str, kind: Callable[[str], T], default: T, low: T, high: T) -> T:
        text = self.text(name)
        if not text:
            return self._read(name, default)
        try:
            value = kind(text)
        except ValueError:
            value = None
        # The chained comparison also refuses NaN, which is never within a range.
        if value is None or not low <= value <= high:  # type: ignore[operator]
            self.fault(f"{name}: must be a number from {low} to {high}, not {text!r}.")
            return default
        return self._read(name, value)

    def _read(self, name: str, value: T) -> T:
        self.values[name] = value
        return value
