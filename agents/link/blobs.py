"""The content-addressed store of one state directory: a blob that is there is whole and was verified."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from agents.sdk.files import sync_directory

_CHUNK: Final = 1 << 20


class BlobStore:
    """`sha256/ab/DIGEST` holds verified files, `partial/DIGEST` what is still coming."""

    def __init__(self, root: Path) -> None:
        self.root = root
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

    def prepare(self) -> None:
        self._partial.mkdir(parents=True, exist_ok=True)

    def keep(self, digest: str) -> Path:
        """Give a verified, fsynced partial file its name; afterwards nobody writes it again."""
        source, target = self.partial(digest), self.path(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        source.chmod(0o444)
        source.replace(target)
        sync_directory(target.parent)
        return target

    def free_bytes(self) -> int:
        self.prepare()
        return shutil.disk_usage(self.root).free

    def collect(self, wanted: Collection[str]) -> int:
        """Delete every blob and partial file that nobody wants; return how many went."""
        gone = 0
        for path in list(self._files()):
            if path.name not in wanted:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    def _files(self) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from self._partial.iterdir()
        with contextlib.suppress(FileNotFoundError):
            for folder in self._whole.iterdir():
                yield from folder.iterdir()


def file_sha256(path: Path) -> str:
    """Return a file's sha256; call it in a thread, it reads everything."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class Partial:
    """A download in progress: bytes on disk and their running hash, always of the same length."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path, self._size_bytes = path, size_bytes
        self._file = path.open("ab")
        self.received = 0
        self._hash = hashlib.sha256()

    def resume(self) -> int:
        """Hash what an earlier attempt left (it may be torn or altered: only the final digest is believed)."""
        if self._path.stat().st_size > self._size_bytes:
            self.restart()
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self._hash.update(chunk)
                self.received += len(chunk)
        return self.received

    def restart(self) -> None:
        self._file.truncate(0)
        self._hash, self.received = hashlib.sha256(), 0

    def add(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.received += len(data)

    def finish(self) -> str:
        """Make the bytes durable and return their sha256; "" if somebody else wrote to the file meanwhile."""
        self._file.flush()
        os.fsync(self._file.fileno())
        # A thread of a cancelled attempt may have appended late: then file and hash no longer agree.
        size_bytes = os.fstat(self._file.fileno()).st_size
        return self._hash.hexdigest() if size_bytes == self.received else ""

    def close(self) -> None:
        self._file.close()
