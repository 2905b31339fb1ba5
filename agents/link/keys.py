"""The device's P-256 key: made here, kept here (0600), never sent."""

import base64
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from agents.protocol.v1 import device_key_id
from agents.sdk.files import write_whole


class DeviceKey:
    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private

    @classmethod
    def load_or_make(cls, path: Path) -> "DeviceKey":
        """Return the key at `path`; the first call makes it, durably, before anything is signed with it."""
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = ec.generate_private_key(ec.SECP256R1())
            pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            write_whole(path, pem, durable=True, mode=0o600)
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)
        loaded = load_pem_private_key(path.read_bytes(), None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey) or loaded.curve.name != "secp256r1":
            raise ValueError(f"{path} holds no P-256 key")
        return cls(loaded)

    @property
    def public_pem(self) -> str:
        return self._private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def key_id(self) -> str:
        return device_key_id(self._private.public_key())

    def csr_pem(self) -> str:
        """Return a signing request that asks for nothing: the server alone says what the certificate holds."""
        from cryptography import x509  # noqa: PLC0415 - 2.4 MB that an idle agent does without

        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(self._private, SHA256()).public_bytes(Encoding.PEM).decode()

    def become(self, other: "DeviceKey") -> None:
        """Sign with another key from now on, wherever this one is held."""
        self._private = other.private

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        return self._private

    def sign(self, data: bytes) -> str:
        """Return the base64 of a DER ECDSA signature with SHA-256."""
        return base64.b64encode(self._private.sign(data, ec.ECDSA(SHA256()))).decode()
