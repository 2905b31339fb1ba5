"""How a device signs a request with the P-256 key made at enrolment.

Headers: `Fleetloop-Device` (device id) and `Fleetloop-Signature` (base64 of the DER ECDSA signature over
`signing_input`, SHA-256). A replayed request changes nothing: check-ins carry a sequence number, everything else is
idempotent. Behind mTLS (the production path) the certificate takes this place.
"""

import hashlib


def signing_input(method: str, target: str, body: bytes) -> bytes:
    """Return the bytes to sign: method, path with query, and the sha256 of the body."""
    return f"fleetloop-request-v1\n{method.upper()}\n{target}\n{hashlib.sha256(body).hexdigest()}".encode()


def signing_input_of_digest(method: str, target: str, body_sha256: str) -> bytes:
    """Return what `signing_input` returns, for a body that is a file whose sha256 is already known."""
    return f"fleetloop-request-v1\n{method.upper()}\n{target}\n{body_sha256}".encode()
