"""DSSE envelopes (https://github.com/secure-systems-lab/dsse, protocol v1.0.2): ed25519 keys, and P-256 for devices.

The payload is carried as exact bytes: what was signed is what is read.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable, Mapping

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import BaseModel, ConfigDict, Field

DIRECTOR_PAYLOAD = "application/vnd.fleetloop.director.v1+json"
REPORT_PAYLOAD = "application/vnd.fleetloop.install-report.v1+json"
RECORDING_PAYLOAD = "application/vnd.fleetloop.recording.v1+json"


class EnvelopeError(ValueError):
    """An envelope that must not be believed; the message says why."""


class Signature(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)
    keyid: str = Field(max_length=64)
    sig: str = Field(max_length=256)


class Envelope(BaseModel):
    """A signed payload; `payload` and `sig` are standard base64."""

    model_config = ConfigDict(frozen=True, populate_by_name=True, defer_build=True)
    payload_type: str = Field(alias="payloadType", max_length=200)
    payload: str = Field(max_length=1 << 20)
    signatures: tuple[Signature, ...] = Field(min_length=1, max_length=16)


def key_id(public: Ed25519PublicKey) -> str:
    """Name a key by its material: the sha256 of its 32 raw bytes, in hex."""
    return hashlib.sha256(public.public_bytes(Encoding.Raw, PublicFormat.Raw)).hexdigest()


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal_envelope(payload_type: str, payload: bytes, keys: Iterable[Ed25519PrivateKey]) -> Envelope:
    encoded = pre_authentication_encoding(payload_type, payload)
    signatures = tuple(
        Signature(keyid=key_id(key.public_key()), sig=base64.b64encode(key.sign(encoded)).decode()) for key in keys
    )
    return Envelope(payload_type=payload_type, payload=base64.b64encode(payload).decode(), signatures=signatures)


def open_envelope(
    envelope: Envelope, payload_type: str, trusted: Mapping[str, Ed25519PublicKey], threshold: int = 1
) -> bytes:
    """Return the payload once `threshold` distinct trusted keys have signed it.

    `trusted` maps key ids to keys; signatures count by key material, so one key under two names counts once.

    Raises:
        EnvelopeError: another payload type, broken base64, or too few good signatures.
    """
    payload, good = read_envelope(envelope, payload_type, trusted)
    if len(good) < threshold:
        raise EnvelopeError(f"{len(good)} of {threshold} needed signatures by trusted keys")
    return payload


def read_envelope(
    envelope: Envelope, payload_type: str, trusted: Mapping[str, Ed25519PublicKey]
) -> tuple[bytes, frozenset[str]]:
    """Return the payload and the ids of the trusted keys that really signed it, maybe none.

    Raises:
        EnvelopeError: another payload type, or broken base64.
    """
    if envelope.payload_type != payload_type:
        raise EnvelopeError(f"payload type is {envelope.payload_type!r}, expected {payload_type!r}")
    payload = _decode(envelope.payload)
    encoded = pre_authentication_encoding(payload_type, payload)
    return payload, frozenset(
        key_id(key)
        for signature in envelope.signatures
        if (key := trusted.get(signature.keyid)) is not None and _holds(key, signature, encoded)
    )


def device_key_id(public: EllipticCurvePublicKey) -> str:
    """Name a device's key: the sha256 of its SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def seal_device_envelope(payload_type: str, payload: bytes, keyid: str, sign: Callable[[bytes], str]) -> Envelope:
    """Seal with a device's key; `sign` returns the base64 of a DER ECDSA signature with SHA-256."""
    signature = Signature(keyid=keyid, sig=sign(pre_authentication_encoding(payload_type, payload)))
    return Envelope(payload_type=payload_type, payload=base64.b64encode(payload).decode(), signatures=(signature,))


def open_device_envelope(envelope: Envelope, payload_type: str, key: EllipticCurvePublicKey) -> bytes:
    """Return the payload once the device's P-256 key has signed it.

    Raises:
        EnvelopeError: another payload type, broken base64, another curve, or no good signature by this key.
    """
    if envelope.payload_type != payload_type:
        raise EnvelopeError(f"payload type is {envelope.payload_type!r}, expected {payload_type!r}")
    if not isinstance(key.curve, SECP256R1):
        raise EnvelopeError("a device key is on P-256")
    payload, keyid = _decode(envelope.payload), device_key_id(key)
    encoded = pre_authentication_encoding(payload_type, payload)
    for signature in envelope.signatures:
        if signature.keyid == keyid and _signed_by_device(key, signature, encoded):
            return payload
    raise EnvelopeError("no good signature by this device's key")


def _signed_by_device(key: EllipticCurvePublicKey, signature: Signature, encoded: bytes) -> bool:
    try:
        key.verify(_decode(signature.sig), encoded, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise EnvelopeError("not base64") from error


def _holds(key: Ed25519PublicKey, signature: Signature, encoded: bytes) -> bool:
    try:
        key.verify(_decode(signature.sig), encoded)
    except InvalidSignature:
        return False
    return True
