"""Every device route against strangers, wrong signatures and bodies that are not what they should be."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.device import Device, enrol, event, sign, window
from tests.support.rows import count, select
from tests.support.server import Server

SHA = "a" * 64
ANNOUNCE: dict[str, Any] = {
    "sha256": SHA,
    "size_bytes": 100,
    "trigger": "collision",
    "content_digest": "c" * 64,
    "started_at": "2026-01-01T00:00:00Z",
    "ended_at": "2026-01-01T00:00:10Z",
}
BATCH = {"stream_id": "s1", "windows": [window(0)], "events": [event(1)]}
CHECK_IN = {"boot_id": "b1", "seq": 1, "nonce": "n" * 32, "sent_at": "2026-01-01T00:00:00Z", "agent_version": "1"}
ROUTES = {
    "check-in": ("POST", "check-in", CHECK_IN),
    "telemetry": ("POST", "telemetry", BATCH),
    "recordings": ("POST", "recordings", ANNOUNCE),
    "complete": ("POST", f"recordings/{SHA}/complete", None),
    "blobs": ("GET", f"blobs/sha256/{SHA}", None),
}
WITH_BODY = ("check-in", "telemetry", "recordings")
TABLES = ("telemetry_window", "telemetry_event", "telemetry_recording", "telemetry_stream")


def body_of(route: str) -> tuple[str, str, bytes]:
    method, path, message = ROUTES[route]
    return method, path, b"" if message is None else json.dumps(message).encode()


async def nothing_changed(server: Server, device: Device) -> None:
    for table in TABLES:
        assert await count(server, table) == 0, table
    seen = await select(server, "select last_seq, boots from fleet_device where id = :id", id=device.id)
    assert seen == [{"last_seq": -1, "boots": []}]


@pytest.mark.parametrize("route", ROUTES)
async def test_only_the_enrolled_key_is_heard(server: Server, device: Device, route: str) -> None:
    method, path, body = body_of(route)
    other = await enrol(server)
    attempts: dict[str, Callable[[], Awaitable[Any]]] = {
        "no headers": lambda: server.http.request(method, f"/device/v1/{path}", content=body),
        "unknown device": lambda: device.send(method, path, body, **{"Fleetloop-Device": "dev_nobody"}),
        "another's name": lambda: device.send(method, path, body, **{"Fleetloop-Device": other.id}),
        "another body": lambda: device.send(method, path, body, signed=body + b" "),
        "another route": lambda: device.send(method, path, body, signed_path="/device/v1/elsewhere"),
        "not base64": lambda: device.send(method, path, body, **{"Fleetloop-Signature": "%%%"}),
        "not DER": lambda: device.send(method, path, body, **{"Fleetloop-Signature": "AAAA"}),
        "too long": lambda: device.send(method, path, body, **{"Fleetloop-Signature": "A" * 300}),
        "query added": lambda: device.send(
            method, f"{path}?x=1", body, **{"Fleetloop-Signature": sign(device.key, b"")}
        ),
    }
    for name, attempt in attempts.items():
        answer = await attempt()
        assert answer.status_code == 401, (name, answer.text)
        assert answer.headers["content-type"] == "application/problem+json", name
        assert answer.json()["code"] == "unauthenticated", name
    await nothing_changed(server, device)


@pytest.mark.parametrize("state", ["quarantined", "retired"])
async def test_quarantined_and_retired_devices_are_refused(server: Server, device: Device, state: str) -> None:
    assert (await device.telemetry()).status_code == 200  # this process knows the device now
    patch = {"state": state, "reason": "smoke"}
    await server.ok("PATCH", f"/devices/{device.id}", json=patch)
    for _ in range(100):  # NOTIFY takes the cached identity out
        answer = await device.post("check-in", CHECK_IN)
        if answer.status_code == 403:
            break
        await asyncio.sleep(0.02)
    for route in ROUTES:
        answer = await device.send(*body_of(route))
        assert (answer.status_code, answer.json()["code"]) == (403, f"device_{state}"), route
    await server.ok("PATCH", f"/devices/{device.id}", json={"state": "active", "reason": "looked at"})
    for _ in range(100):
        if (await device.telemetry()).status_code == 200:
            return
        await asyncio.sleep(0.02)
    pytest.fail("a readmitted device stays refused")


async def test_a_check_in_right_after_quarantine_is_refused_whatever_the_cache_says(
    server: Server, device: Device
) -> None:
    await device.check_in()
    cached = dict(server.app.state.identities._known)
    await server.ok("PATCH", f"/devices/{device.id}", json={"state": "quarantined", "reason": "smoke"})
    server.app.state.identities._known.update(cached)
    answer = await device.post("check-in", device.check_in_message())
    assert answer.status_code == 403, answer.text


def deep(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


BROKEN = {
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"a": "\xff"}',
    "a list": b"[]",
    "a number": b"1",
    "null": b"null",
    "two keys": b'{"stream_id":"a","stream_id":"b","boot_id":"a","boot_id":"b","sha256":"a","sha256":"b"}',
    "NaN": b'{"x": NaN}',
    "Infinity": b'{"x": -Infinity}',
    "overflow": b'{"x": 1e999}',
    "long number": b'{"x": ' + b"9" * 5000 + b"}",
    "deep": deep(9_000),
    "wrong types": b'{"stream_id": 7, "boot_id": [], "sha256": {}, "seq": "one", "windows": 3}',
    "nothing of it": b"{}",
}


@pytest.mark.parametrize("route", WITH_BODY)
async def test_a_malformed_body_is_a_422_that_says_why(server: Server, device: Device, route: str) -> None:
    method, path, _ = body_of(route)
    for name, body in BROKEN.items():
        answer = await device.send(method, path, body)
        assert answer.status_code == 422, (name, answer.text)
        assert answer.json()["code"] == "malformed", name
        assert answer.json()["detail"], name
    await nothing_changed(server, device)


@pytest.mark.parametrize("route", WITH_BODY)
async def test_unknown_fields_are_ignored(device: Device, route: str) -> None:
    method, path, body = body_of(route)
    answer = await device.send(method, path, json.dumps(json.loads(body) | {"added_later": {"a": [1]}}).encode())
    assert answer.status_code in (200, 201), answer.text


@pytest.mark.parametrize(("route", "most"), [("check-in", 64 << 10), ("telemetry", 1 << 20), ("recordings", 1 << 20)])
async def test_a_message_over_its_bound_is_413(server: Server, device: Device, route: str, most: int) -> None:
    method, path, body = body_of(route)
    fits = body + b" " * (most - len(body))
    assert (await device.send(method, path, fits)).status_code in (200, 201)
    over = await device.send(method, path, fits + b" ")
    assert (over.status_code, over.json()["code"]) == (413, "too_large")


UNSTORABLE = {
    "NUL": '"\\u0000"',
    "half a surrogate pair": '"\\ud800"',
}


async def test_text_that_postgresql_cannot_hold_is_refused(server: Server, device: Device) -> None:
    messages = {"telemetry": BATCH | {"events": [event(1, details="@")]}, "check-in": CHECK_IN | {"platform": "@"}}
    for route, message in messages.items():
        for name, value in UNSTORABLE.items():
            body = json.dumps(message).replace('"@"', f'{{"a": {value}}}')
            answer = await device.send("POST", route, body.encode())
            assert (answer.status_code, answer.json()["code"]) == (422, "malformed"), (route, name, answer.text)
    await nothing_changed(server, device)
    kept = json.dumps(messages["telemetry"]).replace('"@"', r'{"a": "\\u0000 \u00e9 \ud83d\ude00"}')
    assert (await device.send("POST", "telemetry", kept.encode())).status_code == 200


WILD = {
    "before all time": {"started_at": "0001-01-01T00:00:00+14:00"},
    "after all time": {"ended_at": "9999-12-31T23:59:59-14:00"},
    "no zone": {"started_at": "2026-01-01T00:00:00"},
    "negative": {"distance_m": -1.0},
    "too far": {"distance_m": 1e13},
    "too many": {"decisions": 2**62},
    "seq below": {"seq": -1},
    "seq above": {"seq": 2**53 + 1},
    "kind": {"counts": {"Not A Kind": 1}},
    "digest": {"content_digest": "C" * 64},
}


async def test_a_window_out_of_range_is_refused(server: Server, device: Device) -> None:
    for name, change in WILD.items():
        answer = await device.telemetry(windows=[window(0) | change], events=[event(1)])
        assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), name
    await nothing_changed(server, device)


async def test_a_check_in_out_of_range_is_refused(server: Server, device: Device) -> None:
    changes: list[dict[str, Any]] = [
        {"counter_floor": 2**40},
        {"active": {"release_digest": SHA, "content_digest": SHA, "counter": 2**40}},
        {"seq": 2**60},
        {"nonce": "short"},
        {"sent_at": "2026-01-01T00:00:00"},
        {"deployment": {"release_digest": SHA, "counter": 1, "phase": "flying"}},
    ]
    for change in changes:
        answer = await device.post("check-in", CHECK_IN | change)
        assert answer.status_code == 422, (change, answer.text)
    await nothing_changed(server, device)
