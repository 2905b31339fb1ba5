"""Telemetry taken in front of the application: right, once, and no way past the rules (ADR 0018)."""

import asyncio
import json
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.link.client import new_traceparent
from control_plane.kit import tracing
from control_plane.telemetry.device_api import QuickTelemetry
from control_plane.telemetry.service import queue
from tests.support.device import event, window
from tests.support.identity import client_context, device_port, enrol_with_certificate, tls_client
from tests.support.quiet import HEADER, Quiet, quiet_device
from tests.support.rows import count, run, select
from tests.support.server import Server, open_server


@pytest.fixture
async def device(server: Server, tmp_path: Path) -> AsyncIterator[Quiet]:
    async with quiet_device(server, tmp_path) as made:
        yield made


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Give what the shortcut said of each request: whether it is answered there."""
    said: list[bool] = []
    real = QuickTelemetry.take

    def take(*given: Any) -> bool:
        said.append(real(*given))
        return said[-1]

    monkeypatch.setattr(QuickTelemetry, "take", take)
    return said


async def send(device: Quiet, body: dict[str, Any] | bytes, certificate: str | None = None) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body, separators=(",", ":")).encode()
    headers = {HEADER: urllib.parse.quote(certificate or device.certificate)}
    return await device.http.post("/device/v1/telemetry", content=content, headers=headers)


def batch(*seqs: int, **more: Any) -> dict[str, Any]:
    return {"stream_id": "s1", "windows": [window(seq, near_miss=1) for seq in seqs]} | more


async def test_a_plain_batch_is_taken_in_front_of_the_application_and_once(device: Quiet, quick: list[bool]) -> None:
    first = await send(device, batch(0, 1, events=[event(2)]))
    again = await send(device, batch(0, 1, 3))
    assert first.json() | {"next_batch_s": 1.0} == {
        "acknowledged_seq": 2,
        "accepted": 3,
        "duplicates": 0,
        "next_batch_s": 1.0,
    }
    assert (again.json()["acknowledged_seq"], again.json()["accepted"], again.json()["duplicates"]) == (3, 1, 2)
    assert first.headers["content-type"] == "application/json"
    assert quick == [True, True]
    assert await count(device.server, "telemetry_window") == 3
    assert await select(device.server, "select sum(windows)::int as n from telemetry_total") == [{"n": 3}]
    assert await count(device.server, "telemetry_event") == 1


@pytest.mark.parametrize("on", [False, True])
async def test_only_what_asks_to_be_traced_leaves_the_short_way_and_only_where_traces_go(
    server: Server, tmp_path: Path, quick: list[bool], monkeypatch: pytest.MonkeyPatch, on: bool
) -> None:
    monkeypatch.setattr(tracing, "is_on", lambda: on)
    taken = []
    async with quiet_device(server, tmp_path) as device:
        for seq, sampled in enumerate((False, True)):
            quick.clear()
            headers = {HEADER: urllib.parse.quote(device.certificate), "traceparent": new_traceparent(sampled=sampled)}
            content = json.dumps(batch(seq), separators=(",", ":")).encode()
            answer = await device.http.post("/device/v1/telemetry", content=content, headers=headers)
            assert answer.json()["acknowledged_seq"] == seq
            taken.append(bool(quick))
    assert taken == [True, not on]


async def test_by_tls_too(device: Quiet, quick: list[bool], tmp_path: Path) -> None:
    context = client_context(device.server, tmp_path, device.device.key, device.certificate)
    async with device_port(device.server) as url, tls_client(url, context) as http:
        answers = [await http.post("/device/v1/telemetry", json=batch(seq)) for seq in range(3)]
    assert [answer.json()["acknowledged_seq"] for answer in answers] == [0, 1, 2]
    assert quick == [True, True, True]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 422, "malformed"),
        (batch(3, 2), 422, "out_of_order"),
        (b'{"stream_id":"s1","stream_id":"s2","windows":[]}', 422, "malformed"),
    ],
)
async def test_what_is_wrong_is_said_by_the_application(
    device: Quiet, quick: list[bool], body: dict[str, Any] | bytes, status: int, code: str
) -> None:
    answer = await send(device, body)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert quick == [False]
    assert await count(device.server, "telemetry_window") == 0


async def test_a_quarantined_device_is_refused_whatever_this_process_remembers(
    device: Quiet, quick: list[bool]
) -> None:
    await send(device, batch(0))
    known = device.server.app.state.identities.known(device.device.id)
    # Behind the notification's back: a trigger that says nothing stands for one that was lost.
    await run(device.server, "alter table fleet_device disable trigger user")
    await run(device.server, "update fleet_device set state = 'quarantined'")
    assert known is device.server.app.state.identities.known(device.device.id)
    answer = await send(device, batch(1))
    assert (answer.status_code, answer.json()["code"]) == (403, "device_quarantined")
    assert quick == [True, True]  # taken in front, then not taken by its row: the application says why
    assert await count(device.server, "telemetry_window") == 1


async def test_nobody_speaks_for_another(device: Quiet, quick: list[bool]) -> None:
    other, certificate = await enrol_with_certificate(device.server, "sn-2")
    await send(device, batch(0), certificate)  # the first time it is judged by the application
    await send(device, batch(0))
    await send(device, batch(0), certificate)
    rows = await select(device.server, "select device_id from telemetry_window order by device_id")
    assert {row["device_id"] for row in rows} == {other.id, device.device.id}
    assert len(rows) == 2
    headers = {HEADER: urllib.parse.quote(certificate), "Fleetloop-Device": device.device.id}
    answer = await device.http.post("/device/v1/telemetry", json=batch(1), headers=headers)
    assert answer.status_code == 401
    assert not quick[-1]


async def test_a_device_has_one_allowance_on_both_ways(database_url: str, tmp_path: Path, quick: list[bool]) -> None:
    async with (
        open_server(database_url, tmp_path, device_rate_per_s=2.0) as server,
        quiet_device(server, tmp_path) as device,
    ):
        answers = [await send(device, batch(seq)) for seq in range(60)]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 429)
    assert {(answer.status_code == 200) for answer in answers} == set(quick)


async def test_when_too_much_waits_it_hears_so(
    device: Quiet, quick: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "WAITING_ITEMS", -1)
    answer = await send(device, batch(0))
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert quick == [False]


async def test_a_batch_that_spoils_a_transaction_is_told_by_the_application(device: Quiet, quick: list[bool]) -> None:
    await run(device.server, "alter table telemetry_event add constraint no_collisions check (kind <> 'collision')")
    answers = await asyncio.gather(send(device, batch(0, events=[event(1)])), send(device, batch(5, stream_id="s2")))
    assert sorted(answer.status_code for answer in answers) == [200, 500]
    assert quick == [True, True]
