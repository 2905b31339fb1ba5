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


@dataclass(frozen=True, slots=True)
class Signer:
    private: Ed25519PrivateKey

    @property
    def public_hex(self) -> str:
        return self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()


def load_signer(folder: Path, name: str) -> Signer:
    """Return the key NAME of a folder, making it if it is not there; two makers at once end with one key."""
    path = folder / f"{name}.pem"
    fresh = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = load_pem_private_key(_read_or_make(path, fresh), None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError(f"{path} does not hold an ed25519 key")
    return Signer(key)


def load_secret(folder: Path, name: str) -> bytes:
    return _read_or_make(folder / name, secrets.token_bytes(32))


def _read_or_make(path: Path, fresh: bytes) -> bytes:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(fresh)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(temporary, path)  # fails if another process was first: then its key is ours too
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return path.read_bytes()
