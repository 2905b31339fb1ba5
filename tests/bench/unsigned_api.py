"""The API with one thing left out: what the director says is not signed. No device would believe it; a floor only."""

import base64
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agents.protocol import v1 as wire
from control_plane import main

_signed = wire.seal_envelope


def seal_envelope(payload_type: str, payload: bytes, keys: Iterable[Ed25519PrivateKey]) -> wire.Envelope:
    if payload_type != wire.DIRECTOR_PAYLOAD:
        return _signed(payload_type, payload, keys)
    signature = {"keyid": "0" * 64, "sig": base64.b64encode(bytes(64)).decode()}
    encoded = base64.b64encode(payload).decode()
    return wire.Envelope.model_validate({"payloadType": payload_type, "payload": encoded, "signatures": [signature]})


if __name__ == "__main__":
    wire.seal_envelope = seal_envelope
    main.main()
