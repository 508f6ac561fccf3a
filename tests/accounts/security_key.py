"""A security key in software, and the browser that speaks for it: what people plug in, for tests without a browser."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from django.conf import settings
from fido2.cose import ES256
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import (
    Aaguid,
    AttestationObject,
    AttestedCredentialData,
    AuthenticatorData,
    CollectedClientData,
)

PRESENT, VERIFIED, ATTESTED = 0x01, 0x04, 0x40


FLAG = AuthenticatorData.FLAG


@dataclass
class SecurityKey:
    """One key pair; `count` goes on with every use, unless it is one that does not count (None)."""

    count: int | None = 0
    origin: str = field(default_factory=lambda: settings.BASE_URL)
    rp_id: str = "localhost"
    flags: int = PRESENT | VERIFIED
    private_key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential_id: bytes = b"credential of the software key"

    def register(self, question: dict[str, Any], **other: Any) -> str:
        """Answer the question for a new passkey."""
        attested = AttestedCredentialData.create(
            Aaguid.NONE, self.credential_id, ES256.from_cryptography_key(self.private_key.public_key())
        )
        seen = AuthenticatorData.create(
            self._rp_hash(), FLAG(self.flags | ATTESTED), self._next_count(), bytes(attested)
        )
        said = self._client_data("webauthn.create", question, **other)
        attestation = AttestationObject.create("none", seen, {})
        return self._answer(said, attestationObject=websafe_encode(bytes(attestation)), transports=["usb", "odd"])

    def prove(self, question: dict[str, Any], **other: Any) -> str:
        """Answer the question for a known passkey."""
        seen = AuthenticatorData.create(self._rp_hash(), FLAG(self.flags), self._next_count())
        said = self._client_data("webauthn.get", question, **other)
        signature = self.private_key.sign(bytes(seen) + said.hash, ec.ECDSA(SHA256()))
        return self._answer(said, authenticatorData=websafe_encode(bytes(seen)), signature=websafe_encode(signature))

    def _next_count(self) -> int:
        if self.count is None:
            return 0
        self.count += 1
        return self.count

    def _rp_hash(self) -> bytes:
        return hashlib.sha256(self.rp_id.encode()).digest()

    def _client_data(self, kind: str, question: dict[str, Any], challenge: bytes | None = None) -> CollectedClientData:
        asked = websafe_decode(question["publicKey"]["challenge"]) if challenge is None else challenge
        return CollectedClientData.create(kind, asked, self.origin)

    def _answer(self, said: CollectedClientData, **response: Any) -> str:
        name = websafe_encode(self.credential_id)
        answer = {"id": name, "rawId": name, "type": "public-key", "clientExtensionResults": {}}
        return json.dumps(answer | {"response": {**response, "clientDataJSON": websafe_encode(bytes(said))}})
