"""One device's fetching and staging of one bundle in a process of its own: `python -m tests.bench.one_update ...`.

Prints a line of JSON when it begins to fetch, and one with what it took when the bundle stands in its slot.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from agents.link import BlobStore, DeviceClient, DeviceKey, Downloader, DownloadLimits, new_http
from agents.main.agent import Agent
from agents.protocol.v1 import sha256_hex
from agents.sdk import StateDir
from agents.update import Slot, Slots


def say(**values: object) -> None:
    print(json.dumps(values), flush=True)


def memory_mb(name: str) -> float:
    return int(Path("/proc/self/status").read_text().split(f"{name}:")[1].split()[0]) / 1024


async def update(url: str, root: Path, release: bytes, digest: str, size_bytes: int) -> None:
    state = StateDir(root)
    blobs = BlobStore(state.blobs)
    blobs.prepare()
    async with new_http() as http:
        # Nobody judges the signature here, but it is made.
        client = DeviceClient(http, url, DeviceKey(ec.generate_private_key(ec.SECP256R1())), "d-1")
        downloader = Downloader(client, blobs, DownloadLimits(disk_reserve_bytes=0))
        idle_mb, begun_s = memory_mb("VmRSS"), time.perf_counter()
        say(begun=True)
        await downloader.fetch(digest, size_bytes)
        fetched_s = time.perf_counter() - begun_s
        manifest = sha256_hex(release)
        content = json.loads(release)["content_digest"]
        await asyncio.to_thread(Slots(state, blobs).stage, Slot("a", manifest, content, 1), release)
        took_s = time.perf_counter() - begun_s
    say(fetched_s=fetched_s, took_s=took_s, idle_mb=idle_mb, peak_mb=memory_mb("VmHWM"))


def main() -> None:
    url, root, release, digest, size = sys.argv[1:6]
    # What an idle agent has in memory is in memory here too.
    assert Agent is not None
    asyncio.run(update(url, Path(root), Path(release).read_bytes(), digest, int(size)))


if __name__ == "__main__":
    main()
