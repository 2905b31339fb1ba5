"""What a process of the server holds open: settings, database, objects, signing keys."""

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.kit.certificates import Authority
from control_plane.kit.db import Database
from control_plane.kit.objects import ObjectStore
from control_plane.kit.replica import Reader
from control_plane.kit.settings import Settings
from control_plane.kit.signing import Keyring, Signer


@dataclass(frozen=True, slots=True)
class Context:
    settings: Settings
    database: Database
    reader: Reader
    objects: ObjectStore
    signers: Mapping[str, Signer]
    keyring: Keyring
    device_ca: Authority | None = None
