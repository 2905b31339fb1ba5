"""What a device shows and believes in TLS: its certificate and key, and the one authority it was told of.

Three files beside each other: `key.pem`, `device.crt`, `device-ca.pem`. Without the last one servers are judged by the
machine's trust store; with it by nothing else, and no trust store is loaded.
"""

import contextlib
import ssl
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import httpx
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from agents.link.errors import LinkError
from agents.protocol.v1 import canonical_json, sha256_hex, strict_json
from agents.sdk.files import read_bounded, write_whole

CA_BYTES: Final = 32_000
CERTIFICATE_BYTES: Final = 8_000
_FIRST_CONTACT_S: Final = 20.0


class Credentials:
    def __init__(self, folder: Path) -> None:
        self.key, self.certificate, self.ca = folder / "key.pem", folder / "device.crt", folder / "device-ca.pem"

    def store(self, certificate_pem: str, ca_pem: str | None = None) -> None:
        """Keep what the server gave; an authority is replaced only where there is a pinned one already."""
        if ca_pem is not None:
            write_whole(self.ca, ca_pem.encode(), durable=True)
        write_whole(self.certificate, certificate_pem.encode(), durable=True)

    @property
    def pinned(self) -> bool:
        return self.ca.exists()

    def valid(self) -> "tuple[datetime, datetime] | None":
        """Return from when to when the certificate is good; None without one that can be read."""
        data = read_bounded(self.certificate, CERTIFICATE_BYTES)
        if not data:
            return None
        known = self._noted(data)
        if known is None:
            known = _validity(data)
            if known is not None:
                self._note(data, known)
        return known

    def _noted(self, data: bytes) -> "tuple[datetime, datetime] | None":
        """Return what was read of this very certificate before: reading it loads megabytes that are not needed else."""
        try:
            said = strict_json(read_bounded(self._notes, CERTIFICATE_BYTES) or b"{}", CERTIFICATE_BYTES)
            if said.get("sha256") != sha256_hex(data):
                return None
            return datetime.fromisoformat(said["from"]), datetime.fromisoformat(said["until"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def _note(self, data: bytes, valid: "tuple[datetime, datetime]") -> None:
        said = {"sha256": sha256_hex(data), "from": valid[0].isoformat(), "until": valid[1].isoformat()}
        with contextlib.suppress(OSError):
            write_whole(self._notes, canonical_json(said), durable=False)

    @property
    def _notes(self) -> Path:
        return self.certificate.with_suffix(".json")

    def files(self) -> "dict[str, str] | None":
        """Return the paths for a program that opens TLS itself; None where nothing is pinned."""
        if not self.pinned:
            return None
        files = {"ca": str(self.ca)}
        return (
            files | {"certificate": str(self.certificate), "key": str(self.key)} if self.certificate.exists() else files
        )

    def context(self, *, bare: bool = False) -> "tuple[ssl.SSLContext, bool]":
        """Return a context and whether it shows a certificate; one that is over is not shown, nor is one if `bare`."""
        context = pinned_context(self.ca.read_text()) if self.pinned else ssl.create_default_context()
        valid = self.valid()
        if bare or valid is None or valid[1] <= datetime.now(timezone.utc):
            return context, False
        with contextlib.suppress(ssl.SSLError):  # the certificate of a key that a power cut left behind
            context.load_cert_chain(self.certificate, self.key)
            return context, True
        return context, False


def pinned_context(ca_pem: str) -> ssl.SSLContext:
    """Return a context that believes this authority and nobody else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=ca_pem)
    except (ssl.SSLError, ValueError) as error:
        raise LinkError("bad_authority", "the device authority is not a PEM certificate") from error
    return context


async def fetch_ca(server: str, ca_sha256: str) -> str:
    """Return the authority (PEM) with this fingerprint from a server that nothing is known of yet.

    The connection is not judged, and nothing secret goes over it; what comes is believed by its digest alone.

    Raises:
        LinkError: not reachable, or no certificate there has the fingerprint.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    url = f"{server.rstrip('/')}/device/v1/ca"
    body = bytearray()
    try:
        async with (
            httpx.AsyncClient(verify=context, timeout=_FIRST_CONTACT_S, follow_redirects=False) as http,
            http.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > CA_BYTES:
                    raise LinkError("too_large", "the server's authority is too large")
    except httpx.HTTPError as error:
        raise LinkError("server_unreachable", f"{server}: {error or type(error).__name__}") from error
    return _with_fingerprint(bytes(body), ca_sha256)


def _validity(data: bytes) -> "tuple[datetime, datetime] | None":
    from cryptography import x509  # noqa: PLC0415 - 2.4 MB that an idle agent does without

    try:
        found = x509.load_pem_x509_certificate(data)
    except ValueError:
        return None
    return found.not_valid_before_utc, found.not_valid_after_utc


def _with_fingerprint(data: bytes, ca_sha256: str) -> str:
    from cryptography import x509  # noqa: PLC0415 - 2.4 MB that an idle agent does without

    try:
        found = x509.load_pem_x509_certificates(data)
    except ValueError:
        found = []
    for each in found:
        if each.fingerprint(SHA256()).hex() == ca_sha256:
            return each.public_bytes(Encoding.PEM).decode()
    raise LinkError("wrong_authority", "the server's authority is not the one whose fingerprint came with the token")
