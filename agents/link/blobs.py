"""The content-addressed store of one state directory: a blob that is there is whole and was verified."""

import contextlib
import hashlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agents.sdk.files import sync_directory

_CHUNK: Final = 1 << 20
_SEALS_MAX: Final = 4096


class BlobStore:
    """`sha256/ab/DIGEST` holds verified files, `partial/DIGEST` what is still coming."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seals = Seals()
        self.coming: set[str] = set()
        self._whole, self._partial = root / "sha256", root / "partial"

    def path(self, digest: str) -> Path:
        return self._whole / digest[:2] / digest

    def partial(self, digest: str) -> Path:
        return self._partial / digest

    def has(self, digest: str, size_bytes: int) -> bool:
        try:
            return self.path(digest).stat().st_size == size_bytes
        except OSError:
            return False

    def missing_bytes(self, digest: str, size_bytes: int) -> int:
        """Return what the disk must still take; holes in a partial file are not there yet."""
        if self.has(digest, size_bytes):
            return 0
        try:
            found = self.partial(digest).stat()
        except FileNotFoundError:
            return size_bytes
        return max(0, size_bytes - min(found.st_size, found.st_blocks * 512))

    def prepare(self) -> Path:
        self._partial.mkdir(parents=True, exist_ok=True)
        return self.root

    def keep(self, digest: str) -> Path:
        """Give a verified, fsynced partial file its name; afterwards nobody writes it again."""
        source, target = self.partial(digest), self.path(digest)
        if not target.parent.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            sync_directory(target.parent.parent)
        source.chmod(0o444)
        source.replace(target)
        sync_directory(target.parent)
        self.seals.put(target, digest)
        return target

    def collect(self, wanted: Collection[str]) -> int:
        """Delete every blob and partial file that nobody wants and that is not on its way; return how many went."""
        gone = 0
        for path in list(self._files()):
            if path.name not in wanted and path.name not in self.coming:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _files(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from self._partial.iterdir()
        with contextlib.suppress(FileNotFoundError):
            for folder in self._whole.iterdir():
                yield from folder.iterdir()


@dataclass(frozen=True)
class _Seal:
    """What of an inode changes with every write to it; only root can set the time of its last change."""

    digest: str
    size_bytes: int
    written_ns: int
    changed_ns: int


class Seals:
    """Which files were hashed in this process and have not been touched since: those need not be read again.

    Kept by inode, so that all names of one file share its seal; gone with the process.
    """

    def __init__(self) -> None:
        self._of: dict[tuple[int, int], _Seal] = {}

    def put(self, path: Path, digest: str) -> None:
        """Seal a file whose bytes are known; also again after a hard link or a mode of our own changed its times."""
        found = path.lstat()
        if len(self._of) >= _SEALS_MAX:
            self._of.clear()  # what is not known is read again
        self._of[found.st_dev, found.st_ino] = _Seal(digest, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def unbroken(self, path: Path, digest: str) -> bool | None:
        """Return whether the file is as it was sealed; None if it never was. It reads no content.

        Raises:
            OSError: there is no such file, or it cannot be asked.
        """
        found = path.lstat()
        seal = self._of.get((found.st_dev, found.st_ino))
        return None if seal is None else seal == _Seal(digest, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def holds(self, path: Path, digest: str) -> bool:
        """Return whether the file has this content, read again unless its seal is unbroken. Slow, then.

        Raises:
            OSError: it cannot be read.
        """
        return bool(self.unbroken(path, digest)) or self.reread(path, digest)

    def reread(self, path: Path, digest: str) -> bool:
        """Do as `holds` does, whatever was sealed."""
        before = path.lstat()
        if file_sha256(path) != digest:
            self._of.pop((before.st_dev, before.st_ino), None)
            return False
        after = path.lstat()
        if (after.st_ino, after.st_size, after.st_mtime_ns) != (before.st_ino, before.st_size, before.st_mtime_ns):
            return False  # written to while it was read: what was hashed is not what is there
        self.put(path, digest)
        return True


def file_sha256(path: Path) -> str:
    """Return a file's sha256; call it in a thread, it reads everything. Links are not followed."""
    digest, buffer = hashlib.sha256(), bytearray(_CHUNK)
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(handle, "rb", buffering=0) as file:
        while read := file.readinto(buffer):
            digest.update(memoryview(buffer)[:read])
    return digest.hexdigest()
