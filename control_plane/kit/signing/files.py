"""Ed25519 keys in files, made on first use, readable by their owner only."""

import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from control_plane.kit.errors import Invalid, Refused
from control_plane.kit.private_files import make_once

MAX_KEY_FILE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Signer:
    private: Ed25519PrivateKey

    @property
    def public_hex(self) -> str:
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def check_private(path: Path) -> None:
    """Refuse a private file that others can read or write, or that belongs to somebody else."""
    found = path.stat()
    if found.st_mode & 0o077:
        raise Refused(
            f"{path} can be read or written by others (mode {found.st_mode & 0o777:04o}); run: chmod 600 {path}",
            code="key_file_exposed",
        )
    if found.st_uid != os.geteuid():
        raise Refused(
            f"{path} belongs to user {found.st_uid}, this process is user {os.geteuid()}", code="key_file_exposed"
        )


def load_signer(folder: Path, name: str) -> Signer:
    """Return the key NAME of a folder, making it if it is not there; two makers at once end with one key."""
    path = folder / f"{name}.pem"
    fresh = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    make_once(path, fresh)
    return read_signer(path)


def read_signer(path: Path) -> Signer:
    """Return the ed25519 key of a file.

    Raises:
        Invalid: it holds no such key.
        Refused: others can read it.
    """
    try:
        check_private(path)
        if path.stat().st_size > MAX_KEY_FILE_BYTES:
            raise Invalid(f"{path} is too large for a key", code="key_file_broken")
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError as error:
        raise Invalid(f"there is no key file {path}", code="key_file_missing") from error
    except (ValueError, TypeError) as error:
        raise Invalid(f"{path} does not hold a private key without password", code="key_file_broken") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise Invalid(f"{path} does not hold an ed25519 key", code="key_file_broken")
    return Signer(key)


def load_secret(folder: Path, name: str) -> bytes:
    path = folder / name
    make_once(path, secrets.token_bytes(32))
    check_private(path)
    return path.read_bytes()
