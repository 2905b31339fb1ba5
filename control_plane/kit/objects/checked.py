"""Hashing while bytes go by."""

import hashlib
from collections.abc import AsyncGenerator, AsyncIterable
from pathlib import Path
from typing import BinaryIO

from control_plane.kit.objects.errors import CorruptObjectError
from control_plane.kit.objects.port import CHUNK, Stored, check_size


def stored(data: bytes, sha256: str | None, most: int) -> Stored:
    check_size(len(data), most)
    return expect(Stored(hashlib.sha256(data).hexdigest(), len(data)), sha256)


def expect(found: Stored, sha256: str | None) -> Stored:
    if sha256 is not None and found.sha256 != sha256:
        raise CorruptObjectError(f"these {found.size} bytes have the sha256 {found.sha256}, not {sha256}")
    return found


def digest_file(path: Path, most: int) -> Stored:
    with path.open("rb") as source:
        return _pump(source, None, most)


def copy_file(path: Path, target: BinaryIO, most: int) -> Stored:
    with path.open("rb") as source:
        return _pump(source, target, most)


def _pump(source: BinaryIO, target: BinaryIO | None, most: int) -> Stored:
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        size = check_size(size + len(chunk), most)
        digest.update(chunk)
        if target is not None:
            target.write(chunk)
    return Stored(digest.hexdigest(), size)


async def checked(chunks: AsyncIterable[bytes], sha256: str) -> AsyncGenerator[bytes, None]:
    """Pass chunks on, the last one only once all of them together have this digest."""
    digest, held = hashlib.sha256(), b""
    async for chunk in chunks:
        if held:
            yield held
        digest.update(chunk)
        held = chunk
    if digest.hexdigest() != sha256:
        raise CorruptObjectError(f"the object {sha256} is damaged: its bytes have the sha256 {digest.hexdigest()}")
    if held:
        yield held


async def gather(chunks: AsyncIterable[bytes], most: int) -> bytes:
    data = bytearray()
    async for chunk in chunks:
        check_size(len(data) + len(chunk), most)
        data += chunk
    return bytes(data)


def expect_size(found: Stored, size: int) -> Stored:
    if found.size != size:
        raise CorruptObjectError(f"the object {found.sha256} has {found.size} bytes, {size} were announced")
    return found
