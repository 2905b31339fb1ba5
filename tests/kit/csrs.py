"""Signing requests that must be refused, by what is wrong with them."""

from collections.abc import Callable

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.support.identity import csr

Key = ec.EllipticCurvePrivateKey


def _tampered(key: Key) -> str:
    der = bytearray(x509.load_pem_x509_csr(csr(key).encode()).public_bytes(Encoding.DER))
    der[-1] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(Encoding.PEM).decode()


def _named(*names: x509.GeneralName) -> Callable[[Key], str]:
    return lambda key: csr(key, x509.SubjectAlternativeName(names))


def _of(make: Callable[[], object], algorithm: hashes.HashAlgorithm | None = None) -> Callable[[Key], str]:
    def made(_: Key) -> str:
        key = make()
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.sign(key, algorithm).public_bytes(Encoding.PEM).decode()  # type: ignore[arg-type] # kinds differ

    return made


BAD_CSRS: dict[str, Callable[[Key], str]] = {
    "CA:TRUE": lambda key: csr(key, x509.BasicConstraints(ca=True, path_length=None)),
    "another device's name": _named(x509.UniformResourceIdentifier("spiffe://fleetloop/device/dev_other")),
    "a host name": _named(x509.DNSName("localhost")),
    "a server's usage": lambda key: csr(key, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])),
    "RSA 1024": _of(lambda: rsa.generate_private_key(65537, 1024), hashes.SHA256()),  # noqa: S505 - weak on purpose
    "RSA 3072": _of(lambda: rsa.generate_private_key(65537, 3072), hashes.SHA256()),
    "P-192": _of(lambda: ec.generate_private_key(ec.SECP192R1()), hashes.SHA256()),
    "P-384": _of(lambda: ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
    "ed25519": _of(ed25519.Ed25519PrivateKey.generate),
    "not signed by its key": _tampered,
    "1 MB": lambda key: csr(key) + " " * (1 << 20),
    "larger than read": lambda key: csr(key) + "\n" * 4000,
    "no request": lambda _: "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    "empty": lambda _: "",
}
