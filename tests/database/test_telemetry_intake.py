"""Batches that share a transaction: none spoils another, and two processes take no row twice."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agents.protocol import v1 as wire
from control_plane.fleet.domain import Identity
from control_plane.kit.db import Database
from control_plane.kit.errors import Problem
from control_plane.telemetry import service
from control_plane.telemetry.domain import read_plain
from control_plane.telemetry.service import queue
from tests.support.device import Device, enrol, event, window
from tests.support.rows import count, run, select
from tests.support.server import Server


def identity(server: Server, device: Device) -> Identity:
    """Return a device that this process knows from a request."""
    found: Identity = server.app.state.identities._known[device.id].identity
    return found


def batch(who: Identity, windows: list[dict[str, Any]], stream: str = "s1") -> service.Batch:
    plain = read_plain(json.dumps({"stream_id": stream, "windows": windows}).encode())
    assert plain is not None
    return service.batch_of(who, *plain)


async def test_batches_that_come_together_share_a_transaction(server: Server) -> None:
    devices = [await enrol(server) for _ in range(8)]
    await asyncio.gather(*(device.telemetry() for device in devices))
    answers = await asyncio.gather(*(d.telemetry(windows=[window(n) for n in range(5)]) for d in devices * 3))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["accepted"] for answer in answers) == 40
    assert await count(server, "telemetry_window") == 40
    transactions = await select(server, "select count(distinct xmin::text) as n from telemetry_window")
    assert transactions[0]["n"] < 8
    assert await select(server, "select sum(windows)::int as n from telemetry_cell") == [{"n": 40}]
    assert await select(server, "select sum(windows)::int as n from telemetry_device_sum") == [{"n": 40}]


async def test_one_bad_batch_of_a_group_fails_alone(server: Server) -> None:
    await run(server, "alter table telemetry_event add constraint no_collisions check (kind <> 'collision')")
    devices = [await enrol(server) for _ in range(6)]
    await asyncio.gather(*(device.telemetry() for device in devices))
    answers = await asyncio.gather(
        *(d.telemetry(windows=[window(0)], events=[event(1)] if n == 3 else []) for n, d in enumerate(devices))
    )
    assert [answer.status_code for answer in answers] == [200, 200, 200, 500, 200, 200]
    assert await count(server, "telemetry_window") == 5
    assert await select(server, "select sum(windows)::int as n from telemetry_cell") == [{"n": 5}]


async def test_a_quarantined_device_of_a_group_is_refused_whatever_the_cache_says(server: Server) -> None:
    devices = [await enrol(server) for _ in range(4)]
    await asyncio.gather(*(device.telemetry() for device in devices))
    cached = dict(server.app.state.identities._known)
    await server.ok("PATCH", f"/devices/{devices[1].id}", json={"state": "quarantined", "reason": "smoke"})
    server.app.state.identities._known.update(cached)
    answers = await asyncio.gather(*(device.telemetry(windows=[window(0)]) for device in devices))
    assert [answer.status_code for answer in answers] == [200, 403, 200, 200]
    assert await count(server, "telemetry_window") == 3


async def test_two_processes_that_take_one_stream_at_once_count_each_window_once(
    server: Server, device: Device
) -> None:
    await device.telemetry()
    who = identity(server, device)
    other = Database(str(server.context.settings.database_url))
    intakes = [service.Intake(server.context.database, 60), service.Intake(other, 60)]
    pieces = [[window(seq) for seq in range(10 * n, 10 * n + 15)] for n in range(20)]
    replies = await asyncio.gather(*(i.take(batch(who, windows)) for windows in pieces for i in intakes))
    await other.close()
    kept = await select(server, "select seq from telemetry_window order by seq")
    assert sum(reply.accepted for reply in replies) == len(kept)
    assert len({row["seq"] for row in kept}) == len(kept)
    assert await select(server, "select sum(windows)::int as n from telemetry_cell") == [{"n": len(kept)}]


async def test_two_processes_with_many_streams_in_any_order_do_not_wait_in_a_ring(server: Server) -> None:
    devices = [await enrol(server) for _ in range(6)]
    await asyncio.gather(*(device.telemetry() for device in devices))
    who = [identity(server, device) for device in devices]
    other = Database(str(server.context.settings.database_url))
    intakes = [service.Intake(server.context.database, 60), service.Intake(other, 60)]
    base = datetime.now(UTC) - timedelta(hours=1)
    sent = []
    for seq in range(12):
        order = who if seq % 2 else who[::-1]
        for n, one in enumerate(order):
            times = {"started_at": base.isoformat(), "ended_at": (base + timedelta(minutes=n)).isoformat()}
            sent.append(intakes[(seq + n) % 2].take(batch(one, [window(seq) | times], f"s{seq}")))
    replies = await asyncio.gather(*sent)
    await other.close()
    assert [reply.accepted for reply in replies] == [1] * 72
    assert await select(server, "select sum(windows)::int as n from telemetry_total") == [{"n": 72}]


async def test_a_full_queue_answers_503_and_says_when_to_come_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "WAITING_ITEMS", 20)
    monkeypatch.setattr(queue, "GROUP_ITEMS", 10)
    devices = [await enrol(server) for _ in range(20)]
    await asyncio.gather(*(device.telemetry() for device in devices))
    async with server.context.database.transaction() as session:
        await service.take_batch(session, identity(server, devices[0]), _hold(), 60)
        sending = [asyncio.create_task(d.telemetry(windows=[window(n) for n in range(8)])) for d in devices]
        await asyncio.wait(sending, timeout=3)
        refused = [task.result() for task in sending if task.done()]
        assert {(a.status_code, a.json()["code"], "retry-after" in a.headers) for a in refused} == {(503, "busy", True)}
        assert 0 < len(refused) < 20
    answers = [await task for task in sending]
    taken = sum(answer.status_code == 200 for answer in answers)
    assert taken == 20 - len(refused)
    again = [await device.telemetry(windows=[window(n) for n in range(8)]) for device in devices]
    assert {answer.status_code for answer in again} == {200}
    assert await count(server, "telemetry_window") == 20 * 8 + 1


def _hold() -> wire.TelemetryBatch:
    """A batch of the cell that all others write, so that they wait for its transaction."""
    return wire.TelemetryBatch.model_validate({"stream_id": "held", "windows": [window(0)]})


async def test_whoever_asks_during_a_stop_is_told(server: Server, device: Device) -> None:
    await device.telemetry()
    who = identity(server, device)
    intake = service.Intake(server.context.database, 60)
    async with server.context.database.transaction() as session:
        await service.take_batch(session, who, _hold(), 60)
        waiting = asyncio.create_task(intake.take(batch(who, [window(0)])))
        await asyncio.sleep(0.3)
        for writer in intake._writers:
            writer.cancel()
        with pytest.raises(Problem, match="send it again"):
            await asyncio.wait_for(waiting, 5)
