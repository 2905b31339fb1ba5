"""Both slots as they are on the disk, every file read and compared with what was signed; it changes nothing."""

import hashlib
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from agents.link import BlobStore
from agents.protocol.v1 import ReleaseManifest
from agents.sdk.files import read_bounded
from agents.sdk.layout import StateDir
from agents.update import Slot, Slots, State
from agents.update.journal import peek

_RELEASE: Final = ".release.json"
_BYTES: Final = 1 << 20


def slots(state: StateDir) -> list[dict[str, Any]]:
    journal, _ = peek(state.private / "journal.db")
    held = sorted(Slots(state, BlobStore(state.blobs)).held(), key=lambda slot: slot.name)
    return [_slot(state, journal, slot) for slot in held]


def _slot(state: StateDir, journal: State | None, slot: Slot) -> dict[str, Any]:
    folder = state.bundle_dir(slot.name, slot.counter, slot.content_digest)
    release, wrong = _release(folder), ["the release manifest cannot be read"]
    if release is not None:
        wrong = [file.path for file in release.content.files if _sha256(folder / file.path) != file.sha256]
        if release.content_digest != slot.content_digest or release.counter != slot.counter:
            wrong.append("the release manifest is of another release")
    found = state.read_active()
    active = found is not None and found[1].path == folder
    return {
        "slot": slot.name,
        "role": "active" if active else _role(journal, slot),
        "counter": slot.counter,
        "model": release.model if release else None,
        "version": release.version if release else None,
        "release_digest": slot.release_digest,
        "content_digest": slot.content_digest,
        "verified": not wrong,
        "wrong": wrong,
    }


def _role(journal: State | None, slot: Slot) -> str:
    for role in ("fallback", "candidate"):
        if journal is not None and getattr(journal, role) == slot:
            return role
    return "left over"


def _release(folder: Path) -> ReleaseManifest | None:
    try:
        return ReleaseManifest.model_validate_json(read_bounded(folder / _RELEASE, _BYTES) or b"")
    except ValidationError:
        return None


def _sha256(path: Path) -> str | None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError:
        return None
    return digest.hexdigest()
