"""The keys of this installation by role: `keys.json` says where each lives, securesystemslib's signers use them.

A key is a URI: `file2:online/releases.pem` (relative to the folder of `keys.json`), `awskms:`, `gcpkms:`, `azurekms:`,
`hv:` (Vault) or `hsm:` (PKCS#11). Only public parts and URIs stand in `keys.json`. A role may have several keys: the
metadata being signed says by key id which of them counts, so an old and a new key can lie side by side.
"""

import base64
import json
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.exceptions import Error as SslibError
from securesystemslib.signer import Signer as UriSigner
from securesystemslib.signer import SSlibKey

from agents.protocol.v1 import Envelope, Signature, key_id, pre_authentication_encoding, strict_json
from control_plane.kit.errors import Invalid, Refused, Unavailable
from control_plane.kit.signing.files import Signer, check_private, read_signer

FILE: Final = "file2:"
INDEX: Final = "keys.json"
SCHEMA: Final = "fleetloop.keys/v1"
MAX_INDEX_BYTES: Final = 1 << 20
MAX_KEYS_PER_ROLE: Final = 16


@dataclass(frozen=True, slots=True)
class KeyEntry:
    uri: str
    public: SSlibKey

    @property
    def keyid(self) -> str:
        return self.public.keyid

    @property
    def public_text(self) -> str:
        """Return the public key: 64 hex digits for ed25519, else PEM."""
        text: str = self.public.keyval["public"]
        return text

    def as_json(self) -> dict[str, str]:
        key = self.public
        kind = {"keyid": key.keyid, "keytype": key.keytype, "scheme": key.scheme}
        return {"uri": self.uri, **kind, "public": self.public_text}


def public_key_of(material: PublicKeyTypes) -> SSlibKey:
    """Name an ed25519 key as the wire does (sha256 of its raw bytes), any other as securesystemslib does."""
    if isinstance(material, Ed25519PublicKey):
        return SSlibKey.from_crypto(material, keyid=key_id(material))
    return SSlibKey.from_crypto(material)


def read_public(text: str) -> SSlibKey:
    """Return a public key written as 64 hex digits (ed25519) or PEM."""
    try:
        if len(text.strip()) == 64:
            return public_key_of(Ed25519PublicKey.from_public_bytes(bytes.fromhex(text.strip())))
        return public_key_of(load_pem_public_key(text.encode()))
    except (ValueError, TypeError) as error:
        raise Invalid("not a public key: give 64 hex digits of an ed25519 key, or PEM", code="key_broken") from error


def file_entry(folder: Path, name: str) -> KeyEntry:
    """Return the entry of the ed25519 key in a file, NAME.pem under the folder of `keys.json`."""
    signer = read_signer(folder / f"{name}.pem")
    return KeyEntry(f"{FILE}{name}.pem", public_key_of(signer.private.public_key()))


class Keyring:
    """Keys by role. `keys.json` is read again when it changes; private keys are loaded when first used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read_at_ns = -1
        self._roles: dict[str, tuple[KeyEntry, ...]] = {}
        self._signers: dict[str, UriSigner] = {}
        self._raw: dict[str, Signer] = {}

    @classmethod
    def open(cls, folder: Path) -> "Keyring":
        """Open a folder's keys, which may not exist yet.

        Raises:
            Refused: a private key file is readable by others, or `keys.json` can be changed by others.
        """
        ring = cls(folder)
        for entry in (each for role in ring.roles for each in ring.entries(role)):
            path = ring.path_of(entry)
            if path is not None and path.exists():
                check_private(path)
        return ring

    @property
    def ready(self) -> bool:
        """Say whether `fleetloop keys init` has been here."""
        return (self.folder / INDEX).exists()

    @property
    def roles(self) -> tuple[str, ...]:
        self._refresh()
        return tuple(self._roles)

    def entries(self, role: str) -> tuple[KeyEntry, ...]:
        """Return a role's keys, oldest first."""
        self._refresh()
        return self._roles.get(role, ())

    def add(self, role: str, entry: KeyEntry) -> None:
        """Append a key to a role, unless it is there; the file is replaced at once and lasts."""
        held = self.entries(role)
        if entry.keyid in {each.keyid for each in held}:
            return
        if len(held) >= MAX_KEYS_PER_ROLE:
            raise Invalid(f"{role} has {len(held)} keys; take old ones out of {INDEX} first", code="too_many_keys")
        self._roles[role] = (*held, entry)
        plain = {role: [each.as_json() for each in entries] for role, entries in self._roles.items()}
        write_durably(self.folder / INDEX, json.dumps({"schema": SCHEMA, "roles": plain}, indent=1).encode() + b"\n")
        self._read_at_ns = (self.folder / INDEX).stat().st_mtime_ns

    def signers(self, role: str, keyids: Collection[str], threshold: int) -> list[UriSigner]:
        """Return signers for `threshold` of these keys.

        Raises:
            Refused: this installation does not hold enough of them.
        """
        held = [each for name in self.roles for each in self.entries(name) if each.keyid in keyids]
        found = list({each.keyid: each for each in held}.values())[:threshold]
        if len(found) < threshold:
            wanted = ", ".join(sorted(each[:12] for each in keyids))
            raise Refused(
                f"{role} must be signed by {threshold} of the keys {wanted}; {INDEX} here has {len(found)}",
                code="signing_key_missing",
            )
        return [self.signer(each) for each in found]

    def raw(self, role: str, allowed: Collection[str] | None = None) -> Signer:
        """Return a role's newest ed25519 file key itself, for signing thousands of times a second.

        `allowed`: key ids that count; the newest of them is taken.

        Raises:
            Refused: the role has no such key, or it lives outside this machine.
        """
        for entry in reversed(self.entries(role)):
            path = self.path_of(entry)
            if path is not None and (allowed is None or entry.keyid in allowed):
                if entry.keyid not in self._raw:
                    self._raw[entry.keyid] = self._checked(read_signer(path), entry)
                return self._raw[entry.keyid]
        raise Refused(f"there is no key file for {role} in {self.folder / INDEX}", code="signing_key_missing")

    def seal(self, role: str, payload_type: str, payload: bytes, allowed: Collection[str] | None = None) -> Envelope:
        """Sign a payload with a role's newest key that counts, wherever it lives; may wait for a network.

        Raises:
            Refused: the role has no such key here, or it cannot be used.
        """
        entry = next((e for e in reversed(self.entries(role)) if allowed is None or e.keyid in allowed), None)
        if entry is None:
            raise Refused(f"there is no key for {role} in {self.folder / INDEX}", code="signing_key_missing")
        made = self.signer(entry).sign(pre_authentication_encoding(payload_type, payload))
        sig = base64.b64encode(bytes.fromhex(made.signature)).decode()
        return Envelope(
            payload_type=payload_type,
            payload=base64.b64encode(payload).decode(),
            signatures=(Signature(keyid=entry.keyid, sig=sig),),
        )

    def path_of(self, entry: KeyEntry) -> Path | None:
        """Return where a file key lies; None for a key elsewhere."""
        return self.folder / entry.uri.removeprefix(FILE) if entry.uri.startswith(FILE) else None

    def signer(self, entry: KeyEntry) -> UriSigner:
        """Return the signer of one key, wherever it lives.

        Raises:
            Refused: it cannot be reached or used.
        """
        if entry.keyid not in self._signers:
            path = self.path_of(entry)
            if path is not None and path.exists():
                check_private(path)
            uri = entry.uri if path is None else f"{FILE}{path.resolve()}"
            try:
                self._signers[entry.keyid] = UriSigner.from_priv_key_uri(uri, entry.public)
            except OSError as error:
                raise Refused(f"the key {entry.uri} cannot be read: {error}", code="signing_key_missing") from error
            except (ValueError, SslibError, ImportError) as error:
                raise Refused(f"the key {entry.uri} cannot be used: {error}", code="signing_key_broken") from error
        return self._signers[entry.keyid]

    def _checked(self, signer: Signer, entry: KeyEntry) -> Signer:
        if signer.public_hex != entry.public_text:
            raise Refused(f"the key {entry.uri} is not the one {INDEX} names", code="signing_key_broken")
        return signer

    def _refresh(self) -> None:
        path = self.folder / INDEX
        try:
            found = path.stat()
        except FileNotFoundError:
            return
        if found.st_mtime_ns == self._read_at_ns:
            return
        if found.st_mode & 0o022:
            raise Refused(f"{path} can be changed by others; run: chmod 644 {path}", code="key_file_exposed")
        try:
            self._roles = _parse(path.read_bytes())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"{path} cannot be read: {error}", code="key_index_broken") from error
        self._read_at_ns = found.st_mtime_ns


def _parse(data: bytes) -> dict[str, tuple[KeyEntry, ...]]:
    plain: Any = strict_json(data, MAX_INDEX_BYTES)
    if plain["schema"] != SCHEMA:
        raise ValueError(f"schema is not {SCHEMA}")
    return {role: tuple(read_entry(each) for each in entries) for role, entries in plain["roles"].items()}


def read_entry(plain: dict[str, str]) -> KeyEntry:
    """Read what `KeyEntry.as_json` gave; raises ValueError or KeyError."""
    public = SSlibKey(plain["keyid"], plain["keytype"], plain["scheme"], {"public": plain["public"]})
    if public.keytype == "ed25519" and read_public(plain["public"]).keyid != public.keyid:
        raise ValueError(f"key {public.keyid[:12]} is named after another key")
    return KeyEntry(plain["uri"], public)


def write_durably(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file so that a power cut leaves the old bytes or the new ones, and the new ones stay."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
