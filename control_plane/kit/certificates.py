"""The built-in certificate authority of devices, and what a certificate or a signing request may say.

HOME/keys/device-ca.pem holds the authority's P-256 key and certificates (one file, 0600): the first certificate
belongs to the key and issues, further ones are only trusted, which is how an authority is replaced. An external
authority is the same file with its key and (intermediate) certificate in it.
"""

import hashlib
import re
import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypeGuard

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from control_plane.kit.errors import Invalid, Unauthenticated
from control_plane.kit.private_files import make_once

DEVICE_LIFE = timedelta(days=30)
SERVER_LIFE = timedelta(days=90)
AUTHORITY_LIFE = timedelta(days=3653)
CLOCK_SLACK = timedelta(hours=24)
"""Certificates begin earlier than now: a device whose clock is behind must be able to use what it was just given."""
MAX_CSR_BYTES = 4000
MAX_CERTIFICATE_BYTES = 8000
KEPT_CERTIFICATES = 20_000
DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}")
ISSUING, TRUSTED_MOST = 0, 8


@dataclass(frozen=True, slots=True)
class Presented:
    """Who a valid device certificate says its holder is."""

    device_id: str
    spki_sha256: str
    expires_at: datetime


def spki_sha256(key: EllipticCurvePublicKey) -> str:
    """Name a key by its material: the sha256 of its SubjectPublicKeyInfo, in hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


class Authority:
    """Issues certificates to devices and to this server, and judges what is presented."""

    def __init__(
        self, key: EllipticCurvePrivateKey, certificates: Sequence[x509.Certificate], trust_domain: str
    ) -> None:
        if not 0 < len(certificates) <= TRUSTED_MOST:
            raise Invalid(f"a device authority has 1 to {TRUSTED_MOST} certificates, not {len(certificates)}")
        if certificates[ISSUING].public_key() != key.public_key():
            raise Invalid("the first certificate of the device authority does not belong to its key")
        self._key, self._certificates = key, tuple(certificates)
        self._prefix = f"spiffe://{trust_domain}/device/"
        self._store = verification.Store(list(self._certificates))
        self._judged: OrderedDict[bytes, Presented] = OrderedDict()

    @property
    def pem(self) -> str:
        return "".join(each.public_bytes(Encoding.PEM).decode() for each in self._certificates)

    @property
    def sha256(self) -> str:
        """The fingerprint of the issuing certificate: what a device is told before its first contact."""
        return self._certificates[ISSUING].fingerprint(hashes.SHA256()).hex()

    def issue_device(self, key: EllipticCurvePublicKey, device_id: str, now: datetime) -> x509.Certificate:
        uri = x509.UniformResourceIdentifier(self._prefix + device_id)
        names = x509.SubjectAlternativeName([uri])
        return self._issue(key, device_id, names, ExtendedKeyUsageOID.CLIENT_AUTH, now, DEVICE_LIFE)

    def issue_server(self, names: Sequence[str], now: datetime) -> tuple[bytes, bytes]:
        """Return a fresh key and its chain, both PEM, for this server under these host names and addresses."""
        key = generate_private_key(SECP256R1())
        alternative = x509.SubjectAlternativeName([_host(name) for name in names])
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        made = self._issue(key.public_key(), "fleetloop", alternative, usage, now, SERVER_LIFE)
        return private_pem(key), made.public_bytes(Encoding.PEM) + self._certificates[ISSUING].public_bytes(
            Encoding.PEM
        )

    def judge(self, der: bytes, now: datetime) -> Presented:
        """Return whose certificate this is.

        Raises:
            Unauthenticated: not a certificate of ours, or not of a device, or not valid now.
        """
        known = self._judged.get(der)
        if known is None:
            known = self._judge(der, now)
            while len(self._judged) >= KEPT_CERTIFICATES:
                self._judged.popitem(last=False)
            self._judged[der] = known
        if known.expires_at <= now:
            raise Unauthenticated("this certificate has expired; renew it", code="certificate_expired")
        return known

    def _judge(self, der: bytes, now: datetime) -> Presented:
        if len(der) > MAX_CERTIFICATE_BYTES:
            raise Unauthenticated("this certificate is too large", code="bad_certificate")
        try:
            found = x509.load_der_x509_certificate(der)
            if found.not_valid_after_utc <= now:
                raise Unauthenticated("this certificate has expired; renew it", code="certificate_expired")
            verifier = verification.PolicyBuilder().store(self._store).time(now).build_client_verifier()
            verified = verifier.verify(found, [])
        except (ValueError, UnsupportedAlgorithm, verification.VerificationError, x509.InvalidVersion) as error:
            raise Unauthenticated(f"not a certificate of ours: {str(error)[:200]}", code="bad_certificate") from error
        names, key = verified.subjects or [], found.public_key()
        uris = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)]
        device_id = uris[0].removeprefix(self._prefix) if len(uris) == 1 else ""
        if len(names) != 1 or uris != [self._prefix + device_id] or not DEVICE_ID.fullmatch(device_id):
            raise Unauthenticated("this certificate names no device of ours", code="bad_certificate")
        if not is_p256(key):
            raise Unauthenticated("a device key is on P-256", code="bad_certificate")
        return Presented(device_id, spki_sha256(key), found.not_valid_after_utc)

    def _issue(
        self,
        key: EllipticCurvePublicKey,
        common_name: str,
        names: x509.SubjectAlternativeName,
        usage: x509.ObjectIdentifier,
        now: datetime,
        life: timedelta,
    ) -> x509.Certificate:
        issuer = self._certificates[ISSUING]
        builder = _builder(key, common_name, issuer.subject, now, min(now + life, issuer.not_valid_after_utc))
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(names, critical=False)
            .add_extension(authority, critical=False)
            .sign(self._key, hashes.SHA256())
        )


def load_authority(path: Path, trust_domain: str, now: datetime) -> Authority:
    """Return the authority kept at `path`, made if it is not there; two makers at once end with one.

    Raises:
        Invalid: the file can be read by others than its owner, or does not hold a P-256 key and its certificate.
    """
    if not path.exists():
        make_once(path, _new_authority(now))
    if path.stat().st_mode & 0o077:
        raise Invalid(f"{path} can be read by others than its owner; chmod 600 it")
    data = path.read_bytes()
    try:
        key, certificates = load_pem_private_key(data, None), x509.load_pem_x509_certificates(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Invalid(f"{path} does not hold a key and its certificates: {error}") from error
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise Invalid(f"{path} does not hold a P-256 key")
    return Authority(key, certificates, trust_domain)


def read_csr(pem: str) -> EllipticCurvePublicKey:
    """Return the key of a signing request. It may ask for nothing: we alone say what a certificate holds.

    Raises:
        Invalid: not a request signed by its own P-256 key, or one that asks for names or powers.
    """
    if len(pem) > MAX_CSR_BYTES:
        raise Invalid(f"a signing request has at most {MAX_CSR_BYTES} bytes", code="bad_csr")
    try:
        found = x509.load_pem_x509_csr(pem.encode())
        key, good, asked = found.public_key(), found.is_signature_valid, list(found.extensions)
    except (ValueError, UnsupportedAlgorithm, InvalidSignature, x509.DuplicateExtension) as error:
        raise Invalid(f"not a signing request: {str(error)[:200]}", code="bad_csr") from error
    if not is_p256(key):
        raise Invalid("a device key is on P-256", code="bad_csr")
    if not good:
        raise Invalid("the signing request is not signed by its own key", code="bad_csr")
    if asked:
        named = ", ".join(each.oid.dotted_string for each in asked[:5])
        raise Invalid(f"a signing request asks for no extensions; this one asks for {named}", code="bad_csr")
    return key


def is_p256(key: object) -> TypeGuard[EllipticCurvePublicKey]:
    return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


def private_pem(key: EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _new_authority(now: datetime) -> bytes:
    key = generate_private_key(SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"fleetloop devices {secrets.token_hex(4)}")])
    made = (
        _builder(key.public_key(), name, name, now, now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(key_cert_sign=True), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return private_pem(key) + made.public_bytes(Encoding.PEM)


def _builder(
    key: EllipticCurvePublicKey, subject: str | x509.Name, issuer: x509.Name, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    if isinstance(subject, str):
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SLACK)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, digital_signature: bool = False, key_cert_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
