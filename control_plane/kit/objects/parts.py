"""What the directory store keeps of an object that arrives in parts, until all are there."""

import asyncio
import shutil
import time
from collections.abc import AsyncGenerator
from pathlib import Path

from control_plane.kit.objects.port import CHUNK, Layout, check_digest

STALE_S = 7 * 86_400


class PartFolder:
    """Parts as files, `parts/DIGEST.PARTSIZE/NUMBER`; one that was cut short has another name and does not count."""

    def __init__(self, root: Path) -> None:
        self._root = root / "parts"

    def path(self, sha256: str, part: int, number: int) -> Path:
        return self._folder(sha256, part) / str(number)

    def there(self, sha256: str, layout: Layout) -> set[int]:
        folder = self._folder(sha256, layout.part)
        found = folder.iterdir() if folder.is_dir() else ()
        return layout.whole((int(path.name), path.stat().st_size) for path in found)

    async def read(self, sha256: str, layout: Layout) -> AsyncGenerator[bytes, None]:
        """Give all bytes in order; raises FileNotFoundError where a part is missing."""
        for number in range(1, layout.count + 1):
            file = await asyncio.to_thread(self.path(sha256, layout.part, number).open, "rb")
            with file:
                while chunk := await asyncio.to_thread(file.read, CHUNK):
                    yield chunk

    def drop(self, sha256: str, layout: Layout) -> None:
        shutil.rmtree(self._folder(sha256, layout.part), ignore_errors=True)

    def sweep(self) -> None:
        """Remove what nobody has added to for a week."""
        for folder in self._root.glob("*"):
            if folder.stat().st_mtime < time.time() - STALE_S:
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, sha256: str, part: int) -> Path:
        return self._root / f"{check_digest(sha256)}.{part}"
