"""One gigabyte through the client, killed half-way: the second upload sends only the parts that are missing."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from control_plane.client import file_digest
from control_plane.kit.embedded import EmbeddedPostgres
from control_plane.migrations.upgrade import upgrade
from tests.support.live import serve
from tests.support.uploads import PART_BYTES, kill_and_resume, make_file

SIZE_BYTES = 1 << 30


def run() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="fl-upload-", ignore_cleanup_errors=True) as folder:
        postgres = EmbeddedPostgres(Path(folder) / "pg")
        try:
            upgrade(postgres.url)
            yield asyncio.run(_prove(postgres.url, Path(folder)))
        finally:
            postgres.stop()


async def _prove(database_url: str, folder: Path) -> dict[str, Any]:
    path = make_file(folder / "recording", SIZE_BYTES)
    parts = SIZE_BYTES // PART_BYTES
    async with serve(database_url, folder / "home") as live:
        seen = await kill_and_resume(live, path, kill_at=parts // 2)
        stored = await live.server.context.objects.stat(seen["sha256"])
    twice = len(set(seen["before"]) & set(seen["after"]))
    right = seen["sha256"] == file_digest(path).sha256 and stored is not None and stored.size == SIZE_BYTES
    return {
        "proof": "an upload of 1 GB whose process is killed half-way goes on where it was",
        "ok": right and seen["killed"] == -9 and twice <= 1,
        "bound": "the second process sends only what is missing; one part, in flight when it died, may go twice",
        "figures": {
            "parts": parts,
            "sent_by_the_killed_process": len(seen["before"]),
            "sent_by_the_second": len(seen["after"]),
            "sent_twice": twice,
            "seconds_of_the_second": seen["seconds"],
        },
    }
