"""Files over the client: many at once, into one place, with a real server behind."""

import asyncio
import hashlib
from pathlib import Path

from control_plane.client import Client
from control_plane.kit.roles import Role
from tests.support.live import serve


async def test_many_downloads_of_one_file_do_not_write_into_each_other(database_url: str, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "cache" / "file"
    source.write_bytes(b"x" * (8 << 20))
    async with serve(database_url, tmp_path / "home") as live:
        clients = [live.client(Role.PIPELINE) for _ in range(3)]  # the server shares these threads
        ref = await asyncio.to_thread(clients[0].upload, source)

        def get(client: Client) -> str:
            client.download(ref.sha256, target)
            return hashlib.sha256(target.read_bytes()).hexdigest()

        seen = await asyncio.gather(*(asyncio.to_thread(get, client) for client in clients))
        for client in clients:
            client.close()
    assert set(seen) == {ref.sha256}
    assert [path.name for path in target.parent.iterdir()] == ["file"]
