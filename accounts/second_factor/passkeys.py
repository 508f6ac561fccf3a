"""Passkeys (WebAuthn) as second factors, by the library `fido2`.

The site's name and address come from `BASE_URL` only, never from a request. Each question (challenge) is kept in the
session of whom it was put to, and is answered once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from typing import Any
from urllib.parse import urlsplit

import structlog
from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.db.models import Q
from django.db.models.functions import Now
from fido2 import cose
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    AuthenticatorData,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from accounts.errors import AccountError
from accounts.models import User
from accounts.second_factor import factors
from accounts.second_factor.models import Passkey

LASTS = 5 * 60  # seconds that a question can be answered
LONGEST_ANSWER = 8192  # characters
_NEW, _PROOF = "_passkey_new", "_passkey_proof"  # session entries: questions for a new passkey and for a known one
_LONGEST_ID = 1023  # bytes (WebAuthn, section 4)
_KINDS = (cose.ES256, cose.EdDSA, cose.RS256)
_KNOWN_TRANSPORTS = ("usb", "nfc", "ble", "smart-card", "hybrid", "internal")
_DEFAULT_PORTS = {"http": 80, "https": 443}
log = structlog.get_logger("accounts.second_factor")
logging.getLogger("fido2").setLevel(logging.WARNING)  # it tells which credential it saw


def _server() -> Fido2Server:
    host = urlsplit(settings.BASE_URL).hostname or ""
    server = Fido2Server(PublicKeyCredentialRpEntity(id=host, name="Gatehouse"), verify_origin=_is_our_origin)
    server.allowed_algorithms = [
        PublicKeyCredentialParameters(type=PublicKeyCredentialType.PUBLIC_KEY, alg=kind.ALGORITHM) for kind in _KINDS
    ]
    return server


def _is_our_origin(origin: str) -> bool:
    return _parts(origin) == _parts(settings.BASE_URL)


def _parts(address: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS.get(parts.scheme)


# A new one


def ask_for_new(session: SessionBase, user: User) -> dict[str, Any]:
    """Return what a browser needs to make a passkey for `user`, and keep the question in the session."""
    entity = PublicKeyCredentialUserEntity(id=user.pk.bytes, name=user.username, display_name=user.get_full_name())
    options, state = _server().register_begin(
        entity,
        credentials=_descriptors(user),  # a device is not asked twice
        resident_key_requirement=ResidentKeyRequirement.DISCOURAGED,
        user_verification=UserVerificationRequirement.PREFERRED,
    )
    _keep(session, _NEW, state)
    return _as_json(options)


def new_passkey(session: SessionBase, name: str, answer: str) -> Passkey:
    """Return the passkey, not saved yet, that answers the question in the session. Raises AccountError."""
    try:
        state, given = _take(session, _NEW), json.loads(answer)
        seen = _server().register_complete(state, given)
        return _passkey(seen, name, given["response"].get("transports"))
    except Exception as error:  # the library reads a stranger's JSON and CBOR, and raises whatever it meets
        raise _not_understood(error) from error


def _passkey(seen: AuthenticatorData, name: str, transports: Any) -> Passkey:
    attested = seen.credential_data
    if attested is None or attested.public_key.get(3) not in {kind.ALGORITHM for kind in _KINDS}:
        raise ValueError("not of a kind that was asked for")
    if len(attested.credential_id) > _LONGEST_ID:
        raise ValueError("longer than any id may be")
    named = transports if isinstance(transports, list) else []
    return Passkey(
        name=name,
        credential_id=attested.credential_id,
        public_key=bytes(attested),
        sign_count=seen.counter,
        transports=[transport for transport in _KNOWN_TRANSPORTS if transport in named],
    )


# A known one


def ask_for_proof(session: SessionBase, user: User) -> dict[str, Any]:
    """Return what a browser needs to use one of `user`'s passkeys, and keep the question in the session."""
    options, state = _server().authenticate_begin(
        credentials=_descriptors(user), user_verification=UserVerificationRequirement.PREFERRED
    )
    _keep(session, _PROOF, state)
    return _as_json(options)


def is_right(session: SessionBase, user: User, answer: str) -> bool:
    """Whether `answer` is that of one of `user`'s passkeys to the question in the session, which is over with it."""
    attested = {bytes(passkey.public_key): passkey for passkey in factors.passkeys(user)}
    try:
        state = _take(session, _PROOF)
        given = AuthenticationResponse.from_dict(json.loads(answer))
        used = _server().authenticate_complete(state, [AttestedCredentialData(each) for each in attested], given)
        count = given.response.authenticator_data.counter
    except Exception as error:  # as above
        _not_understood(error)
        return False
    return _use(attested[bytes(used)], count, state["challenge"])


def _use(passkey: Passkey, count: int, challenge: str) -> bool:
    """Whether the counter went on and the question was not answered before; notes both in one conditional statement.

    A counter that does not go on is a copy of the key (WebAuthn, section 6.1.1); those of password managers stay at 0.
    """
    answered = hashlib.sha256(challenge.encode()).hexdigest()
    has_gone_on = Q(sign_count__lt=count) if count else Q(sign_count=0)
    unused = Passkey.objects.filter(has_gone_on, pk=passkey.pk).exclude(answered=answered)
    if unused.update(sign_count=count, answered=answered, last_used_at=Now()):
        return True
    log.warning("second_factor.passkey_repeated", passkey=str(passkey.pk), count=count, known=passkey.sign_count)
    return False


# Both


def _descriptors(user: User) -> list[PublicKeyCredentialDescriptor]:
    return [
        PublicKeyCredentialDescriptor(
            type=PublicKeyCredentialType.PUBLIC_KEY,
            id=bytes(passkey.credential_id),
            transports=passkey.transports or None,  # type: ignore[arg-type]  # it takes their names
        )
        for passkey in factors.passkeys(user)
    ]


def _as_json(options: Any) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(options), default=dict))
    return plain


def _keep(session: SessionBase, name: str, state: Any) -> None:
    session[name] = {"state": state, "at": int(time.time())}


def _take(session: SessionBase, name: str) -> Any:
    """Return the question and forget it. Raises ValueError when there is none (any more)."""
    kept = session.pop(name, None)
    if kept is None or not 0 <= time.time() - kept["at"] < LASTS:
        raise ValueError("nothing was asked")
    return kept["state"]


def _not_understood(error: Exception) -> AccountError:
    # What kind of fault, not its words: they may quote what was sent.
    log.info("second_factor.passkey_refused", error=type(error).__name__)
    return AccountError("passkey_wrong")
