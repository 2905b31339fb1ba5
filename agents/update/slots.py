"""Two slots and one link. A bundle appears in a slot whole, and the link moves in one rename.

    slots/a/7.CONTENT_DIGEST/   model.onnx ... .release.json     read-only, hard links to verified blobs
    slots/b/9.CONTENT_DIGEST/   ...
    active -> slots/a/7.CONTENT_DIGEST

The active slot is never written to. What may be switched is decided elsewhere.
"""

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from agents.link import BlobStore
from agents.protocol.v1 import BundleFile, ReleaseManifest, sha256_hex, strict_json
from agents.sdk.files import read_bounded, sync_directory, write_new
from agents.sdk.layout import StateDir
from agents.update.machine import Slot

# A file system without hard links, one that ends between blobs and slots, or too many links.
_NO_LINKS: Final = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}
_RELEASE: Final = ".release.json"
_EVIDENCE: Final = ".attestations.jsonl"
_RELEASE_BYTES: Final = 1 << 20


class DamagedError(OSError):
    """`slot` does not hold what was verified, and must not become active."""

    def __init__(self, slot: Slot) -> None:
        super().__init__(f"slot {slot.name} no longer holds what was verified")
        self.slot = slot


class Slots:
    def __init__(self, state: StateDir, blobs: BlobStore) -> None:
        self._state, self._blobs = state, blobs

    def path(self, slot: Slot) -> Path:
        return self._state.bundle_dir(slot.name, slot.counter, slot.content_digest)

    def linked(self) -> tuple[str, int, str] | None:
        """Return slot, counter and content of what the link points to, if it points anywhere."""
        found = self._state.read_active()
        return None if found is None else (found[0], found[1].release_counter, found[1].content_digest)

    def staged(self, slot: Slot) -> bool:
        """Say whether the slot is written, and untouched since: what was sealed and is no more is not staged.

        It reads no model: a slot written before this process began is read by `intact` at the start.
        """
        folder, seals = self.path(slot), self._blobs.seals
        try:
            return self.present(slot) and all(
                seals.unbroken(folder / name, digest) is not False for name, digest in _held(folder)
            )
        except OSError:
            return False

    def present(self, slot: Slot) -> bool:
        # The name appears in one rename after everything in it was verified and synced.
        return self.path(slot).is_dir()

    def stage(self, slot: Slot, release: bytes, evidence: bytes | None = None) -> None:
        """Fill a slot that is not active from verified blobs; `evidence` is why the release was let in.

        Raises:
            OSError: disk full, a blob missing or no longer what it was; the slot is then empty.
        """
        linked = self.linked()
        if linked is not None and linked[0] == slot.name:
            raise OSError(f"slot {slot.name} is active and is not written to")
        folder = self._state.slots / slot.name
        empty(folder)
        building = folder / ".building"
        building.mkdir(parents=True)
        for file in _content(release):
            self._place(file, building / file.path)
        write_new(building / _RELEASE, release, mode=0o444)
        if evidence is not None:
            write_new(building / _EVIDENCE, evidence, mode=0o444)
        _make_durable(building)
        building.rename(self.path(slot))
        sync_directory(folder)
        sync_directory(self._state.slots)

    def switch(self, slot: Slot | None) -> None:
        """Point the link at a slot, or nowhere; durable when this returns.

        Raises:
            DamagedError: the slot no longer holds what was verified; the link is as it was.
        """
        link = self._state.active
        if slot is not None and not self.trustworthy(slot):
            raise DamagedError(slot)
        if slot is None:
            link.unlink(missing_ok=True)
        else:
            temporary = link.with_name(".active.tmp")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(self.path(slot).relative_to(self._state.root))
            temporary.replace(link)
        sync_directory(self._state.root)

    def intact(self, slot: Slot) -> bool:
        """Read everything and say whether the slot still holds what was verified. Slow: for the start of the agent."""
        return self._every(slot, self._blobs.seals.reread)

    def trustworthy(self, slot: Slot) -> bool:
        """Say the same before a switch; only what was touched since it was verified is read again."""
        return self._every(slot, self._blobs.seals.holds)

    def _every(self, slot: Slot, holds: Callable[[Path, str], bool]) -> bool:
        folder = self.path(slot)
        release = read_bounded(folder / _RELEASE, _RELEASE_BYTES)
        if release is None or sha256_hex(release) != slot.release_digest:
            return False
        try:
            return all(holds(folder / file.path, file.sha256) for file in _content(release))
        except (OSError, ValueError):
            return False

    def running(self) -> Slot | None:
        """Return the slot the link points to, as far as the disk alone can tell."""
        linked = self.linked()
        if linked is None:
            return None
        name, counter, content_digest = linked
        release = read_bounded(self._state.bundle_dir(name, counter, content_digest) / _RELEASE, _RELEASE_BYTES)
        return None if release is None else Slot(name, sha256_hex(release), content_digest, counter)

    def held(self) -> list[Slot]:
        """Return what stands in either slot, as far as its manifest can be read."""
        found = []
        for path in self._state.slots.glob(f"[ab]/*/{_RELEASE}"):
            release = read_bounded(path, _RELEASE_BYTES)
            counter, _, content = path.parent.name.partition(".")
            if release is not None and counter.isdigit():
                found.append(Slot(path.parent.parent.name, sha256_hex(release), content, int(counter)))
        return found

    def wanted_blobs(self) -> set[str]:
        """Return the digests of every file in either slot, so that going back fetches nothing."""
        wanted: set[str] = set()
        for path in self._state.slots.glob(f"[ab]/*/{_RELEASE}"):
            release = read_bounded(path, _RELEASE_BYTES)
            # A damaged manifest wants nothing; the check at the start has dealt with its slot.
            with contextlib.suppress(OSError, ValueError):
                wanted |= {sha256_hex(release or b""), *(file.sha256 for file in _content(release or b""))}
        return wanted

    def _place(self, file: BundleFile, target: Path) -> None:
        source, seals = self._blobs.path(file.sha256), self._blobs.seals
        if not seals.holds(source, file.sha256):
            source.unlink(missing_ok=True)
            raise OSError(f"blob {file.sha256[:12]} is damaged on the disk; deleted")
        try:
            target.hardlink_to(source)
            seals.put(target, file.sha256)  # a new name is a change of the inode
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            shutil.copyfile(source, target)
            target.chmod(0o444)
            if not seals.reread(target, file.sha256):
                raise OSError(f"the copy of blob {file.sha256[:12]} is not what was copied") from error


def empty(folder: Path) -> None:
    """Delete everything in a slot; its directories are read-only, so they are opened first."""
    folder.mkdir(parents=True, exist_ok=True)
    # Gone in one step: a power cut must not leave half a bundle under a bundle's name.
    for path in sorted(folder.iterdir()):  # what an earlier cut left comes first
        gone = path if path.name.startswith(".") else path.rename(folder / f".gone.{path.name}")
        if gone.is_symlink() or not gone.is_dir():
            gone.unlink()
        else:
            gone.chmod(0o755)
            shutil.rmtree(gone)


def _content(release: bytes) -> tuple[BundleFile, ...]:
    try:
        return ReleaseManifest.model_validate(strict_json(release, _RELEASE_BYTES)).content.files
    except ValidationError as error:
        raise OSError(f"the release manifest in the slot is damaged: {str(error)[:100]}") from error


def _held(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield names and digests of a slot's files."""
    for file in _content(read_bounded(folder / _RELEASE, _RELEASE_BYTES) or b""):
        yield file.path, file.sha256


def _make_durable(folder: Path) -> None:
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    folder.chmod(0o555)
    sync_directory(folder)
