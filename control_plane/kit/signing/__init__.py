"""Signing keys: files of this machine (`files`), and a keyring by role whose keys may live anywhere (`keyring`)."""

from control_plane.kit.signing.beside import BesideSigner
from control_plane.kit.signing.files import Signer, check_private, load_secret, load_signer, read_signer
from control_plane.kit.signing.keyring import (
    KeyEntry,
    Keyring,
    file_entry,
    public_key_of,
    read_entry,
    read_public,
    write_durably,
)

__all__ = [
    "BesideSigner",
    "KeyEntry",
    "Keyring",
    "Signer",
    "check_private",
    "file_entry",
    "load_secret",
    "load_signer",
    "public_key_of",
    "read_entry",
    "read_public",
    "read_signer",
    "write_durably",
]
