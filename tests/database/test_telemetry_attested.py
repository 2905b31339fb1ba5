"""Exposure counts for what a device has said in a check-in it runs; telemetry that is quicker than that comes again."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.device import CONTENT, Device, event, window
from tests.support.rows import run, select
from tests.support.server import Server

OTHER, THIRD = "d" * 64, "e" * 64


def running(content: str) -> dict[str, Any]:
    return {"release_digest": "a" * 64, "content_digest": content, "counter": 1}


def aged(seq: int, content: str, age_s: float) -> dict[str, Any]:
    at = datetime.now(UTC) - timedelta(seconds=age_s)
    return window(seq, content) | {"started_at": (at - timedelta(seconds=10)).isoformat(), "ended_at": at.isoformat()}


async def kept(server: Server) -> list[tuple[int, bool]]:
    found = await select(server, "select seq, attested from telemetry_window order by seq")
    return [(row["seq"], row["attested"]) for row in found]


async def counted(server: Server) -> dict[str, int]:
    found = await select(server, "select content_digest, sum(windows)::int as n from telemetry_cell group by 1")
    totals = await select(server, "select content_digest, windows::int as n from telemetry_total")
    assert sorted(found, key=str) == sorted(totals, key=str)
    return {row["content_digest"]: row["n"] for row in found}


async def test_telemetry_that_is_quicker_than_the_check_in_comes_again_and_counts(
    server: Server, device: Device
) -> None:
    await device.check_in(active=running(CONTENT))
    batch = {"windows": [window(0), window(2, OTHER), window(3)], "events": [event(1), event(4)]}
    first = (await device.telemetry(**batch)).json()
    assert (first["acknowledged_seq"], first["accepted"], first["duplicates"]) == (1, 2, 0)
    again = (await device.telemetry(**batch)).json()
    assert (again["acknowledged_seq"], again["accepted"], again["duplicates"]) == (1, 0, 2)
    await device.check_in(active=running(OTHER))
    last = (await device.telemetry(**batch)).json()
    assert (last["acknowledged_seq"], last["accepted"], last["duplicates"]) == (4, 3, 2)
    assert await kept(server) == [(0, True), (2, True), (3, True)]
    assert await counted(server) == {CONTENT: 2, OTHER: 1}


async def test_what_no_check_in_confirms_is_kept_and_not_counted(server: Server, device: Device) -> None:
    await device.check_in(active=running(CONTENT))
    reply = (await device.telemetry(windows=[aged(0, OTHER, 121), aged(1, CONTENT, 121)])).json()
    assert (reply["acknowledged_seq"], reply["accepted"]) == (1, 2)
    assert await kept(server) == [(0, False), (1, True)]
    assert await counted(server) == {CONTENT: 1}


async def test_a_clock_far_ahead_does_not_keep_telemetry_waiting_for_ever(server: Server, device: Device) -> None:
    await device.check_in(active=running(CONTENT))
    reply = (await device.telemetry(windows=[aged(0, OTHER, -3600)])).json()
    assert reply["acknowledged_seq"] == 0
    assert await kept(server) == [(0, False)]


async def test_what_a_device_ran_before_counts_however_late_it_comes(server: Server, device: Device) -> None:
    for content in (CONTENT, OTHER, THIRD):
        await device.check_in(active=running(content))
    windows = [aged(0, CONTENT, 5000), aged(1, OTHER, 60), aged(2, THIRD, 1)]
    assert (await device.telemetry(windows=windows)).json()["accepted"] == 3
    assert await counted(server) == {CONTENT: 1, OTHER: 1, THIRD: 1}


async def test_a_device_that_never_said_what_it_runs_is_believed(server: Server, device: Device) -> None:
    await device.check_in()
    assert (await device.telemetry(windows=[window(0, OTHER)])).json()["accepted"] == 1
    assert await kept(server) == [(0, True)]


async def test_saying_the_same_again_writes_nothing(server: Server, device: Device) -> None:
    await device.check_in(active=running(CONTENT))
    said = await select(server, "select xmin::text as x, said_at from telemetry_attested")
    for _ in range(3):
        await device.check_in(active=running(CONTENT))
    await run(server, "update fleet_device set active_content = null")
    await device.check_in(active=running(CONTENT))
    assert await select(server, "select xmin::text as x, said_at from telemetry_attested") == said
