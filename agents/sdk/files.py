"""Files that appear whole or not at all; nothing else."""

import contextlib
import os
import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes, *, durable: bool, mode: int = 0o644) -> None:
    """Put `data` at `path` in one rename; `durable` makes it survive a power cut before this returns."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        write_new(temporary, data, durable=durable, mode=mode)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # a disk that takes nothing any more: the first failure is the one to tell
            temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def write_new(path: Path, data: bytes, *, durable: bool = False, mode: int = 0o644) -> None:
    """Create a file; the name is not durable before its directory is."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(handle, left) :]
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Make renames and new names in a directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bounded(path: Path, max_bytes: int) -> bytes | None:
    """Return a small file's bytes; None where it is absent, unreadable or too large."""
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError:
        return None
    return data if len(data) <= max_bytes else None
