"""Uploads in parts over a served control plane: a killed process, parts of another file, one that is there."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.client import Conflict, Invalid, file_digest
from control_plane.kit.roles import Role
from control_plane.registry.schemas import PartsCreate
from tests.support.live import Live, serve
from tests.support.uploads import PART_BYTES, kill_and_resume, make_file


@pytest.fixture
async def live(database_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    async with serve(database_url, tmp_path / "home") as served:
        yield served


async def test_a_killed_upload_sends_only_what_is_missing(live: Live, tmp_path: Path) -> None:
    path = make_file(tmp_path / "big", 64 << 20)
    seen = await kill_and_resume(live, path, kill_at=5)
    assert seen["killed"] == -9
    assert seen["before"] == [1, 2, 3, 4, 5]
    assert seen["after"] in ([5, 6, 7, 8], [6, 7, 8])  # the fifth may have arrived whole before the process was dead
    assert seen["sha256"] == file_digest(path).sha256
    stored = await live.server.context.objects.stat(seen["sha256"])
    assert stored is not None
    assert stored.size == 64 << 20


async def test_a_file_that_is_there_is_not_sent_again(live: Live, tmp_path: Path) -> None:
    path, told = make_file(tmp_path / "file", PART_BYTES + 1), []
    client = live.client(Role.PIPELINE)
    await asyncio.to_thread(client.upload, path)
    await asyncio.to_thread(client.upload, path, told=lambda there, of: told.append((there, of)))
    client.close()
    assert told == [(PART_BYTES + 1, PART_BYTES + 1)]


async def test_joining_too_early_and_joining_something_else(live: Live, tmp_path: Path) -> None:
    client = live.client(Role.PIPELINE)
    body = PartsCreate(size_bytes=6 << 20, part_bytes=5 << 20)
    place = f"/artifacts/{'2' * 64}/parts"
    with pytest.raises(Conflict) as early:
        await asyncio.to_thread(client.request, "POST", f"{place}/join", body=body)
    assert early.value.code == "parts_missing"
    ticket = await asyncio.to_thread(client.request, "POST", place, body=body)
    for part in ticket["parts"]:
        await asyncio.to_thread(client.put_bytes, part["upload_url"], b"x" * part["size_bytes"], {})
    with pytest.raises(Invalid) as wrong:
        await asyncio.to_thread(client.request, "POST", f"{place}/join", body=body)
    assert wrong.value.code == "object_corrupt"
    again = await asyncio.to_thread(client.request, "POST", place, body=body)
    client.close()
    assert again["missing"] == 2
