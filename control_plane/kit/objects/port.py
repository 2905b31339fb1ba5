"""What every object store can do. Keys are digests, so writing twice is harmless and reading can be checked."""

import re
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from control_plane.kit.objects.errors import InvalidDigestError, InvalidNameError, ObjectTooLargeError

MAX_OBJECT = 5 * 1024**3  # what S3 takes in one signed PUT
MAX_IN_MEMORY = 256 * 1024**2
CHUNK = 1024**2
MOST_PARTS = 10_000  # S3 takes no more

_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.=-]*(/[a-z0-9][a-z0-9_.=-]*)*")
MAX_NAME = 200

Source = Path | AsyncIterable[bytes]


@dataclass(frozen=True, slots=True)
class Stored:
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Listed(Stored):
    """An object in a list; `modified_at` is UTC."""

    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Layout:
    """An object of `size` bytes in parts of `part` bytes; parts count from 1, the last one may be shorter."""

    size: int
    part: int

    def __post_init__(self) -> None:
        check_size(self.size, MAX_OBJECT)
        check_size(self.count, MOST_PARTS)

    @property
    def count(self) -> int:
        return -(-self.size // self.part)

    def start_of(self, number: int) -> int:
        return (number - 1) * self.part

    def size_of(self, number: int) -> int:
        return min(self.part, self.size - self.start_of(number))

    def whole(self, sizes: Iterable[tuple[int, int]]) -> set[int]:
        """Return which of these (number, size) are parts of this object, all of them."""
        return {number for number, size in sizes if 1 <= number <= self.count and size == self.size_of(number)}


class ObjectStore(Protocol):
    """One port, two adapters, one conformance suite (tests/kit/objects)."""

    async def start(self) -> None:
        """Make the place to store things in, if it is not there."""

    async def close(self) -> None: ...

    async def put_bytes(self, data: bytes, sha256: str | None = None) -> Stored:
        """Store bytes; with `sha256`, only if they have that digest (else CorruptObjectError)."""

    async def put_file(self, source: Source, sha256: str | None = None, *, max_size: int = MAX_OBJECT) -> Stored:
        """Store a file or a stream, without ever holding it in memory; nothing is visible before all of it is there."""

    def open(self, sha256: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """Give the bytes from `start` to before `stop`, clipped to the object like a slice.

        A whole read is checked: the last chunk is held back until the digest is right. A range cannot be.
        """

    async def read(self, sha256: str, *, max_size: int = MAX_IN_MEMORY) -> bytes:
        """Give all bytes, checked."""

    async def stat(self, sha256: str) -> Stored | None: ...

    async def exists(self, sha256: str) -> bool: ...

    async def delete(self, sha256: str) -> None:
        """Remove the object; nothing happens when it is not there."""

    async def upload_url(self, sha256: str, size: int, expires_s: int) -> str:
        """Say where anybody may PUT exactly this object; it counts once `accept` has checked it."""

    async def accept(self, sha256: str, size: int) -> Stored:
        """Check what was put to the upload URL and take it in.

        Raises:
            ObjectMissingError: nothing was put there.
            CorruptObjectError: something else was.
        """

    async def parts(self, sha256: str, layout: Layout) -> set[int]:
        """Say which parts of an object are there, from an upload that was begun at any time within a week."""

    async def part_urls(self, sha256: str, layout: Layout, numbers: Sequence[int], expires_s: int) -> list[str]:
        """Say where to PUT these parts."""

    async def join(self, sha256: str, layout: Layout) -> Stored:
        """Make one object of all parts, checked.

        Raises:
            ObjectMissingError: a part is not there.
            CorruptObjectError: they are not this object; all of them are gone.
        """

    async def download_url(self, sha256: str, expires_s: int) -> str: ...

    async def publish(self, name: str, data: bytes) -> bool:
        """Give a name to bytes, once: the first writer gets True and wins, everybody later gets False."""

    async def read_name(self, name: str, *, max_size: int = MAX_IN_MEMORY) -> bytes | None: ...

    def list_names(self, prefix: str = "") -> AsyncGenerator[str, None]:
        """Give the published names that begin with `prefix`, in order."""

    def list_objects(self) -> AsyncGenerator[Listed, None]:
        """Give every object in the order of digests, and when it was put or accepted last."""

    async def set_aside(self, sha256: str) -> None:
        """Take an object out of sight, to be brought back or forgotten; nothing happens when it is not there."""

    def list_aside(self) -> AsyncGenerator[Listed, None]:
        """Give what was set aside, and when."""

    async def bring_back(self, sha256: str) -> None: ...

    async def forget(self, sha256: str) -> None:
        """Delete what was set aside."""


def check_digest(sha256: str) -> str:
    if not _DIGEST.fullmatch(sha256):
        raise InvalidDigestError(f"a sha256 is 64 lower-case hex digits, not {sha256[:80]!r}")
    return sha256


def check_name(name: str) -> str:
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise InvalidNameError(f"a name is lower-case words, digits and ._=- parted by /, not {name[:80]!r}")
    return name


def check_size(size: int, most: int) -> int:
    if size > most:
        raise ObjectTooLargeError(f"the object has {size} bytes or more, at most {most} are taken")
    return size


def object_key(sha256: str) -> str:
    """Give the key of an object, the same in every adapter: sha256/ab/cd/HEX."""
    check_digest(sha256)
    return f"sha256/{sha256[:2]}/{sha256[2:4]}/{sha256}"
