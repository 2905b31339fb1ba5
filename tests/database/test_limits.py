"""Over a real socket: bodies too large, too slow or never ending are refused before anything is done with them."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from control_plane.kit.roles import Role
from tests.support.device import enrol, window
from tests.support.live import Live, serve
from tests.support.rows import count

SLOW_S = 0.6


@pytest.fixture
async def live(database_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    async with serve(database_url, tmp_path, max_body_s=SLOW_S) as opened:
        yield opened


@pytest.fixture
async def patient(database_url: str, tmp_path: Path) -> AsyncIterator[Live]:
    """One that waits as long as it does for good: it is bytes that are judged here, not seconds."""
    async with serve(database_url, tmp_path) as opened:
        yield opened


async def talk(live: Live, head: str, *pieces: bytes, pause_s: float = 0.0) -> tuple[int, str]:
    """Send a request byte for byte; return the status and what else was said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(f"{head}\r\nHost: x\r\n\r\n".replace("\n", "\r\n").replace("\r\r", "\r").encode())
    answer = asyncio.create_task(reader.readuntil(b"\r\n\r\n"))
    try:
        for piece in pieces:
            if answer.done():
                break
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
    except ConnectionError:
        pass
    said = (await asyncio.wait_for(answer, 20)).decode()
    writer.close()
    return int(said.split(" ", 2)[1]), said


@pytest.mark.parametrize("path", ["/device/v1/enrol", "/device/v1/check-in", "/device/v1/telemetry", "/api/v1/jobs"])
async def test_a_body_that_drips_is_408(live: Live, path: str) -> None:
    token = f"Authorization: Bearer {live.server.tokens[Role.ADMIN]}\nContent-Type: application/json"
    begun = asyncio.get_running_loop().time()
    status, said = await talk(live, f"POST {path} HTTP/1.1\nContent-Length: 1000\n{token}", *[b" "] * 100, pause_s=0.05)
    assert status == 408, said
    assert asyncio.get_running_loop().time() - begun < SLOW_S + 5


async def test_many_that_drip_do_not_stop_the_others(live: Live) -> None:
    head = f"POST /api/v1/jobs HTTP/1.1\nContent-Length: 1000\nAuthorization: Bearer {live.server.tokens[Role.ADMIN]}"
    drips = [asyncio.create_task(talk(live, head, *[b" "] * 40, pause_s=0.05)) for _ in range(40)]
    await asyncio.sleep(0.1)
    assert (await live.server.call("GET", "/devices")).status_code == 200
    assert {status for status, _ in await asyncio.gather(*drips)} == {408}


async def test_a_body_over_the_bound_is_413_whether_it_says_so_or_not(patient: Live) -> None:
    for path in ("/device/v1/telemetry", "/api/v1/jobs"):
        status, said = await talk(patient, f"POST {path} HTTP/1.1\nContent-Length: 99999999999")
        assert (status, "too_large" in said or "connection: close" in said.lower()) == (413, True)
        chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
        status, said = await talk(patient, f"POST {path} HTTP/1.1\nTransfer-Encoding: chunked", *[chunk] * 40)
        assert status == 413, said


async def test_a_chunked_message_within_the_bound_is_read(live: Live) -> None:
    device = await enrol(live.server)
    body = json.dumps({"stream_id": "s", "windows": [window(0)]}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100):
            yield body[start : start + 100]

    signed = await device.send("POST", "telemetry", body)
    assert signed.json()["accepted"] == 1
    headers = {name: signed.request.headers[name] for name in ("Fleetloop-Device", "Fleetloop-Signature")}
    again = await device.http.post("/device/v1/telemetry", content=pieces(), headers=headers)
    assert (again.status_code, again.json()["duplicates"]) == (200, 1)


async def test_half_an_upload_leaves_nothing(live: Live) -> None:
    data = b"x" * 100_000
    ref = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    url = (await live.server.ok("POST", "/artifacts", json=ref))["upload_url"]
    _, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(f"PUT {url} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data[:50_000])
    await writer.drain()
    await asyncio.sleep(0.2)
    writer.close()
    temporary = live.server.context.settings.home / "objects" / "tmp"
    for _ in range(100):
        if not list(temporary.iterdir()):
            break
        await asyncio.sleep(0.02)
    assert list(temporary.iterdir()) == []
    assert not await live.server.context.objects.exists(ref["sha256"])
    unsaid = await live.server.http.put(url, content=(piece async for piece in _stream(data)))
    assert (unsaid.status_code, unsaid.json()["code"]) == (422, "wrong_size")
    assert (await live.server.http.put(url, content=data)).status_code == 201
    assert (await live.server.http.put(url, content=data)).status_code == 201  # again is harmless


async def _stream(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_connection_that_closes_in_the_middle_changes_nothing(live: Live) -> None:
    device = await enrol(live.server)
    _, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(b'POST /device/v1/telemetry HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"stream_id"')
    await writer.drain()
    writer.close()
    await asyncio.sleep(0.1)
    assert await count(live.server, "telemetry_stream") == 0
    assert (await device.telemetry()).status_code == 200
