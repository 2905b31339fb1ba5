"""Model download in MB/s: the agent's own downloader from the real API.

Measured: 256 MB through GET /device/v1/blobs/sha256/..., into the agent's blob store: received over HTTP, hashed while
it comes, written, made durable, renamed. `download_resumed` begins with half of it on disk from an earlier attempt, so
the rest comes as a range and what lay there is hashed again. Ceiling: a plain copy of the same file that hashes it on
the way and syncs it. HTTP in Python moves every byte on both sides, and server and agent share these cores, so the
ceiling cannot be reached.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

import asyncpg

from agents.link import BlobStore, DeviceClient, Downloader, new_http
from agents.link.keys import DeviceKey
from control_plane.cli.stack import Stack
from tests.bench.figure import Figure, rate, say
from tests.bench.stage import Device, client_of, enrol, installation

SIZE = 256 << 20
ROUNDS = 3


def _make(path: Path) -> None:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for number in range(SIZE >> 20):
            file.write(number.to_bytes(8, "big") + block[8:])


def copy(source: Path, target: Path) -> float:
    """Return MB/s of reading, hashing, writing and syncing."""
    begun, digest = time.perf_counter(), hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(1 << 20):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    seconds = time.perf_counter() - begun
    target.unlink()
    return SIZE / 1e6 / seconds


async def fetch(stack: Stack, device: Device, digest: str, folder: Path, head: bytes = b"") -> float:
    """Return MB/s of a download, the part that was there already included."""
    blobs = BlobStore(folder)
    blobs.prepare()
    if head:
        blobs.partial(digest).write_bytes(head)
    async with new_http() as http:
        downloader = Downloader(DeviceClient(http, stack.url, DeviceKey(device.key), device.id), blobs)
        begun = time.perf_counter()
        path = await downloader.fetch(digest, SIZE)
        seconds = time.perf_counter() - begun
    path.unlink()
    return SIZE / 1e6 / seconds


async def _publish(stack: Stack, digest: str) -> None:
    """Make the file one that devices may fetch; a real 256 MB version would be the same row."""
    connection = await asyncpg.connect(stack.database_url)
    await connection.execute(
        "insert into registry_artifact (sha256, size_bytes, media_type) values ($1, $2, 'application/octet-stream')",
        digest,
        SIZE,
    )
    await connection.close()


def bench() -> Iterable[Figure]:
    with installation() as stack:
        source, blobs = stack.home / "model.bin", stack.home / "device"
        _make(source)
        digest = client_of(stack, "pipeline").upload(source).sha256
        asyncio.run(_publish(stack, digest))
        device, head = enrol(stack, 1)[0], source.read_bytes()[: SIZE // 2]
        whole, resumed, plain = [], [], []
        for number in range(ROUNDS):
            plain.append(copy(source, stack.home / "copy.bin"))
            whole.append(asyncio.run(fetch(stack, device, digest, blobs)))
            resumed.append(asyncio.run(fetch(stack, device, digest, blobs, head)))
            say(f"download: round {number + 1}: {whole[-1]:.0f} MB/s, plain copy {plain[-1]:.0f} MB/s")
        yield rate("download", whole, plain, "MB/s", "256 MB in one piece")
        yield rate("download_resumed", resumed, plain, "MB/s", "256 MB, half of it there already")
