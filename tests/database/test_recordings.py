"""Recordings: announced, put, completed; and everything that may be wrong with them."""

import hashlib
import time
from typing import Any

import pytest

from control_plane.kit import uploads
from control_plane.lineage import service as lineage
from control_plane.lineage.domain import Kind, Node
from control_plane.telemetry.service import recordings as service
from tests.support import mcap
from tests.support.device import CONTENT, Device, enrol, event
from tests.support.registry import register, upload
from tests.support.rows import count, run, select
from tests.support.server import Server

TIMES = {"started_at": "2026-01-01T00:00:00Z", "ended_at": "2026-01-01T00:00:10Z"}


@pytest.fixture(autouse=True)
async def _known_model(server: Server) -> None:
    async with server.context.database.transaction() as session:
        version = Node(Kind.MODEL_VERSION, CONTENT)
        await lineage.link(session, version, [Node(Kind.TRAINING, "t")], "trained by")


def announcement(data: bytes, **changes: Any) -> dict[str, Any]:
    named = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    return {"trigger": "collision", "content_digest": CONTENT} | TIMES | named | changes


async def send_whole(device: Device, data: bytes) -> dict[str, Any]:
    said = announcement(data)
    wanted = (await device.post("recordings", said)).json()
    assert wanted["state"] == "wanted", wanted
    assert (await device.http.put(wanted["upload_url"], content=data)).status_code == 201
    answer = await device.send("POST", f"recordings/{said['sha256']}/complete")
    assert answer.status_code == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


async def test_a_recording_is_stored_once(server: Server, device: Device) -> None:
    data = mcap.recording()
    happened = event(0)
    await device.telemetry(events=[happened])
    said = announcement(data, event_id=happened["event_id"])
    wanted = await device.post("recordings", said)
    assert (wanted.status_code, wanted.json()["state"]) == (201, "wanted")
    early = (await device.send("POST", f"recordings/{said['sha256']}/complete")).json()
    assert early["state"] == "wanted"
    assert (await device.http.put(wanted.json()["upload_url"], content=data)).status_code == 201
    for _ in range(2):
        done = await device.send("POST", f"recordings/{said['sha256']}/complete")
        assert (done.status_code, done.json()["state"]) == (200, "have")
    again = await device.post("recordings", said)
    assert (again.status_code, again.json()["state"]) == (200, "have")
    kept = await server.ok("GET", f"/recordings/{said['sha256']}")
    assert (kept["state"], kept["number"], kept["facts"]["messages"]) == ("stored", 1, 20)
    edges = (await server.ok("GET", f"/lineage/recording/{said['sha256']}"))["edges"]
    assert {edge["source"]["kind"] for edge in edges} >= {"field_event", "device", "model_version"}
    assert await select(server, "select topic from kit_outbox") == [{"topic": "recording.stored"}]


def unsound_files() -> dict[str, bytes]:
    good = mcap.recording(salt="unsound")
    damaged = bytearray(mcap.recording(salt="damaged", chunked=False))
    damaged[12] ^= 0xFF
    many = mcap.chunk(b"", 300 << 20, "")
    return {
        "not MCAP": b"PK\x03\x04" + b"\0" * 100,
        "only magic": mcap.MAGIC,
        "truncated": good[: len(good) // 2],
        "no end": good[:-8],
        "damaged": bytes(damaged),
        "no footer": mcap.MAGIC + mcap.record(0x01, mcap.text("") + mcap.text("t")) + mcap.MAGIC,
        "a bomb that lies": mcap.unsound(mcap.bomb(1000, 64 << 20)),
        "a bomb that says so": mcap.unsound(mcap.bomb(1 << 40, 1 << 20)),
        "a frame that lies": mcap.unsound(mcap.lying_frame(100)),
        "many bombs": mcap.unsound(*[mcap.bomb(8 << 20, 8 << 20)] * 40),
        "empty chunk that lies": mcap.unsound(many),
        "other compression": mcap.unsound(mcap.chunk(b"", 0, "lz4")),
        "records without end": mcap.unsound(mcap.chunk(mcap.record(0x90, b"") * 1_000_001, 9_000_009, "")),
        "a checksum that lies": mcap.unsound(mcap.chunk(b"", 0, "", crc=7)),
        "record past the end": mcap.unsound(b"\x05" + b"\xff" * 8),
    }


async def test_an_unsound_file_is_rejected_and_thrown_away(server: Server, device: Device) -> None:
    for name, data in unsound_files().items():
        begun = time.monotonic()
        reply = await send_whole(device, data)
        assert reply["state"] == "declined", name
        assert reply["reason"], name
        assert time.monotonic() - begun < 10, name
        sha256 = hashlib.sha256(data).hexdigest()
        assert not await server.context.objects.exists(sha256), name
        again = await device.post("recordings", announcement(data))
        assert again.json()["state"] == "declined", name
        once_more = (await device.send("POST", f"recordings/{sha256}/complete")).json()
        assert (once_more["state"], once_more["upload_url"]) == ("declined", None), name
    assert (await server.ok("GET", "/recordings"))["items"] == []
    assert await count(server, "kit_outbox") == 0


async def test_other_bytes_than_announced_are_not_taken(server: Server, device: Device) -> None:
    data = mcap.recording()
    said = announcement(data)
    url = (await device.post("recordings", said)).json()["upload_url"]
    for name, wrong, status in (("longer", data + b"x", 422), ("other", data[:-1] + b"x", 422), ("none", b"", 422)):
        answer = await device.http.put(url, content=wrong)
        assert answer.status_code == status, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", name
        assert not await server.context.objects.exists(said["sha256"]), name
    waiting = (await device.send("POST", f"recordings/{said['sha256']}/complete")).json()
    assert waiting["state"] == "wanted"
    assert list((server.context.settings.home / "objects" / "tmp").iterdir()) == []


async def test_a_wrong_size_never_matches(server: Server, device: Device) -> None:
    data = mcap.recording()
    wanted = (await device.post("recordings", announcement(data, size_bytes=len(data) + 1))).json()
    assert (await device.http.put(wanted["upload_url"], content=data)).status_code == 422
    assert await count(server, "telemetry_recording") == 1
    assert not await server.context.objects.exists(hashlib.sha256(data).hexdigest())


async def test_an_expired_or_tampered_url_is_refused(
    server: Server, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = mcap.recording()
    url = str((await device.post("recordings", announcement(data))).json()["upload_url"])
    other = hashlib.sha256(b"other").hexdigest()
    tampered = {
        "signature": url[:-1] + ("0" if url[-1] != "0" else "1"),
        "no signature": url.partition("&sig=")[0],
        "nothing": url.partition("?")[0],
        "size": url.replace(f"size={len(data)}", f"size={len(data) + 1}"),
        "expiry": url.replace("expires=", "expires=9"),
        "another object": url.replace(announcement(data)["sha256"], other),
        "not a digest": url.replace(announcement(data)["sha256"], "..%2f..%2fetc"),
    }
    for name, bad in tampered.items():
        answer = await device.http.put(bad, content=data)
        assert answer.status_code in (403, 404, 422), (name, answer.text)
    assert (await device.http.get(url.replace("/put/", "/get/"))).status_code == 403
    monkeypatch.setattr(service, "UPLOAD_S", -10)
    later = await server.context.objects.upload_url(announcement(data)["sha256"], len(data), 1)
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + 5)
    late = await device.http.put(later, content=data)
    assert (late.status_code, late.json()["code"]) == (403, "bad_object_url")
    assert not await server.context.objects.exists(announcement(data)["sha256"])


async def test_another_device_cannot_complete_it(server: Server, device: Device) -> None:
    data = mcap.recording()
    url = (await device.post("recordings", announcement(data))).json()["upload_url"]
    await device.http.put(url, content=data)
    other = await enrol(server)
    answer = await other.send("POST", f"recordings/{announcement(data)['sha256']}/complete")
    assert answer.status_code == 404
    for name in ("A" * 64, "a" * 63, "nothing"):
        assert (await device.send("POST", f"recordings/{name}/complete")).status_code == 422


async def test_what_is_declined_is_not_taken_by_another_road(server: Server, device: Device) -> None:
    data = mcap.recording()
    for change in ({"size_bytes": (64 << 20) + 1}, {"content_digest": "d" * 64}):
        said = announcement(data, sha256=hashlib.sha256(str(change).encode()).hexdigest(), **change)
        declined = await device.post("recordings", said)
        assert (declined.status_code, declined.json()["state"]) == (200, "declined")
        done = (await device.send("POST", f"recordings/{said['sha256']}/complete")).json()
        assert (done["state"], done["upload_url"]) == ("declined", None), change


async def test_a_device_has_its_share_and_may_ask_again_later(
    server: Server, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "QUOTA", service.Quota(1 << 20, 2))
    files = [mcap.recording(salt=str(number)) for number in range(3)]
    states = [(await device.post("recordings", announcement(data))).json()["state"] for data in files]
    assert states == ["wanted", "wanted", "declined"]
    await run(server, "update telemetry_recording set announced_at = announced_at - interval '2 hours'")
    assert (await send_whole(device, files[2]))["state"] == "have"


async def test_a_device_cannot_have_a_model_thrown_away(server: Server, device: Device) -> None:
    """It knows digest and size of every file it runs; announcing one as a recording must not delete it."""
    version = await register(server)
    for file in version["content"]["files"]:
        said = announcement(b"", sha256=file["sha256"], size_bytes=file["size_bytes"])
        assert (await device.post("recordings", said)).json()["state"] == "declined"
        await device.send("POST", f"recordings/{file['sha256']}/complete")
        assert await server.context.objects.exists(file["sha256"]), file["path"]


async def test_a_store_that_holds_another_size_is_not_believed(server: Server) -> None:
    ref = await upload(server, b"12345")
    assert await uploads.settle(server.context.objects, ref["sha256"], 4) is None
    assert await uploads.settle(server.context.objects, ref["sha256"], 5) is not None
