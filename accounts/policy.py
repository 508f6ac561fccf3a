"""The one judge of new passwords: form, live meter, commands and generator ask it, so they cannot disagree.

The verdict is that of `AUTH_PASSWORD_VALIDATORS`, which `User.set_password` asks for too; score, reasons and advice
stand beside it. What takes a network or a hash (`breaches`, former passwords) is asked once, when a password is set.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.contrib.auth import password_validation
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.passwords import LengthValidator

if TYPE_CHECKING:
    from accounts.models import User
    from accounts.strength import Strength

REFUSED_AT_MOST = 30  # points that a refused password shows, however hard it is to guess
LEVELS = {  # from this score on -> what it is called
    80: ("strong", gettext_lazy("Strong")),
    60: ("good", gettext_lazy("Good")),
    40: ("fair", gettext_lazy("Fair")),
    0: ("weak", gettext_lazy("Accepted, but easy to guess")),
}
REFUSED = ("refused", gettext_lazy("Not accepted yet"))

# Letters, digits and symbols that nobody takes for another one on paper, and that every keyboard has.
ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789!#%+-/:=?@_"
GENERATED_LENGTH = 20  # 120 bits
LONGEST_GENERATED = 128


@dataclass(frozen=True)
class Verdict:
    """Whether the policy takes a password, every rule that it breaks, and how good it is.

    The estimate is made when somebody asks for the score; whoever needs the verdict alone does not wait for it.
    """

    refusals: list[ValidationError]
    _password: str
    _own: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Verdict {'accepted' if self.accepted else 'refused'}>"

    def refused_by(self, refusal: ValidationError) -> Verdict:
        """Return the verdict when somebody else refuses the password too."""
        return replace(self, refusals=[*self.refusals, *refusal.error_list])

    @property
    def accepted(self) -> bool:
        return not self.refusals

    @cached_property
    def _strength(self) -> Strength:
        from accounts import strength  # its words take 0.2 s and 10 MB, which most processes never need

        return strength.estimate(self._password, self._own)

    @property
    def score(self) -> int:
        """0 to 100; a refused password never looks good."""
        score = self._strength.score
        return score if self.accepted else min(score, REFUSED_AT_MOST)

    @property
    def level(self) -> str:
        """``refused``, ``weak``, ``fair``, ``good`` or ``strong``."""
        return self._level[0]

    @property
    def summary(self) -> str:
        """The verdict and the score in words."""
        return _("%(level)s: %(score)d of 100") % {"level": self._level[1], "score": self.score}

    @property
    def reasons(self) -> list[str]:
        """The rules that it breaks, then what makes it easy to guess."""
        return [*(message for refusal in self.refusals for message in refusal.messages), *self.weaknesses]

    @property
    def weaknesses(self) -> list[str]:
        """What makes it easy to guess."""
        from accounts.strength import REASONS

        return [str(REASONS[each]) for each in self._strength.reasons]

    @property
    def advice(self) -> list[str]:
        from accounts.strength import ADVICE

        return [str(ADVICE[each]) for each in self._strength.advice]

    @property
    def _level(self) -> tuple[str, Any]:
        return next(level for least, level in LEVELS.items() if self.score >= least) if self.accepted else REFUSED

    def as_facts(self) -> dict[str, Any]:
        """For programs; without the password."""
        return {
            "accepted": self.accepted,
            "score": self.score,
            "level": self.level,
            "summary": self.summary,
            "codes": [str(refusal.code) for refusal in self.refusals],
            "reasons": self.reasons,
            "advice": self.advice,
        }


def judge(password: str, user: User | None = None) -> Verdict:
    """Judge a new password of `user`, who need not be stored; nothing is logged, kept or asked elsewhere."""
    own = (user.username, user.email, user.full_name) if user else ()
    try:
        password_validation.validate_password(password, user)
    except ValidationError as error:
        return Verdict(list(error.error_list), password, own)
    return Verdict([], password, own)


def rules() -> list[str]:
    """The policy in words, one rule a line."""
    return [text for text in password_validation.password_validators_help_texts() if text]


def shortest_length() -> int:
    """How many characters the policy asks for."""
    validators = password_validation.get_default_password_validators()
    return max(rule.shortest for rule in validators if isinstance(rule, LengthValidator))


def generate(length: int = GENERATED_LENGTH) -> str:
    """Return a password that the policy takes, each of those of this length and alphabet as likely as any other.

    Raises ValueError unless the length is from `shortest_length` to `LONGEST_GENERATED`.
    """
    if not shortest_length() <= length <= LONGEST_GENERATED:
        raise ValueError(length)
    while True:
        # Drawn whole until one fits: to put the missing kinds in afterwards would favour some passwords.
        password = "".join(secrets.choice(ALPHABET) for _character in range(length))
        if judge(password).accepted:
            return password
