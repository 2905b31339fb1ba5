"""An upload whose process is killed half-way and begun again, and what went over the wire each time."""

import asyncio
import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_plane.kit.objects import Grant, LocalStore
from control_plane.kit.roles import Role
from tests.support.live import Live

PART_BYTES = 8 << 20
ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from pathlib import Path
from control_plane.client import Client
with Client(sys.argv[1], sys.argv[2], patience_s=5) as client:
    print(client.upload(Path(sys.argv[3])).sha256)
"""


@dataclass
class Wire:
    """Numbers of the parts whose upload began; `on_part` is called with how many that are."""

    store: LocalStore
    begun: list[int] = field(default_factory=list)
    kill_at: int = 0
    victim: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        real = self.store.put_part

        async def put_part(sha256: str, grant: Grant, source: Any) -> None:
            self.begun.append(grant.part[1] if grant.part else 0)
            if self.victim is not None and len(self.begun) == self.kill_at:
                self.victim.kill()
            await real(sha256, grant, source)

        self.store.put_part = put_part  # type: ignore[method-assign] - tests/ listens in


async def upload(live: Live, path: Path) -> asyncio.subprocess.Process:
    words = [sys.executable, "-c", PROGRAM, live.url, live.server.tokens[Role.PIPELINE], str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE, env=environment)


async def kill_and_resume(live: Live, path: Path, kill_at: int) -> dict[str, Any]:
    """Kill an uploading process when its part number `kill_at` begins to arrive, and upload again."""
    store = live.server.context.objects
    assert isinstance(store, LocalStore)
    wire = Wire(store, kill_at=kill_at)
    wire.victim = await upload(live, path)
    killed = await wire.victim.wait()
    before, wire.victim = list(wire.begun), None
    begun = time.monotonic()
    again = await upload(live, path)
    printed = (await again.communicate())[0].decode().strip()
    return {
        "killed": killed,
        "before": before,
        "after": wire.begun[len(before) :],
        "sha256": printed,
        "seconds": round(time.monotonic() - begun, 1),
    }


def make_file(path: Path, size_bytes: int) -> Path:
    """Write a file that does not compress, of this size."""
    rng = random.Random(7)
    with path.open("wb") as file:
        while size_bytes:
            piece = min(size_bytes, PART_BYTES)
            file.write(rng.randbytes(piece))
            size_bytes -= piece
    return path
