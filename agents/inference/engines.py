"""Engines built on this device, kept by all they depend on, and used again only if they are still what was built.

An engine is native code. One that came from elsewhere, lost a byte or has no known machine under it is built anew.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from agents.protocol.v1 import canonical_json, digest_of, strict_json
from agents.sdk.files import read_bounded, sync_directory, write_whole

_MANIFEST: Final = "built.json"
_MANIFEST_BYTES: Final = 64 << 10
_FILES_MAX: Final = 64
_KEPT: Final = 4


@dataclass(frozen=True)
class EngineKey:
    """All that an engine depends on; TensorRT's default engines run on the exact version that built them."""

    onnx_sha256: str
    tensorrt: str
    cuda: str
    gpu_sm: str
    board: str
    l4t: str
    precision: str
    shapes: str
    workspace_mb: int
    dla: bool

    def digest(self) -> str:
        return digest_of(asdict(self))


def engine_key(
    onnx_sha256: str, machine: Mapping[str, object], *, precision: str, shapes: str, workspace_mb: int, dla: bool
) -> EngineKey | None:
    """Return the key of an engine on this machine; None if the machine does not tell what an engine depends on."""
    said = {name: str(machine.get(source) or "") for name, source in _SOURCES.items()}
    if not all(said.values()):
        return None
    return EngineKey(onnx_sha256, **said, precision=precision, shapes=shapes, workspace_mb=workspace_mb, dla=dla)


_SOURCES: Final = {"tensorrt": "tensorrt", "cuda": "cuda", "gpu_sm": "gpu_sm", "board": "model", "l4t": "l4t"}


class EngineCache:
    """Folders of files by key, in a place only the agent writes to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def built(self, key: EngineKey) -> Path | None:
        """Return the folder of an engine if every file in it is what was built here; a wrong one is removed."""
        folder = self._folder / key.digest()
        if _as_built(folder, key):
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        return None

    def building(self, key: EngineKey) -> Path:
        """Return an empty folder to build into."""
        folder = self._folder / f".building-{key.digest()}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        return folder

    def keep(self, key: EngineKey) -> Path:
        """Take over what was built, with its hashes, and drop the oldest ones."""
        source, folder = self._folder / f".building-{key.digest()}", self._folder / key.digest()
        files = {path.name: file_sha256(path) for path in sorted(source.iterdir())[:_FILES_MAX]}
        write_whole(source / _MANIFEST, canonical_json({"key": asdict(key), "files": files}), durable=True)
        shutil.rmtree(folder, ignore_errors=True)
        source.replace(folder)
        sync_directory(self._folder)
        others = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for old in [path for path in others if path != folder][_KEPT - 1 :]:
            shutil.rmtree(old, ignore_errors=True)
        return folder


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _as_built(folder: Path, key: EngineKey) -> bool:
    data = read_bounded(folder / _MANIFEST, _MANIFEST_BYTES)
    try:
        said = strict_json(data, _MANIFEST_BYTES) if data else {}
        if said.get("key") != json.loads(canonical_json(asdict(key))):
            return False
        there = {path.name for path in folder.iterdir()} - {_MANIFEST}
        return there == set(said["files"]) and all(
            not (folder / name).is_symlink() and file_sha256(folder / name) == digest
            for name, digest in said["files"].items()
        )
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        return False
