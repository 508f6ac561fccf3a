"""Canonical names and addresses: what makes two people's names the same name.

Identity is decided on columns derived here and kept unique by the database. SQL ``lower()`` and ``iexact``
are no identity key: they treat dotless i, sharp s and the Kelvin sign wrongly. The derivations never raise,
so that every writer is covered; `validate_username` and `validate_email_address` say what is wrong.
"""

from __future__ import annotations

import hmac
import re
import unicodedata
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise

import idna
from confusable_homoglyphs import categories, confusables
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator, RegexValidator
from django.utils.translation import gettext_lazy as _

SHORTEST_USERNAME = 3
LONGEST_USERNAME = 64
LONGEST_EMAIL = 254  # RFC 5321, section 4.5.3.1.3, less the angle brackets
SEPARATORS = "._-"

# Letters and marks by category that show nothing at all (default-ignorable, Unicode standard, section 5.21).
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SECOND_DOT = re.compile("(?<=[ij])\u0307")
# Writing systems that mix scripts by their nature (UTS 39, section 5.1).
_ONE_SYSTEM = [{"HAN", "HIRAGANA", "KATAKANA"}, {"HAN", "HANGUL"}, {"HAN", "BOPOMOFO"}]
_LEFT_TO_RIGHT_MARK = "\u200e"  # stands around right-to-left characters in the confusables data


def canonical_username(username: str) -> str:
    """Return the key under which a username is unique: NFKC, case-folded, NFKC again."""
    folded = unicodedata.normalize("NFKC", username).casefold()
    return unicodedata.normalize("NFKC", folded)


def username_skeleton(username: str) -> str:
    """Return the key that look-alike usernames share (UTS 39, section 4, on the name as pages show it)."""
    look = unicodedata.normalize("NFKC", username)
    # Before and after folding: capital I looks like l, which small i does not; small m looks like rn.
    for _round in range(2):
        decomposed = unicodedata.normalize("NFD", look)
        look = "".join(_prototype(character) for character in decomposed).casefold()
    # A second dot on i and j is not seen (UTS 39, section 5.4).
    return unicodedata.normalize("NFD", _SECOND_DOT.sub("", look))


@dataclass(frozen=True)
class NameKey:
    """A key of `name_digests`. `id` says which one it is and nothing else about it."""

    secret: bytes

    @property
    def id(self) -> str:
        return hmac.digest(self.secret, b"accounts name id", "sha256")[:4].hex()

    def digest(self, canonical: str) -> str:
        return hmac.digest(self.secret, b"accounts name " + canonical.encode("utf-8", "replace"), "sha256")[:16].hex()


def name_keys() -> list[NameKey]:
    """Return the key of new digests, then the former ones under which names are still reserved."""
    own = [settings.NAME_HASH_KEY, *settings.NAME_HASH_KEY_FALLBACKS]
    # Derived ones stay good when a site gives itself a key of its own later.
    derived = [f"accounts name {key}" for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    return [NameKey(word.encode()) for word in (*own, *derived) if word]


def name_digests(username: str) -> str:
    """Return by what an erased person's name is known again, without saying which it was: one word a known key."""
    canonical = canonical_username(username)
    return " ".join(key.digest(canonical) for key in name_keys())


def canonical_email(email: str) -> str:
    """Return the key under which an address is unique: local part folded, domain as lower-case IDNA.

    No provider's tricks with dots or plus: those are the provider's business and may change.
    """
    local, at, domain = email.strip().rpartition("@")
    return f"{local.casefold()}{at}{_ascii_domain(domain)}"


def _ascii_domain(domain: str) -> str:
    return _encoded(domain) if len(domain) <= LONGEST_EMAIL else domain.casefold()


@lru_cache(maxsize=1024)  # many people have addresses at one domain, and IDNA takes a fifth of a millisecond
def _encoded(domain: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except idna.IDNAError:
        return domain.casefold()


@cache
def _prototype(character: str) -> str:
    """Return what `character` looks like, from the Unicode confusables table.

    The library's table holds every pair in both directions. A source has exactly one partner, its
    prototype; a prototype has one or more. Where both have one, the longer, then the smaller one is taken.
    """
    partners = _look_alikes(character)
    if len(partners) != 1:
        return character
    (partner,) = partners
    if len(_look_alikes(partner)) > 1 or len(partner) > 1:
        return partner
    return min(character, partner)


def _look_alikes(text: str) -> set[str]:
    pairs = confusables.confusables_data.get(text, [])
    return {pair["c"].strip(_LEFT_TO_RIGHT_MARK) for pair in pairs}


def validate_username(username: str) -> None:
    """Raise ValidationError with every broken rule of the shape of a username, each with a code."""
    normal = unicodedata.normalize("NFKC", username)
    broken = [
        ValidationError(message, code=code)
        for code, message, wrong in (
            ("username_too_short", _("Use at least 3 characters."), len(normal) < SHORTEST_USERNAME),
            ("username_too_long", _("Use at most 64 characters."), len(normal) > LONGEST_USERNAME),
            (
                "username_characters",
                _("Use only letters, digits, dots, hyphens and underscores."),
                not all(_is_permitted(character) for character in normal),
            ),
            (
                "username_separators",
                _("Begin and end with a letter or digit, and never put two of . - _ side by side."),
                _has_misplaced_separator(normal),
            ),
            (
                "username_mixed_scripts",
                _("Use letters of one alphabet only."),
                not _is_one_script(normal),
            ),
            (
                "username_reserved",
                _("This name is reserved. Please choose another one."),
                canonical_username(username) in _reserved_names(),
            ),
        )
        if wrong
    ]
    if broken:
        raise ValidationError(broken)


def _reserved_names() -> set[str]:
    return {canonical_username(name) for name in settings.RESERVED_USERNAMES}


def _is_permitted(character: str) -> bool:
    if character in SEPARATORS:
        return True
    if _INVISIBLE.match(character):
        return False
    category = unicodedata.category(character)
    if category == "Nd":
        return character.isascii() or categories.alias(character) != "COMMON"
    # Marks belong to the letter before them in many scripts; a name of marks alone fails the edges rule.
    return category in ("Ll", "Lu", "Lt", "Lm", "Lo", "Mn", "Mc")


def _has_misplaced_separator(name: str) -> bool:
    edges = name[:1] + name[-1:]
    if any(character in SEPARATORS for character in edges) or unicodedata.category(name[:1] or "x")[0] == "M":
        return True
    return any(
        left in SEPARATORS and (right in SEPARATORS or unicodedata.category(right)[0] == "M")
        for left, right in pairwise(name)
    )


def _is_one_script(name: str) -> bool:
    scripts = {categories.alias(character) for character in name} - {"COMMON", "INHERITED"}
    return len(scripts) <= 1 or any(scripts <= system for system in _ONE_SYSTEM)


# Django's own validator accepts dotless i, long s and the Kelvin sign in the local part.
_ascii_local_part = RegexValidator(
    r"^[\x21-\x7e]+@[^@]+$", _("Enter a valid e-mail address, like name@example.com."), "email_invalid"
)
_well_formed = EmailValidator(_("Enter a valid e-mail address, like name@example.com."), "email_invalid", allowlist=[])


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold `text`; an argument in another encoding arrives as lone surrogates."""
    return not _UNSTORABLE.search(text)


def validate_one_line(text: str) -> None:
    """Raise ValidationError (code ``control_characters``) when `text` would break or turn a line of a mail."""
    if _CONTROL.search(text):
        raise ValidationError(_("Please leave out line breaks and control characters."), code="control_characters")


def validate_email_address(email: str) -> None:
    """Raise ValidationError (code ``email_invalid``) unless `email` is an address we can write to."""
    _ascii_local_part(email)
    _well_formed(email)
    if email.endswith("]"):  # a bare network address: mail of ours goes to names only
        raise ValidationError(_well_formed.message, code="email_invalid")
    # What IDNA cannot encode cannot be written to, and would be a second spelling of an encoded address.
    if not canonical_email(email).isascii():
        raise ValidationError(_well_formed.message, code="email_invalid")
    # Either may be the longer one: IDNA encodes letters, and leaves soft hyphens out.
    if max(len(email), len(canonical_email(email))) > LONGEST_EMAIL:
        raise ValidationError(_("Enter a shorter e-mail address."), code="email_invalid")


def canonical_domain(domain: str) -> str:
    """Return an e-mail domain as it stands behind the @ of a canonical address."""
    return _ascii_domain(domain.strip().removeprefix("@"))


def validate_domain(domain: str) -> None:
    """Raise ValidationError (code ``domain_invalid``) unless `domain` can stand behind the @ of an address."""
    try:
        validate_email_address(f"somebody@{canonical_domain(domain)}")
    except ValidationError as error:
        raise ValidationError(_("Enter a domain, like example.com."), code="domain_invalid") from error


def validate_email_domain(email: str) -> None:
    """Raise ValidationError (code ``email_domain``) when signups are limited to other domains (R5)."""
    allowed = {_ascii_domain(domain) for domain in settings.SIGNUP_EMAIL_DOMAINS}
    if allowed and canonical_email(email).rpartition("@")[2] not in allowed:
        raise ValidationError(
            _("Sign-up is open to these e-mail domains only: %(domains)s."),
            code="email_domain",
            params={"domains": ", ".join(sorted(allowed))},
        )
